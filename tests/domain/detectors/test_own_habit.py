"""A unit that is like many users but unlike its own is strange, and says to whom."""

from dataclasses import replace
from functools import cache

import builders
import numpy as np
import pytest

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.rarity import HABIT
from habitus.domain.models import behaviour
from habitus.domain.models.batches import by_length, shuffled
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan, fit
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, MISSING
from habitus.edges.ring import LocalRing
from habitus.errors import TrainingError

pytestmark = pytest.mark.train

SHOES, GARDEN = 0, 2
THRIFTY, LAVISH = 10.0, 60.0  # what the two kinds of users used to pay: for shoes, and for gardens


def of_two_tastes(count: int, seed: int) -> Units:
    """Sessions of users who nine times of ten look at what their kind of user likes."""
    random = np.random.default_rng(seed)
    units = builders.units(count, seed, builders.vocabulary())
    lavish = random.random(count) < 0.5
    context = units.context.copy()
    context[:, 1] = np.where(lavish, LAVISH, THRIFTY)
    usual = random.random(len(units.gaps)) < 0.9
    likes = np.where(lavish[units.unit_of_event] == usual, GARDEN, SHOES) + FIRST_VALUE
    category = np.where(units.tokens["category"] == MISSING, MISSING, likes).astype(np.int32)
    return replace(units, tokens={**units.tokens, "category": category}, context=context)


def in_other_hands(units: Units) -> Units:
    """The same sessions in accounts of the other kind of user."""
    context = units.context.copy()
    context[:, 1] = THRIFTY + LAVISH - context[:, 1]
    return replace(units, context=context)


@cache
def detector(own_habit: bool) -> BehaviourDetector:
    words = builders.vocabulary()
    units, held_out = of_two_tastes(2000, 1), of_two_tastes(500, 2)
    settings = builders.model_settings(hidden=24, embedding=8, own_habit=own_habit)
    shape = BehaviourShape.of(words, settings, units.context)
    model = behaviour.build(shape, 7)
    fit(
        model,
        Plan(seed=7, epochs=6, steps=31, patience=3, learning_rate=0.015),
        lambda epoch: shuffled(iter([units] * 3), 64, 2000, shape, (epoch,)),
        lambda: (batch for _, batch in by_length(held_out, 64, shape)),
        LocalRing(),
    )
    return detector_of(model, shape, words, held_out)


def browsing() -> Units:
    """Sessions in which enough is looked at to tell a taste."""
    units = of_two_tastes(1500, 3)
    looks = np.bincount(units.unit_of_event, units.tokens["category"] != MISSING, len(units))
    return units.take(np.flatnonzero(looks >= 6))


def test_a_session_in_another_kind_of_users_account_comes_out() -> None:
    usual = browsing()

    def share_below(own_habit: bool) -> float:
        asked = detector(own_habit)
        scores = np.sort(asked.score(usual))
        others = asked.score(in_other_hands(usual))
        return float(np.searchsorted(scores, others).mean() / len(scores))

    assert share_below(own_habit=True) > 0.9
    assert share_below(own_habit=True) > share_below(own_habit=False)


def test_what_is_unlike_the_user_is_told_beside_the_users_history() -> None:
    others = in_other_hands(browsing())
    asked = detector(own_habit=True)
    found = asked._surprises(others)
    assert found.less_likely is not None
    leading = asked._fitted().rarities(found)[0].argmax(axis=1)
    unlike = np.flatnonzero(leading == HABIT)
    assert len(unlike) > len(others) / 2
    # How often a session does a thing is told beside what others do.
    explained = [
        [reason for reason in reasons if not reason.field.startswith("number of")]
        for reasons in asked.explain(others.take(unlike), 3)
    ]
    assert {reason.against for reasons in explained for reason in reasons} == {"history"}
    firsts = [reasons[0] for reasons in explained if reasons and reasons[0].field == "category"]
    assert len(firsts) > 0.9 * len(unlike)
    for first in firsts:
        assert {first.observed, first.expected[0][0]} == {"shoes", "garden"}


def test_the_ratio_is_what_the_nats_fall_by_without_the_context() -> None:
    units, asked = browsing(), detector(own_habit=True)
    unknown = replace(units, context=np.full_like(units.context, np.nan))
    less_likely = asked.model.surprises(units).less_likely
    expected = asked.nats(units) - asked.nats(unknown)
    np.testing.assert_allclose(less_likely, expected, atol=1e-3)
    of_unknown = asked.model.surprises(unknown).less_likely
    np.testing.assert_allclose(of_unknown, 0, atol=1e-3)


def test_files_bring_the_habit_back() -> None:
    asked, units = detector(own_habit=True), browsing()
    again = BehaviourDetector.from_files(asked.to_files(), builders.vocabulary())
    np.testing.assert_array_equal(again.score(units), asked.score(units))


def test_a_habit_that_no_feature_tells_is_refused() -> None:
    settings = builders.model_settings(own_habit=True).model_copy(update={"context": ("device_*",)})
    units = of_two_tastes(10, 1)
    with pytest.raises(TrainingError, match=r"no feature for own_habit: context is device_\*"):
        BehaviourShape.of(builders.vocabulary(), settings, units.context)
