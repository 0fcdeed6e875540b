"""The behaviour language model in Keras: how likely is each field of each event, given the past.

A body reads the events before; from its state the action of the next event is predicted, and from
its state and the action that did happen every other field, so that an outcome is judged given the
action it is the outcome of. By the chain rule the log-probabilities of an event's action and of its
other fields given the action add up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from habitus.domain.models.bodies import BODIES
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.errors import ArtefactError
from habitus.setting_types import PrecisionName

CONTEXT_WIDTH = 16
CLIP = 1.0  # largest global norm of a step's gradient, while the model or its body learns
SPREAD = 10.0  # standardised features beyond this are as good as at it; keeps infinities out


def build(shape: BehaviourShape, seed: int, precision: PrecisionName = "float32") -> keras.Model:
    """A model with fresh weights, which are float32 whatever it computes in.

    It maps tokens [B, T, F] int32 and context [B, C] float32 to a list of logits, one per field:
    [B, T, V + 1] for the action (the last one is the unit's end), [B, T, V] for the others.
    Token 0, which only pads, stands for the beginning where a previous event is meant.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return _built(shape, seed)
    finally:
        keras.config.set_dtype_policy(before)


def _built(shape: BehaviourShape, seed: int) -> keras.Model:
    def weights(offset: int) -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=seed * 1000 + offset)

    tokens = keras.Input((None, len(shape.fields)), dtype="int32", name="tokens")
    context = keras.Input((shape.features,), dtype="float32", name="context")
    before = ops.pad(tokens, [[0, 0], [1, 0], [0, 0]])[:, :-1]
    tables = [
        keras.layers.ReversibleEmbedding(
            size,
            width,
            embeddings_initializer=keras.initializers.RandomUniform(seed=seed * 1000 + index),
            name=f"embedding_{field}",
        )
        for index, (field, size, width) in enumerate(
            zip(shape.fields, shape.predicted, shape.embeddings, strict=True)
        )
    ]
    read = [table(before[:, :, index]) for index, table in enumerate(tables)]
    if shape.features:
        habit = keras.layers.Dense(
            CONTEXT_WIDTH, activation="tanh", kernel_initializer=weights(100), name="context_dense"
        )(_scaled(context, shape))
        everywhere = ops.ones_like(read[0][:, :, :1])
        read.append(everywhere * habit[:, None, :])
    state = BODIES[shape.body].build(ops.concatenate(read, axis=-1), shape, seed)
    state = keras.layers.Dropout(shape.dropout, seed=seed, name="dropout")(state)
    parts = [
        keras.layers.Dense(shape.heads[0], kernel_initializer=weights(103), name="action_head")(
            state
        )
    ]
    if len(shape.fields) > 1:
        done = tables[0](tokens[:, :, 0])
        between = keras.layers.Dense(
            shape.hidden, activation="relu", kernel_initializer=weights(104), name="field_dense"
        )(ops.concatenate([state, done], axis=-1))
        others = keras.layers.Dense(
            sum(shape.heads[1:]), kernel_initializer=weights(105), name="field_head"
        )(between)
        ends = np.cumsum(shape.heads[1:]).tolist()
        parts += [
            others[:, :, end - size : end] for end, size in zip(ends, shape.heads[1:], strict=True)
        ]
    if shape.tied_embeddings:  # Press and Wolf 2017
        parts = [table(part, reverse=True) for table, part in zip(tables, parts, strict=True)]
    return keras.Model([tokens, context], parts, name="behaviour")


def logits_of(model: keras.Model, batch: Sequence[Any], training: bool) -> list[Any]:
    """The logits of each field, also where there is but one, which Keras returns bare.

    Args:
        model: The model.
        batch: Tokens [B, T, F] and context [B, C].
        training: Whether dropout is on.
    """
    logits: list[Any] = keras.tree.flatten(model(batch, training=training))
    return logits


def _scaled(context: keras.KerasTensor, shape: BehaviourShape) -> keras.KerasTensor:
    """[B, C] raw features as standardised signed log1p, the mean where they are missing.

    That a feature is missing is not told: to know that a user is new would be to expect what
    fraudsters do with new accounts.
    """
    mean = np.asarray(shape.scale.mean, dtype=np.float32)
    deviation = np.asarray(shape.scale.deviation, dtype=np.float32)
    logs = ops.sign(context) * ops.log1p(ops.abs(context))
    values = ops.clip((logs - mean) / deviation, -SPREAD, SPREAD)
    return ops.where(ops.isnan(context), ops.zeros_like(values), values)


def weights_of(model: keras.Model) -> dict[str, Array]:
    """The weights by layer and name, e.g. `lstm/kernel`, those of frozen layers too."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable)
        for layer in model.layers
        for variable in layer.weights
    }


def set_weights(model: keras.Model, weights: Mapping[str, Array]) -> None:
    """Put weights into a model of the same shape.

    Raises:
        ArtefactError: A weight is missing or has another shape.
    """
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            found = weights.get(name)
            if found is None or found.shape != tuple(variable.shape):
                what = "is missing" if found is None else f"has the shape {found.shape}"
                raise ArtefactError(
                    "weights.npz",
                    f"{name} {what}, not {tuple(variable.shape)}",
                    "Train the model again.",
                )
            variable.assign(found)
