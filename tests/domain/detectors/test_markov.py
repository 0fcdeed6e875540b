"""The Markov detector on units of a known chain."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import LOGIN, SEARCH, oddities, units, vocabulary
from scipy import stats

from habitus.domain.detectors.markov import MarkovDetector, _figures
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, PADDING
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain


@cache
def fitted(kind: UnitKind) -> MarkovDetector:
    words = vocabulary(kind)
    return MarkovDetector.fit(units(2000, 1, words), words, seed=7)


def with_actions(source: Units, *actions: int) -> Units:
    """The first unit, with its tokens kept where they are and these first actions."""
    one = source.take(np.array([0]))
    tokens = dict(one.tokens)
    tokens["action"] = np.array(actions, dtype=np.int32) + FIRST_VALUE
    return Units(
        offsets=np.array([0, len(actions)]),
        tokens={name: values[: len(actions)] for name, values in tokens.items()},
        amounts=one.amounts[: len(actions)],
        gaps=one.gaps[: len(actions)],
        context=one.context,
        scored_from=one.scored_from,
        closed=one.closed,
    )


@pytest.mark.parametrize("kind", ["session", "event"])
def test_card_tests_are_stranger_than_99_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(2000, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))
    assert odd.min() > np.quantile(normal, 0.99)


def test_a_session_is_not_strange_for_being_long() -> None:
    words = vocabulary()
    fresh = units(3000, 4, words)
    related = stats.spearmanr(fitted("session").score(fresh), fresh.lengths).statistic
    assert abs(related) < 0.3


def test_the_deviation_of_all_fields_is_the_drift_that_the_score_standardises() -> None:
    detector, some = fitted("session"), units(200, 4, vocabulary())
    judged = [
        (steps, excess, detector._ordinary[name][1])
        for name, steps, _, excess in detector.judged(some)
    ]

    drift, peak = _figures(some, judged)

    np.testing.assert_allclose(detector.deviations(some)[:, -1], drift)
    standardised = detector._drift.applied(drift) + detector._peak.applied(peak)
    np.testing.assert_allclose(detector.score(some), standardised)


def test_deviations_add_up_the_excesses_of_each_field() -> None:
    words = vocabulary()
    detector, some = fitted("session"), units(10, 4, words)
    found = detector.deviations(some)

    # Slowly, of one field: its column pair is the second.
    (steps, excess) = next((s, e) for name, s, _, e in detector.judged(some) if name == "category")
    for unit in range(10):
        mine = [float(e) for e, owner in zip(excess, steps.unit, strict=True) if owner == unit]
        spreads = detector._ordinary["category"][1][steps.like[steps.unit == unit]]
        assert found[unit, 2] == pytest.approx(sum(mine) / np.sqrt(spreads.sum()))
        assert found[unit, 3] == pytest.approx(max(mine))


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    words = vocabulary()
    many = units(50, 5, words)
    detector = fitted("session")
    together = detector.score(many)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(detector.score(many.take(order)), together[order])
    alone = [detector.score(many.take(np.array([index])))[0] for index in range(50)]
    np.testing.assert_allclose(alone, together)


def test_what_is_not_told_is_neither_judged_nor_named() -> None:
    words = vocabulary()
    training, fresh = units(500, 1, words), oddities(5, 3, words)
    for told in (training, fresh):
        told.tokens["gap"][told.position > 0] = PADDING
        told.tokens["amount"][:] = PADDING
    found = MarkovDetector.fit(training, words, seed=7)
    found = MarkovDetector.from_files(found.to_files(), words)
    assert np.isfinite(found.score(fresh)).all()
    for reasons in found.explain(fresh, 200):
        assert {reason.event_index for reason in reasons if reason.field == "gap"} <= {0}
        assert not [reason for reason in reasons if reason.field == "amount"]


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))
    assert fitted("session").score(none).shape == (0,)
    assert fitted("session").explain(none, 3) == []


def test_failing_payments_are_given_as_the_reason_with_what_was_expected() -> None:
    reasons = fitted("session").explain(oddities(1, 3, vocabulary()), 60)[0]
    failures = [r for r in reasons if (r.field, r.observed) == ("outcome", "failure")]
    repeats = [r for r in reasons if (r.field, r.observed) == ("action", "pay")]
    assert failures
    assert failures[0].expected[0][0] == "success"
    assert len(repeats) == 12
    assert repeats[-1].expected[0][0] == "logout"
    assert all(0 < reason.share < 1 and reason.surprise > 0 for reason in reasons)
    assert sum(reason.share for reason in reasons) <= 1 + 1e-9
    shares = [reason.share for reason in reasons]
    assert shares == sorted(shares, reverse=True)


def test_surprise_is_in_bits_of_the_probability_and_expected_values_are_likelier() -> None:
    for reason in fitted("session").explain(units(1, 6, vocabulary()), 5)[0]:
        assert all(probability > 2**-reason.surprise for _, probability in reason.expected)
        likely = [probability for _, probability in reason.expected]
        assert likely == sorted(likely, reverse=True)


def test_a_session_that_stops_too_early_has_its_end_as_the_reason() -> None:
    early = with_actions(units(1, 1, vocabulary()), LOGIN, SEARCH)
    first = fitted("session").explain(early, 1)[0][0]
    assert (first.event_index, first.field, first.observed) == (None, "action", "the end")
    assert "view" in [value for value, _ in first.expected]


def test_an_unclosed_session_is_not_judged_by_where_it_stops() -> None:
    early = with_actions(units(1, 1, vocabulary()), LOGIN, SEARCH)
    still_open = Units(**{**early.__dict__, "closed": np.array([False])})
    detector = fitted("session")
    assert detector.score(still_open) < detector.score(early)
    assert all(reason.observed != "the end" for reason in detector.explain(still_open, 9)[0])


def test_only_the_last_event_of_an_event_unit_is_judged() -> None:
    reasons = fitted("event").explain(oddities(5, 3, vocabulary("event")), 100)
    assert {reason.event_index for unit in reasons for reason in unit} == {12}


def test_nats_are_those_of_the_chance_of_every_judged_event_in_its_place() -> None:
    """Of two sessions with one action each, both closed: three counts decide."""
    words = vocabulary().model_copy(update={"fields": vocabulary().fields[:1]})
    one = with_actions(units(1, 1, vocabulary()), LOGIN, SEARCH)
    detector = MarkovDetector.fit(one, words, seed=7)
    # Witten-Bell with one count of one kind at each of the contexts that tell something, of size
    # 0 (three kinds of three events) and 1: p = (1 + 3 / size) / (3 + 3), then p = (1 + p) / 2.
    size = words.fields[0].size
    chance = (1 + (1 + 3 / size) / 6) / 2
    assert detector.nats(one)[0] == pytest.approx(-3 * np.log(chance))
    last = replace(one, scored_from=np.array([1], dtype=np.int32), closed=np.array([False]))
    assert detector.nats(last)[0] == pytest.approx(-np.log(chance))


def test_training_again_gives_the_same_files_byte_for_byte() -> None:
    words = vocabulary()
    files = [MarkovDetector.fit(units(300, 1, words), words, seed).to_files() for seed in (1, 2)]
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["session", "event"])
def test_a_detector_read_from_its_files_scores_and_explains_the_same(kind: UnitKind) -> None:
    words = vocabulary(kind)
    detector = fitted(kind)
    again = MarkovDetector.from_files(detector.to_files(), words)
    some = oddities(3, 3, words)
    np.testing.assert_array_equal(again.score(some), detector.score(some))
    assert again.explain(some, 5) == detector.explain(some, 5)


@pytest.mark.parametrize("name", ["counts.npz", "markov.json"])
@pytest.mark.parametrize("content", [None, b"", b"damaged", b"PK\x03\x04 damaged", b"{}"])
def test_a_missing_or_damaged_file_is_named(name: str, content: bytes | None) -> None:
    files = fitted("session").to_files()
    files.pop(name)
    if content is not None:
        files[name] = content
    with pytest.raises(ArtefactError, match=name):
        MarkovDetector.from_files(files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        MarkovDetector.from_files(fitted("session").to_files(), vocabulary("event"))


def test_nothing_to_count_is_said() -> None:
    words = vocabulary()
    with pytest.raises(TrainingError, match="no training unit"):
        MarkovDetector.fit(units(3, 1, words).take(np.array([], dtype=np.int64)), words, 7)
