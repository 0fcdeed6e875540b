"""The behaviour model as an ONNX graph, for scoring without TensorFlow.

The graph is written down node by node around ONNX's fused LSTM operator, which ONNX Runtime runs
twice as fast as Keras does. Besides the surprise of what happened it computes what surprise the
model expected, so that a unit's score can be compared with what is normal for such a unit.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from habitus.domain.detectors.behaviour import BATCH_SIZE, BehaviourDetector
from habitus.domain.models.batches import Batch, batch_of
from habitus.domain.models.behaviour import SPREAD, logits_of, weights_of
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

OPSET, IR_VERSION = 17, 8
TOLERANCE = 1e-4


class _Graph:
    """Nodes and constants, named as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def dense(self, value: str, weights: Mapping[str, Array], layer: str) -> str:
        product = self.add("MatMul", value, self.constant(weights[f"{layer}/kernel"]))
        return self.add("Add", product, self.constant(weights[f"{layer}/bias"]))


def to_onnx(shape: BehaviourShape, weights: Mapping[str, Array]) -> bytes:
    """Write the graph.

    Inputs: `tokens` [B, T, F] int32 and `context` [B, C] float. Outputs, all in nats and 0 where
    there is no token: `surprise` [B, T, F], its mean `entropy` and its `variance` under the
    model; and for each field `log_probability_<field>` [B, T, V].
    """
    graph = _Graph()
    # Time comes first inside, as the LSTM operator wants it.
    tokens = graph.add("Transpose", "tokens", perm=[1, 0, 2])
    zero, one, last, axis = (graph.constant([value]) for value in (0, 1, -1, 2))
    begin = graph.add(
        "Mul", graph.add("Slice", tokens, zero, one, zero), graph.constant(np.int32(0))
    )
    before = graph.add("Concat", begin, graph.add("Slice", tokens, zero, last, zero), axis=0)
    split = graph.constant(np.ones(len(shape.fields), dtype=np.int64))

    def columns(value: str, prefix: str) -> list[str]:
        names = [f"{prefix}_{field}" for field in shape.fields]
        graph.nodes.append(helper.make_node("Split", [value, split], names, axis=2))
        return names

    tables = {
        field: graph.constant(weights[f"embedding_{field}/embeddings"]) for field in shape.fields
    }
    read = [
        graph.add("Gather", tables[field], graph.add("Squeeze", name, axis))
        for field, name in zip(shape.fields, columns(before, "before"), strict=True)
    ]
    if shape.features:
        read.append(_context(graph, shape, weights, spread_like=read[0]))
    state = _lstm(graph, graph.add("Concat", *read, axis=2), weights)
    observed = columns(tokens, "observed")
    logits = [graph.dense(state, weights, "action_head")]
    if len(shape.fields) > 1:
        done = graph.add("Gather", tables[shape.fields[0]], graph.add("Squeeze", observed[0], axis))
        between = graph.dense(graph.add("Concat", state, done, axis=2), weights, "field_dense")
        head = graph.dense(graph.add("Relu", between), weights, "field_head")
        names = [f"logits_{field}" for field in shape.fields[1:]]
        sizes = graph.constant(np.asarray(shape.sizes[1:], dtype=np.int64))
        graph.nodes.append(helper.make_node("Split", [head, sizes], names, axis=2))
        logits += names
    measures = [
        _measures(graph, field, *pair)
        for field, *pair in zip(shape.fields, logits, observed, strict=True)
    ]
    there = graph.add(
        "Cast", graph.add("Greater", tokens, graph.constant(np.int32(0))), to=TensorProto.FLOAT
    )
    outputs = ["surprise", "entropy", "variance"]
    for name, parts in zip(outputs, zip(*measures, strict=True), strict=True):
        value = graph.add("Mul", graph.add("Concat", *parts, axis=2), there)
        graph.add("Transpose", value, output=name, perm=[1, 0, 2])
    outputs += [f"log_probability_{field}" for field in shape.fields]
    return _model(graph, shape, outputs)


def _context(
    graph: _Graph, shape: BehaviourShape, weights: Mapping[str, Array], spread_like: str
) -> str:
    """The context's projection at every step, [T, B, P]."""
    missing = graph.add("IsNaN", "context")
    size = graph.add(
        "Log", graph.add("Add", graph.add("Abs", "context"), graph.constant(np.float32(1)))
    )
    logs = graph.add("Mul", graph.add("Sign", "context"), size)
    mean = graph.constant(np.asarray(shape.scale.mean, dtype=np.float32))
    deviation = graph.constant(np.asarray(shape.scale.deviation, dtype=np.float32))
    values = graph.add("Div", graph.add("Sub", logs, mean), deviation)
    low, high = graph.constant(np.float32(-SPREAD)), graph.constant(np.float32(SPREAD))
    nothing = graph.constant(np.float32(0))
    values = graph.add("Where", missing, nothing, graph.add("Clip", values, low, high))
    habit = graph.add("Tanh", graph.dense(values, weights, "context_dense"))
    width = weights["context_dense/bias"].shape[0]
    steps = graph.add("Shape", spread_like, start=0, end=2)
    target = graph.add("Concat", steps, graph.constant(np.asarray([width])), axis=0)
    return graph.add("Expand", habit, target)


def _lstm(graph: _Graph, read: str, weights: Mapping[str, Array]) -> str:
    """Hidden states [T, B, H] of the inputs [T, B, I]."""

    def gates(name: str) -> Array:
        # Keras orders the gates i, f, c, o along the last axis; ONNX i, o, f, c along the first.
        i, f, c, o = np.split(weights[f"lstm/{name}"].T, 4)
        return np.concatenate([i, o, f, c])

    hidden = weights["lstm/recurrent_kernel"].shape[0]
    bias = np.concatenate([gates("bias"), np.zeros(4 * hidden, dtype=np.float32)])
    inputs = [
        graph.constant(value[None]) for value in (gates("kernel"), gates("recurrent_kernel"), bias)
    ]
    states = graph.add("LSTM", read, *inputs, hidden_size=hidden)
    return graph.add("Squeeze", states, graph.constant([1]))


def _measures(graph: _Graph, field: str, logits: str, observed: str) -> tuple[str, str, str]:
    """Surprise, entropy and variance of one field, each [T, B, 1]."""
    logs = graph.add("LogSoftmax", logits, axis=2)
    graph.add("Transpose", logs, output=f"log_probability_{field}", perm=[1, 0, 2])
    index = graph.add("Cast", observed, to=TensorProto.INT64)
    found = graph.add("GatherElements", logs, index, axis=2)
    axes = graph.constant([2])
    shares = graph.add("Exp", logs)
    weighted = graph.add("Mul", shares, logs)
    entropy = graph.add("Neg", graph.add("ReduceSum", weighted, axes, keepdims=1))
    square = graph.add("ReduceSum", graph.add("Mul", weighted, logs), axes, keepdims=1)
    variance = graph.add("Sub", square, graph.add("Mul", entropy, entropy))
    return graph.add("Neg", found), entropy, graph.add("Relu", variance)


def _model(graph: _Graph, shape: BehaviourShape, outputs: list[str]) -> bytes:
    def value(name: str, kind: int, *dimensions: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dimensions)

    widths = [len(shape.fields)] * 3 + [shape.end + 1, *shape.sizes[1:]]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "behaviour",
            [
                value("tokens", TensorProto.INT32, "units", "steps", len(shape.fields)),
                value("context", TensorProto.FLOAT, "units", shape.features),
            ],
            [
                value(name, TensorProto.FLOAT, "units", "steps", width)
                for name, width in zip(outputs, widths, strict=True)
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="habitus",
    )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def export(model: keras.Model, shape: BehaviourShape, batch: Batch) -> bytes:
    """The trained model as ONNX, checked on a batch to say the same as Keras.

    Raises:
        TrainingError: A surprise differs by more than 1e-4 nats.
    """
    content = to_onnx(shape, weights_of(model))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["surprise"], {"tokens": batch.tokens, "context": batch.context})
    expected = np.zeros(batch.tokens.shape, dtype=np.float32)
    for index, logits in enumerate(logits_of(model, [batch.tokens, batch.context], training=False)):
        logs = keras.ops.log_softmax(logits, axis=-1)
        observed = batch.tokens[:, :, index, None]
        expected[:, :, index] = -np.take_along_axis(np.asarray(logs), observed, axis=-1)[..., 0]
    difference = float(np.abs(np.where(batch.tokens > 0, expected, 0) - found).max(initial=0))
    if not difference <= TOLERANCE:
        raise TrainingError(
            "model.onnx",
            f"differs from the trained model by {difference:g} nats, more than {TOLERANCE:g}",
            "Check the versions of onnx and onnxruntime against requirements.lock.",
        )
    return content


def detector_of(
    model: keras.Model, shape: BehaviourShape, vocabulary: Vocabulary, held_out: Units
) -> BehaviourDetector:
    """The trained model as a detector.

    Args:
        model: The model.
        shape: Its shape.
        vocabulary: What the tokens mean.
        held_out: Units that it was not trained on, at least one, from which it learns what is
            normal.

    Raises:
        TrainingError: What is exported does not say what the model says.
    """
    some = held_out.take(np.arange(min(len(held_out), BATCH_SIZE)))
    content = export(model, shape, batch_of(some, shape))
    detector = BehaviourDetector(vocabulary, shape, content, weights_of(model))
    detector.fit_rarity(held_out)
    return detector
