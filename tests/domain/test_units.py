"""Parts of sessions begin with events that are not theirs, and are judged by their own."""

import numpy as np
import pytest
from builders import units, vocabulary, with_history

from habitus.domain.detectors.conduct import Conduct
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.domain.detectors.summary import summarise
from habitus.domain.units import Units

pytestmark = pytest.mark.plain

WORDS = vocabulary()


def same(one: Units, other: Units) -> bool:
    names = ("offsets", "amounts", "gaps", "context", "scored_from", "closed")
    arrays = [(getattr(one, name), getattr(other, name)) for name in names]
    arrays += [(one.tokens[name], other.tokens[name]) for name in WORDS.field_names]
    return all(np.array_equal(mine, theirs, equal_nan=True) for mine, theirs in arrays)


def test_parts_less_their_history_are_the_events_of_their_own() -> None:
    whole = units(50, 1, WORDS)
    parts = with_history(whole, 2)
    assert parts.scored_from.min() > 0
    assert same(parts.without_history(), whole)
    assert whole.without_history() is whole


def test_counts_and_sums_of_a_part_are_of_its_own_events() -> None:
    whole = units(50, 1, WORDS)
    parts = with_history(whole, 2)
    np.testing.assert_array_equal(summarise(parts, WORDS)[0], summarise(whole, WORDS)[0])
    detector = CountDistanceDetector.fit(units(300, 3, WORDS), WORDS, seed=1)
    np.testing.assert_array_equal(detector.score(parts), detector.score(whole))


def test_conduct_judges_a_parts_own_events_in_the_light_of_those_before() -> None:
    whole = units(50, 1, WORDS)
    parts = with_history(whole, 2)
    conduct = Conduct.fit(units(300, 3, WORDS), WORDS)
    for _, steps, _, _ in conduct.markov.judged(conduct.judging(parts)):
        inside = steps.event[~steps.ends] - parts.offsets[steps.unit[~steps.ends]]
        assert (inside >= parts.scored_from[steps.unit[~steps.ends]]).all()
    np.testing.assert_array_equal(conduct.of(parts.without_history()), conduct.of(whole))
    assert not np.array_equal(conduct.of(parts), conduct.of(whole))
