"""The pace of units."""

from dataclasses import replace

import numpy as np
import pytest
from builders import VIEW, of_actions, units, vocabulary

from habitus.domain.detectors.pace import Pace
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE

pytestmark = pytest.mark.plain

TOKEN = VIEW + FIRST_VALUE


def views(*gaps: float) -> Units:
    """One session that looks at one thing after another."""
    some = of_actions([VIEW] * (len(gaps) + 1))
    return replace(some, gaps=np.array([0, *gaps], dtype=np.float32))


def test_pace_is_told_in_deviations_of_the_logarithm_from_its_mean() -> None:
    # Logarithms 0 and 2: mean 1, deviation 1.
    pace = Pace.fit(views(1, np.exp(2)), TOKEN + 1)

    assert pace.means[TOKEN] == pytest.approx(1)
    assert pace.deviations[TOKEN] == pytest.approx(1)
    assert pace.of(views(1, 1)) == pytest.approx(np.array([[-1, -np.sqrt(2), 0]]), abs=1e-6)
    assert pace.of(views(1, np.exp(2))) == pytest.approx(np.array([[0, 0, 1]]), abs=1e-6)


def test_a_session_of_one_event_has_no_pace() -> None:
    assert np.isnan(Pace.fit(views(1, 2), TOKEN + 1).of(views())).all()


def test_without_any_gap_every_pace_is_usual() -> None:
    pace = Pace.fit(views(), 3)

    assert pace == Pace(means=(0, 0, 0), deviations=(1, 1, 1))


def test_seconds_are_those_between_events_and_grow_by_the_deviations_of_their_logarithms() -> None:
    pace = Pace(means=(0.0,) * TOKEN + (2.0,), deviations=(1.0,) * TOKEN + (0.5,))

    (told,) = pace.seconds(views(4, 16, 8, 8))
    assert told == pytest.approx([8, 0.5, 0.25])
    assert np.isnan(pace.seconds(views())).all()


def test_a_hurried_unit_hurries_most_at_its_shortest_gap_and_a_slow_one_at_its_longest() -> None:
    pace = Pace(means=(0.0,) * TOKEN + (2.0,), deviations=(1.0,) * (TOKEN + 1))

    assert pace.furthest(views(1, 0.5, 4)).tolist() == [2]
    assert pace.furthest(views(50, 5, 90)).tolist() == [3]
    assert pace.furthest(views()).tolist() == [0]


def test_the_gaps_of_history_are_not_the_units_own() -> None:
    pace = Pace(means=(0.0,) * (TOKEN + 1), deviations=(1.0,) * (TOKEN + 1))
    judged_last = replace(views(1, np.exp(3)), scored_from=np.array([2]))

    assert pace.of(judged_last) == pytest.approx(np.array([[3, 3, 0]]), abs=1e-6)


def test_gaps_of_no_time_are_as_short_as_the_shortest() -> None:
    quick = units(100, 1, vocabulary())
    quick = replace(quick, gaps=np.zeros_like(quick.gaps))

    assert np.isfinite(Pace.fit(quick, 9).means).all()
