"""The behaviour model ranks what does not fit above what does, and says what does not fit."""

from dataclasses import replace
from functools import cache

import builders
import numpy as np
import pytest

from habitus.domain.detectors.base import THE_END, TOO_REGULAR
from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.models import behaviour
from habitus.domain.models.batches import by_length, shuffled
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan, fit
from habitus.domain.scoring import unscorable
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, PADDING
from habitus.edges.ring import LocalRing
from habitus.errors import ArtefactError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.train


@cache
def detector(kind: UnitKind = "session", counts: bool = True) -> BehaviourDetector:
    words = builders.vocabulary(kind)
    units, held_out = builders.units(2000, 1, words), builders.units(500, 2, words)
    settings = builders.model_settings(hidden=24, dropout=0.1, embedding=8, counts=counts)
    shape = BehaviourShape.of(words, settings, units.context)
    model = behaviour.build(shape, 7)
    fit(
        model,
        Plan(seed=7, epochs=8, steps=31, patience=3, learning_rate=0.015),
        lambda epoch: shuffled(iter([units] * 3), 64, 2000, shape, (epoch,)),
        lambda: (batch for _, batch in by_length(held_out, 64, shape)),
        LocalRing(),
    )
    return detector_of(model, shape, words, held_out)


def with_tokens(units: Units, field: str, events: np.ndarray, token: int) -> Units:
    tokens = dict(units.tokens)
    tokens[field] = tokens[field].copy()
    tokens[field][events] = token
    return replace(units, tokens=tokens)


def share_below(odd: Units, kind: UnitKind = "session", counts: bool = True) -> float:
    """The mean share of normal units that score below the odd ones: the AUC."""
    asked = detector(kind, counts)
    normal = np.sort(asked.score(builders.units(1000, 3, builders.vocabulary(kind))))
    return float(np.searchsorted(normal, asked.score(odd)).mean() / len(normal))


def test_a_unit_scores_the_same_alone_and_among_longer_ones() -> None:
    model, some = detector(), builders.units(40, 9, builders.vocabulary())
    alone = [model.score(some.take(np.array([number])))[0] for number in range(len(some))]
    np.testing.assert_allclose(model.score(some), alone, atol=1e-3)


def test_a_unit_of_50_000_events_is_scored_and_explained() -> None:
    long = builders.long_unit(50_000, 9, builders.vocabulary())
    assert unscorable(long).tolist() == [0]
    assert np.isfinite(detector().score(long)).all()
    assert len(detector().explain(long, 5)[0]) == 5


def test_what_is_not_told_is_not_judged() -> None:
    units = builders.units(20, 3, builders.vocabulary())
    untold = with_tokens(units, "gap", np.flatnonzero(units.position > 0), PADDING)
    gap = detector().shape.fields.index("gap")
    assert (detector().model.surprises(untold).judged[:, gap] == 1).all()


def test_card_tests_score_above_normal_sessions() -> None:
    assert share_below(builders.oddities(50, 4, builders.vocabulary())) > 0.99


def test_one_impossible_event_in_a_long_session_comes_out() -> None:
    units = builders.units(800, 5, builders.vocabulary())
    long = units.take(np.flatnonzero(units.lengths >= 15)[:50])
    odd = with_tokens(long, "action", long.offsets[:-1] + 7, builders.LOGIN + FIRST_VALUE)
    assert share_below(odd) > 0.95
    by_order = [share_below(some, counts=False) for some in (odd, long)]
    assert by_order[0] > by_order[1] + 0.3


def test_mild_oddness_all_along_a_session_comes_out() -> None:
    units = builders.units(800, 5, builders.vocabulary())
    long = units.take(np.flatnonzero(units.lengths >= 15)[:50])
    odd = with_tokens(long, "gap", np.flatnonzero(long.position % 2 == 1), FIRST_VALUE + 4)
    assert share_below(odd) > 0.95


def test_a_session_that_breaks_off_is_judged_by_its_missing_end() -> None:
    units = builders.units(300, 6, builders.vocabulary())
    start = units.take(np.flatnonzero(units.lengths >= 6))
    inside = start.position < 3
    cut = replace(
        start,
        offsets=np.arange(len(start) + 1) * 3,
        tokens={name: values[inside] for name, values in start.tokens.items()},
        amounts=start.amounts[inside],
        gaps=start.gaps[inside],
    )
    opened = replace(cut, closed=np.zeros(len(cut), dtype=bool))
    found = detector()
    assert (found.score(cut) > found.score(opened)).mean() > 0.95
    first = found.explain(cut, 1)[0][0]
    assert (first.event_index, first.field, first.observed) == (None, "action", THE_END)


def test_event_units_are_judged_by_their_last_event() -> None:
    words = builders.vocabulary("event")
    units = builders.units(400, 7, words)
    last = units.offsets[1:] - 1
    odd = with_tokens(units, "new_device", last, FIRST_VALUE + 1)
    assert share_below(odd, "event") > 0.95
    reasons = detector("event").explain(odd, 3)
    for unit in range(len(odd)):
        assert {reason.event_index for reason in reasons[unit]} == {odd.lengths[unit] - 1}
    assert all("new_device" in [reason.field for reason in found] for found in reasons)


def test_a_score_does_not_depend_on_the_other_units() -> None:
    units = builders.units(300, 8, builders.vocabulary())
    found = detector()
    whole = found.score(units)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(found.score(units.take(order)), whole[order], atol=1e-4)
    one = units.take(np.array([17]))
    np.testing.assert_allclose(found.score(one), whole[17:18], atol=1e-4)
    assert found.score(units.take(np.zeros(0, dtype=np.int64))).shape == (0,)


@pytest.mark.parametrize("kind", ["session", "event"])
def test_a_vector_does_not_depend_on_the_other_units(kind: UnitKind) -> None:
    units = builders.units(300, 8, builders.vocabulary(kind))
    found = detector(kind)
    whole = found.vectors(units)
    assert whole.shape == (300, found.shape.hidden)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_allclose(found.vectors(units.take(order)), whole[order], atol=1e-4)
    np.testing.assert_allclose(found.vectors(units.take(order[:1])), whole[order[:1]], atol=1e-4)
    assert len(found.vectors(units.take(order[:0]))) == 0


@pytest.mark.parametrize("kind", ["session", "event"])
def test_a_vector_is_of_every_event_the_last_included(kind: UnitKind) -> None:
    units = builders.units(40, 8, builders.vocabulary(kind))
    opened = replace(units, closed=np.zeros(40, dtype=bool))
    other = with_tokens(opened, "action", units.offsets[1:] - 1, builders.PAY + FIRST_VALUE)
    found = detector(kind)
    np.testing.assert_allclose(found.vectors(opened), found.vectors(units), atol=1e-4)
    assert (np.abs(found.vectors(other) - found.vectors(units)).max(axis=1) > 1e-3).all()


def test_units_of_a_kind_are_alike() -> None:
    words = builders.vocabulary()
    odd, normal = builders.oddities(40, 4, words), builders.units(200, 8, words)
    vectors = detector().vectors(builders.together(odd, normal))
    cosines = vectors[:40] @ vectors.T
    np.fill_diagonal(cosines, -1)
    assert (cosines.argmax(axis=1) < 40).mean() > 0.95


def test_long_sessions_are_not_stranger_for_being_long() -> None:
    units = builders.units(3000, 9, builders.vocabulary())
    score = detector().score(units)
    strangest = units.lengths[np.argsort(-score)[:150]]
    assert 0.5 < strangest.mean() / units.lengths.mean() < 2


def test_reasons_name_what_was_seen_and_what_was_likelier() -> None:
    words = builders.vocabulary()
    units = builders.units(50, 10, words)
    login = units.offsets[:-1]  # every session starts with a login
    odd = with_tokens(units, "new_device", login, FIRST_VALUE + 1)
    for reasons in detector().explain(odd, 3):
        device = next(reason for reason in reasons if reason.field == "new_device")
        assert device.event_index == 0
        assert device.observed == "yes"
        assert device.expected[0][0] == "no"
        assert 0.9 < device.expected[0][1] <= 1
        assert 2 < device.surprise < 30
        assert 0 < sum(reason.share for reason in reasons) <= 1 + 1e-6


def test_a_session_that_is_too_regular_comes_out_and_says_so() -> None:
    """Gaps are wild in the chain: always the likeliest one is no person's doing."""
    units = builders.units(2000, 12, builders.vocabulary())
    long = units.take(np.flatnonzero(units.lengths >= 25))
    odd = with_tokens(long, "gap", np.flatnonzero(long.position > 0), FIRST_VALUE + 2)
    assert share_below(odd, counts=False) > share_below(long, counts=False) + 0.1
    found = detector(counts=False).explain(odd, 3)
    regular = [reasons[0] for reasons in found if reasons[0].observed == TOO_REGULAR]
    of_gaps = [reason for reason in regular if reason.field == "gap_pattern"]
    assert of_gaps
    # Each names the event where it shows most; a session's first has no gap.
    assert all(reason.event_index is not None and reason.event_index > 0 for reason in of_gaps)


def test_who_repeats_one_thing_as_the_chain_does_comes_out_by_the_count_and_is_told_so() -> None:
    units = builders.units(3000, 5, builders.vocabulary())
    views = units.tokens["action"] == builders.VIEW + FIRST_VALUE
    number = np.bincount(units.unit_of_event, views, len(units))
    many = units.take(np.argsort(-number)[:10])
    assert share_below(many) > share_below(many, counts=False)
    for reasons in detector().explain(many, 2):
        (told,) = (reason for reason in reasons if reason.field.startswith("number of "))
        assert sum(reason.share for reason in reasons) <= 1 + 1e-6
        assert int(told.observed) > int(told.expected[0][0].split(" to ")[1])


def test_files_bring_back_the_same_detector() -> None:
    words = builders.vocabulary()
    again = BehaviourDetector.from_files(detector().to_files(), words)
    units = builders.units(30, 11, words)
    np.testing.assert_array_equal(again.score(units), detector().score(units))
    assert again.explain(units, 3) == detector().explain(units, 3)
    np.testing.assert_array_equal(again.vectors(units), detector().vectors(units))


@pytest.mark.parametrize("name", ["model.onnx", "behaviour.json", "weights.npz", "whitening.npz"])
@pytest.mark.parametrize("content", [None, b"", b"not what it should be", b"PK\x03\x04"])
def test_a_missing_or_damaged_file_is_named(name: str, content: bytes | None) -> None:
    files = dict(detector().to_files())
    if content is None:
        del files[name]
    else:
        files[name] = content
    with pytest.raises(ArtefactError, match=name):
        BehaviourDetector.from_files(files, builders.vocabulary())


def test_files_of_another_vocabulary_are_refused() -> None:
    words = builders.vocabulary()
    other = words.model_copy(update={"context": ("user_count_1_day",)})
    with pytest.raises(ArtefactError, match=r"feature 1 to be user_amount_mean_7_days, not None"):
        BehaviourDetector.from_files(detector().to_files(), other)
