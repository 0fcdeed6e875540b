"""The behaviour model learns, stops, goes on after a break, and says when it cannot."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import cache

import builders
import numpy as np
import pytest
from domain.models.behaviours import WORDS, every_body, shape_for, some_units

from habitus.domain.models import behaviour, onnx_export
from habitus.domain.models.batches import Batch, batch_of, by_length, shuffled
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.state import State
from habitus.domain.models.training import Plan, Trainer, fit
from habitus.domain.units import Units
from habitus.edges.ring import LocalRing
from habitus.errors import TrainingError
from habitus.setting_types import BodyName

pytestmark = pytest.mark.train

PLAN = Plan(seed=7, epochs=3, steps=4, patience=2, learning_rate=0.01)


def batches(epoch: int) -> Generator[Batch]:
    units = some_units()

    def parts() -> Iterator[Units]:
        while True:
            yield units

    yield from shuffled(parts(), 64, 256, shape_for(units), (7, epoch))


def validation() -> Iterator[Batch]:
    units = builders.units(100, 2, WORDS)
    return (batch for _, batch in by_length(units, 64, shape_for(units)))


def trained(
    plan: Plan, resume: State | None = None, body: BodyName = "lstm"
) -> tuple[State, list[State]]:
    states: list[State] = []
    model = behaviour.build(shape_for(some_units(), body=body), 7)
    final = fit(model, plan, batches, validation, LocalRing(), resume, states.append)
    return final, states


def test_a_few_steps_lower_the_loss() -> None:
    final, _ = trained(replace(PLAN, epochs=4, steps=12))
    losses = [epoch.validation_loss for epoch in final.history]
    assert losses[-1] < 0.8 * losses[0]
    assert final.history[-1].loss < final.history[0].loss


@cache
def undisturbed(body: BodyName) -> tuple[State, list[State]]:
    return trained(PLAN, body=body)


@every_body
def test_the_same_seed_gives_the_same_weights(body: BodyName) -> None:
    one, other = undisturbed(body)[0], trained(PLAN, body=body)[0]
    for mine, others in zip(one.best, other.best, strict=True):
        np.testing.assert_array_equal(mine, others)


def first_state(body: BodyName = "lstm") -> State:
    model = behaviour.build(shape_for(some_units(), body=body), 7)
    return Trainer(model, PLAN, LocalRing()).state()


@pytest.mark.parametrize("body", ["lstm", "transformer"])
def test_training_goes_on_from_a_stored_state_as_if_nothing_had_happened(body: BodyName) -> None:
    whole, states = undisturbed(body)
    stored = State.from_bytes(states[0].to_bytes(), "state.npz", first_state(body))
    resumed, later = trained(PLAN, stored, body)
    assert [epoch.epoch for epoch in later[-1].history] == [1, 2, 3]
    assert resumed.history == whole.history
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_stops_without_progress_and_keeps_the_best_weights() -> None:
    final, states = trained(replace(PLAN, epochs=30, steps=8, patience=1, learning_rate=0.5))
    assert len(final.history) < 30
    assert len(final.history) == final.best_epoch + 1
    best = states[final.best_epoch - 1].weights
    for one, other in zip(final.best, best, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_is_no_number_stops_training_and_names_the_batch() -> None:
    model = behaviour.build(shape_for(some_units()), 7)
    plan = replace(PLAN, learning_rate=1e38)
    with pytest.raises(
        TrainingError,
        match=r"epoch 1, batch . of 4 \(\d+ units .*nan\. Lower train.learning_rate; .* 1e\+38",
    ):
        fit(model, plan, batches, validation, LocalRing())


def test_a_validation_loss_that_is_no_number_is_no_best_one() -> None:
    states: list[State] = []
    model = behaviour.build(shape_for(some_units()), 7)
    # The loss of the only step is finite; the weights that it leaves are not.
    plan = replace(PLAN, steps=1, learning_rate=1e38)
    with pytest.raises(
        TrainingError, match=r"epoch 1, validation \(\d+ events, seed 7\): the loss is .* Lower"
    ):
        fit(model, plan, batches, validation, LocalRing(), on_epoch=states.append)
    assert not states


def test_history_is_read_but_not_judged() -> None:
    """What a unit's history holds counts only through what it makes of the judged event."""
    words = builders.vocabulary("event")
    units = builders.units(50, 3, words)
    shape = shape_for(units, "event", dropout=0.0)
    batch = batch_of(units, shape)
    trainer = Trainer(behaviour.build(shape, 1), PLAN, LocalRing())
    nats, count = trainer._judge(batch.tokens, batch.context, batch.judged).numpy()
    assert count == 50
    by_hand = 0.0
    outputs = trainer.model([batch.tokens, batch.context])
    for index, logits in enumerate(outputs):
        logs = np.asarray(logits) - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for unit, last in enumerate(units.lengths - 1):
            by_hand -= logs[unit, last, batch.tokens[unit, last, index]]
    assert nats == pytest.approx(by_hand, rel=1e-4)


@every_body
def test_a_single_field_is_trained_and_exported_like_several(body: BodyName) -> None:
    words = WORDS.model_copy(update={"fields": WORDS.fields[:1]})
    settings = builders.model_settings(body=body)
    units = some_units()
    shape = BehaviourShape.of(words, settings, units.context)
    model = behaviour.build(shape, 3)

    def parts() -> Iterator[Units]:
        while True:
            yield units

    final = fit(
        model,
        replace(PLAN, steps=12),
        lambda epoch: shuffled(parts(), 64, 256, shape, (epoch,)),
        lambda: (batch for _, batch in by_length(units, 64, shape)),
        LocalRing(),
    )
    losses = [epoch.validation_loss for epoch in final.history]
    assert losses[-1] < losses[0]
    detector = onnx_export.detector_of(model, shape, words, units)
    judged = units.lengths.sum() + len(units)
    assert detector.nats(units).sum() / judged == pytest.approx(min(losses), abs=1e-4)
