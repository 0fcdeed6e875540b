"""Bodies of the behaviour model: what reads the events before, in Keras and the same in ONNX.

A body maps [B, T, I], what is known before each event, to states [B, T, H]. The state of a step
depends on this step and those before alone, so that padding after a unit's end changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from onnx import TensorProto

from habitus.domain.models.onnx_graph import Graph
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.setting_types import BodyName

EPSILON = 1e-5  # of layer normalisation
FORBIDDEN = -1e9  # added to what must not be attended to
EXPANSION = 4  # width of a block's feed-forward part, in widths of the body (Vaswani et al. 2017)


class Body(NamedTuple):
    """The two forms of a body.

    Args:
        build: From the inputs, the model's shape and a seed to the states, in Keras.
        export: From a graph, the name of the inputs and the shape to the name of the states.
    """

    build: Callable[[keras.KerasTensor, BehaviourShape, int], keras.KerasTensor]
    export: Callable[[Graph, str, BehaviourShape], str]


def _dense(
    width: int, name: str, seed: int, activation: str | None = None
) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    initial = keras.initializers.GlorotUniform(seed=seed)
    layer: Callable[[keras.KerasTensor], keras.KerasTensor] = keras.layers.Dense(
        width, activation=activation, kernel_initializer=initial, name=name
    )
    return layer


def _lstm(read: keras.KerasTensor, shape: BehaviourShape, seed: int) -> keras.KerasTensor:
    """Hochreiter and Schmidhuber 1997."""
    return keras.layers.LSTM(
        shape.hidden,
        return_sequences=True,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed * 1000 + 101),
        recurrent_initializer=keras.initializers.Orthogonal(seed=seed * 1000 + 102),
        name="lstm",
    )(read)


def _lstm_graph(graph: Graph, read: str, shape: BehaviourShape) -> str:
    """ONNX's fused operator, which ONNX Runtime runs twice as fast as Keras does."""

    def gates(name: str) -> Array:
        # Keras orders the gates i, f, c, o along the last axis; ONNX i, o, f, c along the first.
        i, f, c, o = np.split(graph.weights[f"lstm/{name}"].T, 4)
        return np.concatenate([i, o, f, c])

    bias = np.concatenate([gates("bias"), np.zeros(4 * shape.hidden, dtype=np.float32)])
    inputs = [
        graph.constant(value[None]) for value in (gates("kernel"), gates("recurrent_kernel"), bias)
    ]
    time_first = graph.add("Transpose", read, perm=[1, 0, 2])
    states = graph.add("LSTM", time_first, *inputs, hidden_size=shape.hidden)
    return graph.add("Transpose", graph.add("Squeeze", states, graph.constant([1])), perm=[1, 0, 2])


def _cnn_lstm(read: keras.KerasTensor, shape: BehaviourShape, seed: int) -> keras.KerasTensor:
    """Convolutions over the last events (Kim 2014), then the LSTM."""
    for layer in range(shape.cnn_lstm.layers):
        read = keras.layers.Conv1D(
            shape.hidden,
            shape.cnn_lstm.width,
            padding="causal",
            activation="relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed * 1000 + 200 + layer),
            name=f"convolution_{layer}",
        )(read)
    return _lstm(read, shape, seed)


def _cnn_lstm_graph(graph: Graph, read: str, shape: BehaviourShape) -> str:
    found = graph.add("Transpose", read, perm=[0, 2, 1])
    for layer in range(shape.cnn_lstm.layers):
        # Keras orders a kernel by time, input, output; ONNX by output, input, time.
        kernel = graph.weights[f"convolution_{layer}/kernel"].transpose(2, 1, 0)
        bias = graph.constant(graph.weights[f"convolution_{layer}/bias"])
        pads = [shape.cnn_lstm.width - 1, 0]
        weights = graph.constant(np.ascontiguousarray(kernel))
        found = graph.add("Relu", graph.add("Conv", found, weights, bias, pads=pads))
    return _lstm_graph(graph, graph.add("Transpose", found, perm=[0, 2, 1]), shape)


def slopes(heads: int) -> Array:
    """[heads, 1, 1] how much less a head attends to an event for each event that lies between.

    The geometric sequence of Press, Smith and Lewis (2022), "Train short, test long", section 3:
    with such a bias instead of position embeddings, units may be longer than any trained on.
    """
    exponents = 8.0 * np.arange(1, heads + 1, dtype=np.float32) / heads
    found: Array = np.exp2(-exponents)[:, None, None]
    return found


def _transformer(read: keras.KerasTensor, shape: BehaviourShape, seed: int) -> keras.KerasTensor:
    """Pre-norm blocks (Xiong et al. 2020) of causal attention and a feed-forward part.

    Layer normalisation, not batch normalisation: batches hold units of like length, whose
    statistics differ from batch to batch, and those of a position would tell of later ones.
    """
    width = shape.hidden

    def normal(values: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")(values)

    seeds = iter(range(seed * 1000 + 300, seed * 1000 + 1000))
    bias = _bias(read, shape.transformer.heads)
    states = _dense(width, "block_input", next(seeds))(read)
    for block in range(shape.transformer.layers):
        name = f"block_{block}_attention"
        looked = _dense(3 * width, name, next(seeds))(normal(states, name))
        found = _attention(looked, bias, shape)
        found = _dense(width, f"{name}_output", next(seeds))(found)
        drop = keras.layers.Dropout(shape.dropout, seed=next(seeds), name=f"{name}_dropout")
        states = states + drop(found)
        name = f"block_{block}_feed_forward"
        found = _dense(EXPANSION * width, name, next(seeds), "relu")(normal(states, name))
        found = _dense(width, f"{name}_output", next(seeds))(found)
        drop = keras.layers.Dropout(shape.dropout, seed=next(seeds), name=f"{name}_dropout")
        states = states + drop(found)
    return normal(states, "block_output")


def _bias(read: keras.KerasTensor, heads: int) -> keras.KerasTensor:
    """[1, heads, T, T] what is added to the attention of each step to each step."""
    # In bfloat16 there is no whole number between 256 and 258.
    position = ops.cumsum(ops.ones_like(read[:1, :, 0], dtype="float32"), axis=1)
    before = (position[:, :, None] - position[:, None, :])[:, None]
    bias = ops.where(before < 0, FORBIDDEN, ops.multiply(-slopes(heads), before))
    return ops.cast(bias, read.dtype)


def _attention(
    looked: keras.KerasTensor, bias: keras.KerasTensor, shape: BehaviourShape
) -> keras.KerasTensor:
    """[B, T, H] of queries, keys and values [B, T, 3 H]: Vaswani et al. 2017, section 3.2."""
    heads, width = shape.transformer.heads, shape.hidden
    split = keras.layers.Reshape((-1, 3, heads, width // heads))(looked)
    queries, keys, values = (ops.transpose(split[:, :, part], (0, 2, 1, 3)) for part in range(3))
    matches = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
    shares = ops.softmax(matches * (width // heads) ** -0.5 + bias, axis=-1)
    together = ops.transpose(ops.matmul(shares, values), (0, 2, 1, 3))
    return keras.layers.Reshape((-1, width))(together)


def _transformer_graph(graph: Graph, read: str, shape: BehaviourShape) -> str:
    def normal(values: str, name: str) -> str:
        scale, shift = (graph.weights[f"{name}_norm/{part}"] for part in ("gamma", "beta"))
        constants = (graph.constant(scale), graph.constant(shift))
        return graph.add("LayerNormalization", values, *constants, axis=-1, epsilon=EPSILON)

    bias = _bias_graph(graph, read, shape.transformer.heads)
    states = graph.dense(read, "block_input")
    for block in range(shape.transformer.layers):
        name = f"block_{block}_attention"
        found = _attention_graph(graph, graph.dense(normal(states, name), name), bias, shape)
        states = graph.add("Add", states, graph.dense(found, f"{name}_output"))
        name = f"block_{block}_feed_forward"
        found = graph.add("Relu", graph.dense(normal(states, name), name))
        states = graph.add("Add", states, graph.dense(found, f"{name}_output"))
    return normal(states, "block_output")


def _bias_graph(graph: Graph, read: str, heads: int) -> str:
    steps = graph.add("Squeeze", graph.add("Shape", read, start=1, end=2))
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    position = graph.add("Range", zero, graph.add("Cast", steps, to=TensorProto.FLOAT), one)
    rows, columns = (graph.add("Unsqueeze", position, graph.constant([axis])) for axis in (1, 0))
    before = graph.add("Sub", rows, columns)
    less = graph.add("Mul", before, graph.constant(-slopes(heads)))
    never = graph.constant(np.float32(FORBIDDEN))
    return graph.add("Where", graph.add("Less", before, zero), never, less)


def _attention_graph(graph: Graph, looked: str, bias: str, shape: BehaviourShape) -> str:
    heads, width = shape.transformer.heads, shape.hidden

    def per_head(part: str, order: list[int]) -> str:
        # 0 stands for a dimension as it is.
        split = graph.add("Reshape", part, graph.constant([0, 0, heads, width // heads]))
        return graph.add("Transpose", split, perm=order)

    parts = graph.split(looked, [width] * 3, [f"{looked}_{part}" for part in "qkv"])
    orders = [0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]
    queries, keys, values = map(per_head, parts, orders)
    scale = graph.constant(np.float32((width // heads) ** -0.5))
    matches = graph.add("Mul", graph.add("MatMul", queries, keys), scale)
    shares = graph.add("Softmax", graph.add("Add", matches, bias), axis=-1)
    together = graph.add("Transpose", graph.add("MatMul", shares, values), perm=[0, 2, 1, 3])
    return graph.add("Reshape", together, graph.constant([0, 0, width]))


BODIES: Mapping[BodyName, Body] = {
    "lstm": Body(_lstm, _lstm_graph),
    "cnn_lstm": Body(_cnn_lstm, _cnn_lstm_graph),
    "transformer": Body(_transformer, _transformer_graph),
}
