"""The behaviour model learns, stops, goes on after a break, and says when it cannot."""

from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import cache
from typing import get_args

import builders
import keras
import numpy as np
import onnxruntime
import pytest

from habitus.domain.models import behaviour, onnx_export
from habitus.domain.models.batches import Batch, batch_of, by_length, shuffled
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.state import State
from habitus.domain.models.training import Plan, Trainer, fit
from habitus.domain.units import Units
from habitus.edges.ring import LocalRing
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import BodyName, UnitKind

pytestmark = pytest.mark.train

WORDS = builders.vocabulary()
PLAN = Plan(seed=7, epochs=3, steps=4, patience=2, learning_rate=0.01)
every_body = pytest.mark.parametrize("body", get_args(BodyName))


@cache
def some_units() -> Units:
    return builders.units(256, 1, WORDS)


def shape_for(
    units: Units,
    kind: UnitKind = "session",
    dropout: float = 0.2,
    body: BodyName = "lstm",
    tied_embeddings: bool = False,
) -> BehaviourShape:
    settings = builders.model_settings(dropout=dropout, body=body, tied_embeddings=tied_embeddings)
    return BehaviourShape.of(builders.vocabulary(kind), settings, units.context)


def batches(epoch: int) -> Generator[Batch]:
    units = some_units()

    def parts() -> Iterator[Units]:
        while True:
            yield units

    yield from shuffled(parts(), 64, 256, shape_for(units), (7, epoch))


def validation() -> Iterator[Batch]:
    units = builders.units(100, 2, WORDS)
    return (batch for _, batch in by_length(units, 64, shape_for(units)))


def grown(model: keras.Model) -> keras.Model:
    """The same with weights that nobody could leave out: none is 0 or 1, as at first."""
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable) + random.normal(0, 0.1, variable.shape))
    return model


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
def test_no_event_sees_itself_or_the_future(body: BodyName) -> None:
    units = some_units().take(np.arange(8))
    shape = shape_for(units, dropout=0.0, body=body)
    model = behaviour.build(shape, 3)
    batch = batch_of(units, shape)
    changed = batch.tokens.copy()
    changed[:, 2:, :] = np.maximum(changed[:, 2:, :] - 1, 1)
    before = model([batch.tokens, batch.context])
    after = model([changed, batch.context])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one[:, :2], other[:, :2], atol=1e-6)
    np.testing.assert_allclose(before[0][:, 2], after[0][:, 2], atol=1e-6)
    assert not np.allclose(before[1][:, 2], after[1][:, 2])  # judged given the event's own action
    assert not np.allclose(before[0][:, 3], after[0][:, 3])  # the next one sees it


def test_in_bfloat16_attention_sees_no_future_of_a_long_unit_either() -> None:
    units = builders.of_actions([builders.VIEW, builders.PAY] * 300)
    units = replace(units, context=np.zeros((1, 2), dtype=np.float32))
    shape = shape_for(units, dropout=0.0, body="transformer")
    model = behaviour.build(shape, 3, "mixed_bfloat16")
    batch = batch_of(units, shape)
    changed = batch.tokens.copy()
    changed[:, 500:, :] = np.maximum(changed[:, 500:, :] - 1, 1)

    before = model([batch.tokens, batch.context])
    after = model([changed, batch.context])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.asarray(one[:, :500]), np.asarray(other[:, :500]))
    assert not np.array_equal(np.asarray(before[0][:, 501:]), np.asarray(after[0][:, 501:]))


@every_body
def test_amounts_of_small_coins_are_exported_as_they_were_learned(body: BodyName) -> None:
    units = some_units()
    random = np.random.default_rng(1)
    context = (2e-5 * random.lognormal(0, 0.5, units.context.shape)).astype(np.float32)
    units = replace(units, context=context)
    shape = shape_for(units, body=body)

    onnx_export.export(grown(behaviour.build(shape, 5)), shape, batch_of(units, shape))


@every_body
def test_a_unit_is_judged_alike_alone_and_padded_beside_a_long_one(body: BodyName) -> None:
    units = some_units().take(np.argsort(some_units().lengths)[[0, -1]])
    shape = shape_for(units, body=body)
    model = behaviour.build(shape, 3)
    together, alone = (batch_of(some, shape) for some in (units, units.take(np.array([0]))))
    length = alone.tokens.shape[1]
    assert together.tokens.shape[1] >= 3 * length
    padded = model([together.tokens, together.context])
    for one, other in zip(model([alone.tokens, alone.context]), padded, strict=True):
        np.testing.assert_allclose(one[0], other[0, :length], atol=1e-5)


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


def test_strange_features_do_not_break_the_model() -> None:
    units = some_units().take(np.arange(4))
    shape = shape_for(units)
    batch = batch_of(units, shape)
    context = np.array([[np.nan, np.nan], [np.inf, -np.inf], [1e38, -1e38], [0, 0]], np.float32)
    for logits in behaviour.build(shape, 3)([batch.tokens, context]):
        assert np.isfinite(logits).all()


@every_body
@pytest.mark.parametrize(("kind", "tied"), [("session", False), ("event", True)])
def test_onnx_says_what_keras_says(kind: UnitKind, tied: bool, body: BodyName) -> None:
    units = builders.units(40, 5, builders.vocabulary(kind))
    units.context[:3] = [[np.nan, 1], [np.inf, -5], [1e30, np.nan]]
    shape = shape_for(units, kind, body=body, tied_embeddings=tied)
    model = grown(behaviour.build(shape, 5))
    batch = batch_of(units, shape)
    content = onnx_export.export(model, shape, batch)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = dict(
        zip(
            names,
            session.run(None, {"tokens": batch.tokens, "context": batch.context}),
            strict=True,
        )
    )
    places = (*batch.judged.shape, -1)
    chances = np.split(found["log_probabilities"], np.cumsum(shape.predicted)[:-1], axis=1)
    for index, logits in enumerate(model([batch.tokens, batch.context])):
        logits = np.asarray(logits, dtype=np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        shares = np.exp(logs)
        observed = np.take_along_axis(logs, batch.tokens[:, :, index, None], axis=-1)
        there = batch.tokens[:, :, index] > 0
        entropy = -(shares * logs).sum(axis=-1)
        expected = {
            "surprise": -observed[..., 0],
            "entropy": entropy,
            "variance": (shares * logs**2).sum(axis=-1) - entropy**2,
        }
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name].reshape(places)[:, :, index],
                np.where(there, values, 0),
                atol=1e-4,
                err_msg=name,
            )
        np.testing.assert_allclose(chances[index].reshape(places), logs, atol=1e-4)


@every_body
def test_a_unit_far_longer_than_any_trained_on_is_exported_like_the_others(body: BodyName) -> None:
    shape = shape_for(some_units(), body=body)
    tokens = np.random.default_rng(1).integers(1, min(shape.sizes), (1, 700, 6), dtype=np.int32)
    batch = Batch(tokens, np.zeros((1, 2), dtype=np.float32), np.ones((1, 700), dtype=bool))
    assert onnx_export.export(grown(behaviour.build(shape, 5)), shape, batch)


def test_an_export_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    units = some_units().take(np.arange(4))
    shape = shape_for(units)
    model = behaviour.build(shape, 5)
    monkeypatch.setattr(
        onnx_export,
        "weights_of",
        lambda model: {name: value * 1.01 for name, value in behaviour.weights_of(model).items()},
    )
    with pytest.raises(TrainingError, match=r"model.onnx: differs .* nats"):
        onnx_export.export(model, shape, batch_of(units, shape))


@every_body
def test_all_weights_come_back_into_a_fresh_model(body: BodyName) -> None:
    shape = shape_for(some_units(), body=body)
    one, other = behaviour.build(shape, 1), behaviour.build(shape, 2)
    weights = behaviour.weights_of(one)
    assert len(weights) == len(one.trainable_variables)  # no two of the same name
    behaviour.set_weights(other, weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, behaviour.weights_of(other)[name])


def test_weights_of_another_shape_are_refused() -> None:
    other = behaviour.build(shape_for(some_units()), 2)
    weights = behaviour.weights_of(other)
    weights["lstm/kernel"] = weights["lstm/kernel"][:-1]
    with pytest.raises(ArtefactError, match="lstm/kernel has the shape"):
        behaviour.set_weights(other, weights)
    del weights["lstm/kernel"]
    with pytest.raises(ArtefactError, match="lstm/kernel is missing"):
        behaviour.set_weights(other, weights)
