"""The detector of units whose conduct departs from the usual, in order or pace."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import VIEW, oddities, of_actions, units, vocabulary

from habitus.domain.detectors.base import TOO_REGULAR, Reason
from habitus.domain.detectors.conduct_forest import ConductDetector, _strongest_first
from habitus.domain.detectors.pace import Pace
from habitus.domain.models.batches import joined
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]


@cache
def fitted(kind: UnitKind = "session", seed: int = 7) -> ConductDetector:
    words = vocabulary(kind)
    return ConductDetector.fit(units(1500, 1, words), words, seed=seed)


def told_of(field: str, unit: Units, count: int) -> list[Reason]:
    """The first reason of this field, of each of five forests that has it among so many."""
    reasons = [fitted(seed=seed).explain(unit, count)[0] for seed in range(1, 6)]
    found = [[one for one in of_forest if one.field == field] for of_forest in reasons]
    return [of_field[0] for of_field in found if of_field]


def paced(some: Units, seconds: float) -> Units:
    """The same units, with as many seconds between all events."""
    return replace(some, gaps=np.full_like(some.gaps, seconds))


def browsing(length: int) -> Units:
    """A session that views one thing after another, each a success in the same category."""
    some = of_actions([VIEW] * length)
    tokens = {name: np.full(length, FIRST_VALUE, dtype=np.int32) for name in some.tokens}
    tokens["gap"][:] = FIRST_VALUE + 2
    return paced(replace(some, tokens=tokens), 10)


@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_stranger_than_99_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(1500, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))
    assert np.median(odd) > np.quantile(normal, 0.99)


def test_units_are_no_stranger_when_they_are_new_than_in_training() -> None:
    words = vocabulary()
    trained, new = (fitted().score(units(1500, seed, words)) for seed in (1, 9))
    assert abs(trained.mean() - new.mean()) < 0.2 * new.std()


def test_a_session_that_hurries_is_stranger_than_the_same_at_leisure() -> None:
    some = units(200, 4, vocabulary())
    some = some.take(np.flatnonzero(some.lengths > 4))
    assert (fitted().score(paced(some, 0.1)) > fitted().score(paced(some, 12))).mean() > 0.95


def test_what_hurries_is_told_by_the_seconds_between_its_events() -> None:
    some = units(50, 4, vocabulary())
    hurried = paced(some.take(np.flatnonzero(some.lengths > 6)[:1]), 0.1)
    (reasons,) = fitted().explain(hurried, 50)
    pace = next(reason for reason in reasons if reason.field == "mean gap")
    assert pace.observed == "0.1 s"
    assert pace.event_index is not None
    ((usual, probability),) = pace.expected
    low, high = (float(end.removesuffix(" s")) for end in usual.split(" to "))
    assert 0.1 < low < high
    assert probability == 0.8


def test_a_pace_that_one_gap_may_have_but_not_all_of_many_is_told_beside_what_many_have() -> None:
    # Of the chain's gaps one in ten is longer than 34 s, but the mean of many is near 12.
    told = told_of("mean gap", paced(browsing(60), 30), 50)
    assert len(told) >= 3  # some forests tell that all gaps are the same
    for pace in told:
        assert pace.observed == "30 s"
        ((usual, _),) = pace.expected
        low, high = (float(end.removesuffix(" s")) for end in usual.split(" to "))
        assert 5 < low < 12.2 < high < 20


def test_card_tests_are_told_by_their_failing_payments() -> None:
    (reasons,) = fitted().explain(oddities(1, 3, vocabulary()), 50)
    told = {(reason.field, reason.observed) for reason in reasons}
    assert {("outcome", "failure"), ("new_device", "yes")} <= told
    assert sum(reason.share for reason in reasons) <= 1 + 1e-6


def test_who_views_ten_times_as_much_as_anybody_is_told_by_the_number_of_views() -> None:
    several = told_of("number of view", browsing(200), 10)
    assert len(several) >= 4
    for told in several:
        assert (told.observed, told.event_index, told.against) == ("200", 100, "peers")
        assert told.surprise > 10
    (shorter, longer) = (fitted().score(browsing(length))[0] for length in (5, 200))
    assert longer > shorter


def reason(event: int | None, share: float, field: str = "action") -> Reason:
    return Reason(event, field, "pay", (), 1.0, share, "sequence")


def test_what_is_strange_in_several_ways_comes_before_what_is_more_so_in_one() -> None:
    one, two, other = reason(1, 0.4), reason(9, 0.35), reason(9, 0.25)
    assert _strongest_first([one, two, other], "session") == [two, one, other]
    # What is about no event is about nothing in common.
    parts = [reason(None, 0.35), reason(None, 0.25)]
    assert _strongest_first([*parts, one], "session") == [one, *parts]
    assert _strongest_first([], "session") == []


def test_an_event_beside_strange_ones_comes_before_a_stranger_one_that_stands_alone() -> None:
    alone, first, second = reason(20, 0.28), reason(3, 0.25), reason(5, 0.25)
    assert _strongest_first([alone, first, second], "session") == [first, second, alone]
    further = reason(6, 0.25)
    assert _strongest_first([alone, first, further], "session") == [alone, first, further]


def test_the_first_reasons_name_another_event_before_one_that_is_named_says_more() -> None:
    first, again, other = reason(1, 0.5), reason(1, 0.3), reason(9, 0.3)
    assert _strongest_first([first, again, other], "session") == [first, other, again]
    # What is far stronger stays before it, whatever event it is at.
    weak = reason(9, 0.1)
    assert _strongest_first([first, again, weak], "session") == [first, again, weak]


def test_a_sessions_hour_comes_after_what_was_done() -> None:
    hour, pay = reason(0, 0.3, "hour"), reason(7, 0.2)
    assert _strongest_first([hour, pay], "session") == [pay, hour]
    # An event unit's hour is its own.
    assert _strongest_first([hour, pay], "event") == [hour, pay]


def test_what_goes_too_regularly_is_told_so_at_an_event() -> None:
    long = browsing(40)
    (reasons,) = fitted().explain(long, 50)
    regular = [reason for reason in reasons if reason.observed == TOO_REGULAR]
    assert "category_pattern" in {reason.field for reason in regular}
    assert all(
        reason.event_index is not None and 0 <= reason.event_index < 40 and reason.surprise > 0
        for reason in regular
    )


def test_sessions_of_one_event_have_scores_and_reasons_without_a_pace() -> None:
    singles = [browsing(1), *(browsing(length) for length in (2, 5))]
    some = joined(singles)
    assert np.isfinite(fitted().score(some)).all()
    first, *_ = fitted().explain(some, 50)
    assert "mean gap" not in {reason.field for reason in first}


def test_where_every_session_has_one_event_conduct_is_that_of_these() -> None:
    many = joined([browsing(1)] * 40)
    detector = ConductDetector.fit(many, vocabulary(), seed=7)
    one, card_test = joined([browsing(1)]), oddities(1, 3, vocabulary())
    assert detector.score(card_test)[0] > detector.score(one)[0]
    assert all(np.isfinite(reason.surprise) for reason in detector.explain(card_test, 5)[0])


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 5, vocabulary())
    alone = [fitted().score(many.take(np.array([index])))[0] for index in range(30)]
    np.testing.assert_allclose(alone, fitted().score(many), rtol=1e-6)


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))
    assert fitted().score(none).shape == (0,)
    assert fitted().explain(none, 3) == []


def test_the_same_seed_gives_the_same_detector() -> None:
    words = vocabulary()
    one, two, other = (
        ConductDetector.fit(units(200, 1, words), words, seed).to_files() for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other


def test_one_unit_is_too_few() -> None:
    words = vocabulary()
    with pytest.raises(TrainingError, match="1 training units, fewer than 5"):
        ConductDetector.fit(units(1, 1, words), words, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(kind: UnitKind) -> None:
    words = vocabulary(kind)
    again = ConductDetector.from_files(fitted(kind).to_files(), words)
    some = oddities(5, 6, words)
    np.testing.assert_array_equal(again.score(some), fitted(kind).score(some))
    assert again.explain(some, 4) == fitted(kind).explain(some, 4)


@pytest.mark.parametrize("name", ["forest.onnx", "isolation_forest.json", "pace.json"])
def test_a_missing_file_is_named(name: str) -> None:
    files = fitted().to_files()
    del files[name]
    with pytest.raises(ArtefactError, match=name):
        ConductDetector.from_files(files, vocabulary())


def test_a_pace_of_other_actions_is_refused() -> None:
    short = Pace(means=(0.0,), deviations=(1.0,)).model_dump_json().encode()
    with pytest.raises(ArtefactError, match="not every of 9 actions"):
        ConductDetector.from_files(fitted().to_files() | {"pace.json": short}, vocabulary())
