"""What the behaviour model may see, and its weights."""

from dataclasses import replace

import builders
import numpy as np
import pytest
from domain.models.behaviours import every_body, shape_for, some_units

from habitus.domain.models import behaviour
from habitus.domain.models.batches import batch_of
from habitus.errors import ArtefactError
from habitus.setting_types import BodyName

pytestmark = pytest.mark.train


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


def test_strange_features_do_not_break_the_model() -> None:
    units = some_units().take(np.arange(4))
    shape = shape_for(units)
    batch = batch_of(units, shape)
    context = np.array([[np.nan, np.nan], [np.inf, -np.inf], [1e38, -1e38], [0, 0]], np.float32)
    for logits in behaviour.build(shape, 3)([batch.tokens, context]):
        assert np.isfinite(logits).all()


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
