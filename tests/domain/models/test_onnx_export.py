"""Exported, the behaviour model says what Keras says."""

from dataclasses import replace

import builders
import keras
import numpy as np
import onnxruntime
import pytest
from domain.models.behaviours import every_body, shape_for, some_units

from habitus.domain.models import behaviour, onnx_export
from habitus.domain.models.batches import Batch, batch_of
from habitus.errors import TrainingError
from habitus.setting_types import BodyName, UnitKind

pytestmark = pytest.mark.train


def grown(model: keras.Model) -> keras.Model:
    """The same with weights that nobody could leave out: none is 0 or 1, as at first."""
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable) + random.normal(0, 0.1, variable.shape))
    return model


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
def test_amounts_of_small_coins_are_exported_as_they_were_learned(body: BodyName) -> None:
    units = some_units()
    random = np.random.default_rng(1)
    context = (2e-5 * random.lognormal(0, 0.5, units.context.shape)).astype(np.float32)
    units = replace(units, context=context)
    shape = shape_for(units, body=body)

    onnx_export.export(grown(behaviour.build(shape, 5)), shape, batch_of(units, shape))


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
