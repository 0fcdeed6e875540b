"""The behaviour model as an ONNX graph, for scoring without TensorFlow.

Besides the surprise of what happened the graph computes what surprise the model expected, so that
a unit's score can be compared with what is normal for such a unit.
"""

from collections.abc import Mapping

import keras
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from habitus.domain.detectors.behaviour import BATCH_SIZE, STATE, BehaviourDetector
from habitus.domain.models.batches import Batch, batch_of
from habitus.domain.models.behaviour import CONTEXT_WIDTH, SPREAD, logits_of, weights_of
from habitus.domain.models.bodies import BODIES
from habitus.domain.models.onnx_graph import Graph
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

OPSET, IR_VERSION = 17, 8
TOLERANCE = 1e-4


def to_onnx(shape: BehaviourShape, weights: Mapping[str, Array]) -> bytes:
    """Write the graph.

    Inputs: `tokens` [B, T, F] int32 and `context` [B, C] float. Outputs, all in nats and 0 where
    there is no token: `surprise` [B, T, F], its mean `entropy` and its `variance` under the
    model; and for each field `log_probability_<field>` [B, T, V]. Beside them the body's `state`
    [B, T, H], that at a position being of the events before it.
    """
    graph = Graph(weights)
    tables = embeddings(graph, shape)
    state = states(graph, shape, tables)
    graph.add("Identity", state, output=STATE)
    axis = graph.constant([2])
    observed = _columns(graph, shape, "tokens", "observed")
    logits = [graph.dense(state, "action_head")]
    if len(shape.fields) > 1:
        done = graph.add("Gather", tables[0], graph.add("Squeeze", observed[0], axis))
        between = graph.dense(graph.add("Concat", state, done, axis=2), "field_dense")
        others = graph.dense(graph.add("Relu", between), "field_head")
        parts = [f"head_{field}" for field in shape.fields[1:]]
        logits += graph.split(others, list(shape.heads[1:]), parts)
    if shape.tied_embeddings:
        logits = [
            graph.add("MatMul", part, graph.add("Transpose", table, perm=[1, 0]))
            for part, table in zip(logits, tables, strict=True)
        ]
    measures = [
        _measures(graph, field, *pair)
        for field, *pair in zip(shape.fields, logits, observed, strict=True)
    ]
    there = graph.add(
        "Cast", graph.add("Greater", "tokens", graph.constant(np.int32(0))), to=TensorProto.FLOAT
    )
    outputs = ["surprise", "entropy", "variance"]
    for name, values in zip(outputs, zip(*measures, strict=True), strict=True):
        graph.add("Mul", graph.add("Concat", *values, axis=2), there, output=name)
    outputs += [*(f"log_probability_{field}" for field in shape.fields), STATE]
    return _model(graph, shape, outputs)


def embeddings(graph: Graph, shape: BehaviourShape) -> list[str]:
    """The table of each field's embeddings, [V, E]."""
    return [
        graph.constant(graph.weights[f"embedding_{field}/embeddings"]) for field in shape.fields
    ]


def states(graph: Graph, shape: BehaviourShape, tables: list[str]) -> str:
    """The body's state [B, T, H] at each position, which has read the events before it."""
    zero, one, last, axis = (graph.constant([value]) for value in (0, 1, -1, 2))
    first = graph.add("Slice", "tokens", zero, one, one)
    begin = graph.add("Mul", first, graph.constant(np.int32(0)))
    before = graph.add("Concat", begin, graph.add("Slice", "tokens", zero, last, one), axis=1)
    read = [
        graph.add("Gather", table, graph.add("Squeeze", column, axis))
        for table, column in zip(tables, _columns(graph, shape, before, "before"), strict=True)
    ]
    if shape.features:
        read.append(_context(graph, shape, everywhere=read[0]))
    return BODIES[shape.body].export(graph, graph.add("Concat", *read, axis=2), shape)


def _columns(graph: Graph, shape: BehaviourShape, value: str, prefix: str) -> list[str]:
    """[B, T, F] tokens by field, each [B, T, 1]."""
    parts = [f"{prefix}_{field}" for field in shape.fields]
    return graph.split(value, [1] * len(parts), parts)


def _context(graph: Graph, shape: BehaviourShape, everywhere: str) -> str:
    """The context's projection at every step, [B, T, P]; `everywhere` is [B, T, I]."""
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
    habit = graph.add("Tanh", graph.dense(values, "context_dense"))
    habit = graph.add("Unsqueeze", habit, graph.constant([1]))
    steps = graph.add("Shape", everywhere, start=0, end=2)
    target = graph.add("Concat", steps, graph.constant([CONTEXT_WIDTH]), axis=0)
    return graph.add("Expand", habit, target)


def _measures(graph: Graph, field: str, logits: str, observed: str) -> tuple[str, str, str]:
    """Surprise, entropy and variance of one field, each [B, T, 1]."""
    logs = graph.add("LogSoftmax", logits, output=f"log_probability_{field}", axis=2)
    index = graph.add("Cast", observed, to=TensorProto.INT64)
    found = graph.add("GatherElements", logs, index, axis=2)
    axes = graph.constant([2])
    shares = graph.add("Exp", logs)
    weighted = graph.add("Mul", shares, logs)
    entropy = graph.add("Neg", graph.add("ReduceSum", weighted, axes, keepdims=1))
    square = graph.add("ReduceSum", graph.add("Mul", weighted, logs), axes, keepdims=1)
    variance = graph.add("Sub", square, graph.add("Mul", entropy, entropy))
    return graph.add("Neg", found), entropy, graph.add("Relu", variance)


def _model(graph: Graph, shape: BehaviourShape, outputs: list[str]) -> bytes:
    def value(name: str, kind: int, *dimensions: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dimensions)

    widths = [len(shape.fields)] * 3 + [*shape.predicted, shape.hidden]
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
