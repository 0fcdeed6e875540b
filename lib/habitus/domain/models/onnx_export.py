"""The behaviour model as an ONNX graph, for scoring without TensorFlow.

Besides the surprise of what happened the graph computes what surprise the model expected, so that
a unit's score can be compared with what is normal for such a unit.
"""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter

import keras
import numpy as np
import onnxruntime
from onnx import TensorProto

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.behaviour_model import LOG_PROBABILITIES, STATE
from habitus.domain.models.batches import Batch, batch_of
from habitus.domain.models.behaviour import CONTEXT_WIDTH, SPREAD, logits_of, weights_of
from habitus.domain.models.bodies import BODIES
from habitus.domain.models.onnx_graph import Graph, floats, units_of
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

_CHECKED = 256  # units that the export is checked on
TOLERANCE = 1e-4
_HUGE = np.float32(3e38)  # nearly the largest there is


def to_onnx(shape: BehaviourShape, weights: Mapping[str, Array]) -> bytes:
    """Write the graph.

    Inputs: `tokens` [B, T, F] int32 and `context` [B, C] float. Outputs, of the P = B T positions
    one below the other and in nats: `log_probabilities` [P, V] of all that is predicted, the fields
    side by side; and, 0 where there is no token, `surprise` [P, F], its mean `entropy` and its
    `variance` under the model. Beside them the body's `state` [P, H], that at a position being of
    the events before it.
    """
    graph = Graph(weights)
    # From here on the positions of all units stand one below the other, [P, ...].
    state = graph.flat(states(graph, shape), shape.hidden, output=STATE)
    tokens = graph.flat("tokens", len(shape.fields))
    logits = [graph.dense(state, "action_head")]
    if len(shape.fields) > 1:
        action = graph.add("Gather", tokens, graph.constant(0), axis=1)
        done = graph.add("Gather", _table(graph, shape.fields[0]), action)
        between = graph.dense(graph.add("Concat", state, done, axis=1), "field_dense")
        logits.append(graph.dense(graph.add("Relu", between), "field_head"))
    if shape.tied_embeddings:
        logits = _tied(graph, shape, logits)
    _measures(graph, shape, graph.add("Concat", *logits, axis=1), tokens)
    of_each = len(shape.fields)
    widths = {"surprise": of_each, "entropy": of_each, "variance": of_each}
    widths |= {LOG_PROBABILITIES: sum(shape.predicted), STATE: shape.hidden}
    outputs = [floats(name, "positions", width) for name, width in widths.items()]
    return graph.to_bytes("behaviour", units_of(shape), outputs)


def _tied(graph: Graph, shape: BehaviourShape, found: list[str]) -> list[str]:
    """The logits of each field, from its embeddings."""
    parts = found[:1]
    if len(shape.fields) > 1:
        names = [f"head_{field}" for field in shape.fields[1:]]
        parts += graph.split(found[1], list(shape.heads[1:]), names, axis=1)
    return [
        graph.add("MatMul", part, graph.add("Transpose", _table(graph, field), perm=[1, 0]))
        for part, field in zip(parts, shape.fields, strict=True)
    ]


def _table(graph: Graph, field: str) -> str:
    """The field's embeddings, [V, E]."""
    return graph.constant(graph.weights[f"embedding_{field}/embeddings"])


def states(graph: Graph, shape: BehaviourShape) -> str:
    """The body's state [B, T, H] at each position, which has read the events before it."""
    zero, one, last = (graph.constant([value]) for value in (0, 1, -1))
    first = graph.add("Slice", "tokens", zero, one, one)
    begin = graph.add("Mul", first, graph.constant(np.int32(0)))
    before = graph.add("Concat", begin, graph.add("Slice", "tokens", zero, last, one), axis=1)
    read = _read(graph, shape, before)
    if shape.features:
        read.append(_context(graph, shape, everywhere=read[0]))
    return BODIES[shape.body].export(graph, graph.add("Concat", *read, axis=2), shape)


def _read(graph: Graph, shape: BehaviourShape, tokens: str) -> list[str]:
    """What is known of the tokens [B, T, F] by their embeddings, [B, T, ...].

    Neighbouring fields of one width are looked up together, in their tables one below the other.
    """
    fields = zip(shape.embeddings, shape.fields, strict=True)
    runs = [(width, list(some)) for width, some in groupby(fields, itemgetter(0))]
    names = [f"tokens_{number}" for number in range(len(runs))]
    graph.split(tokens, [len(some) for _, some in runs], names)
    found = []
    for name, (width, some) in zip(names, runs, strict=True):
        tables = [graph.weights[f"embedding_{field}/embeddings"] for _, field in some]
        first = np.cumsum([0, *map(len, tables[:-1])], dtype=np.int32)
        index = graph.add("Add", name, graph.constant(first))
        values = graph.add("Gather", graph.constant(np.concatenate(tables)), index)
        found.append(graph.add("Reshape", values, graph.constant([0, 0, width * len(some)])))
    return found


def _context(graph: Graph, shape: BehaviourShape, everywhere: str) -> str:
    """The context's projection at every step, [B, T, P]; `everywhere` is [B, T, I]."""
    missing = graph.add("IsNaN", "context")
    logs = graph.add("Mul", graph.add("Sign", "context"), _log1p(graph, "context"))
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


def _log1p(graph: Graph, values: str) -> str:
    """log(1 + |x|), exact for small x, too.

    The rounding of u = 1 + x is made good by log(u) x / (u - 1): Goldberg 1991, "What every
    computer scientist should know about floating-point arithmetic", theorem 4.
    """
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    size = graph.add("Abs", values)
    log = graph.add("Log", graph.add("Add", size, one))
    # Infinity by itself is no number.
    bounded = graph.add("Clip", size, zero, graph.constant(_HUGE))
    rest = graph.add("Sub", graph.add("Add", bounded, one), one)
    nothing = graph.add("Equal", rest, zero)
    ratio = graph.add("Div", bounded, graph.add("Where", nothing, one, rest))
    return graph.add("Where", nothing, size, graph.add("Mul", log, ratio))


def _measures(graph: Graph, shape: BehaviourShape, logits: str, tokens: str) -> None:
    """The outputs in nats, of all fields at once.

    Args:
        graph: What is added to.
        shape: The model's.
        logits: [P, V], the fields side by side.
        tokens: [P, F].
    """
    # Sums within each field are products with a matrix that says which columns are its own.
    own = np.repeat(np.eye(len(shape.fields), dtype=np.float32), shape.predicted, axis=0)
    fields, columns = graph.constant(own), graph.constant(np.ascontiguousarray(own.T))
    # The largest of all fields stands in for that of each, which keeps exp from overflowing.
    largest = graph.add("ReduceMax", logits, axes=[1], keepdims=1)
    shares = graph.add("Exp", graph.add("Sub", logits, largest))
    sums = graph.add("MatMul", shares, fields)
    # A field so far below another that all its shares are 0 must not make log fail.
    sums = graph.add("Max", sums, graph.constant(np.finfo(np.float32).tiny))
    whole = graph.add("Add", graph.add("Log", sums), largest)
    logs = graph.add("Gemm", whole, columns, logits, alpha=-1.0, output=LOG_PROBABILITIES)

    first = graph.constant(np.cumsum((0, *shape.predicted[:-1]), dtype=np.int32))
    surprise = graph.add("GatherElements", logs, graph.add("Add", tokens, first), axis=1)
    weighted = graph.add("Mul", shares, logs)
    mean = graph.add("Div", graph.add("MatMul", weighted, fields), sums)
    square = graph.add("MatMul", graph.add("Mul", weighted, logs), fields)
    variance = graph.add("Sub", graph.add("Div", square, sums), graph.add("Mul", mean, mean))

    there = graph.add("Greater", tokens, graph.constant(np.int32(0)))
    there = graph.add("Cast", there, to=TensorProto.FLOAT)
    against = graph.add("Neg", there)
    graph.add("Mul", surprise, against, output="surprise")
    graph.add("Mul", mean, against, output="entropy")
    graph.add("Mul", graph.add("Relu", variance), there, output="variance")


def export(model: keras.Model, shape: BehaviourShape, batch: Batch) -> bytes:
    """The trained model as ONNX, checked on a batch to say the same as Keras.

    Raises:
        TrainingError: A surprise differs by more than 1e-4 nats.
    """
    content = to_onnx(shape, weights_of(model))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["surprise"], {"tokens": batch.tokens, "context": batch.context})
    found = found.reshape(batch.tokens.shape)
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
    some = held_out.take(np.arange(min(len(held_out), _CHECKED)))
    content = export(model, shape, batch_of(some, shape))
    detector = BehaviourDetector(vocabulary, shape, content, weights_of(model))
    detector.fit_rarity(held_out)
    return detector
