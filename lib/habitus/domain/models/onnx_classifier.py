"""A fine-tuned net as an ONNX graph, for scoring without TensorFlow."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from habitus.domain.models.batches import batch_of, pooled
from habitus.domain.models.behaviour import weights_of
from habitus.domain.models.classifier import Classifier, Examples
from habitus.domain.models.onnx_export import TOLERANCE, states
from habitus.domain.models.onnx_graph import Graph, floats, units_of
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.errors import TrainingError


def to_onnx(shape: BehaviourShape, numbers: int, weights: Mapping[str, Array]) -> bytes:
    """Write the graph.

    Inputs: `tokens` [B, T, F] int32, `context` [B, C], `shares` [B, P, T] as in
    `habitus.domain.models.batches.Pooled`, and `numbers` [B, D]. Output: `logit` [B].
    """
    graph = Graph(weights)
    state = states(graph, shape)
    summed = graph.add("Flatten", graph.add("MatMul", "shares", state), axis=1)
    seen = graph.add("Concat", summed, "numbers", axis=1)
    hidden = graph.add("Relu", graph.dense(seen, "classifier_dense"))
    found = graph.dense(hidden, "classifier_head")
    graph.add("Squeeze", found, graph.constant([1]), output="logit")

    inputs = [
        *units_of(shape),
        floats("shares", "units", 2 if shape.ends else 1, "steps"),
        floats("numbers", "units", numbers),
    ]
    return graph.to_bytes("classifier", inputs, [floats("logit", "units")])


def export(classifier: Classifier, some: Examples) -> bytes:
    """The trained net as ONNX, checked on some units to say the same as Keras.

    Raises:
        TrainingError: A logit differs by more than 1e-4.
    """
    shape = classifier.shape
    content = to_onnx(shape, some.numbers.shape[1], weights_of(classifier.model))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = pooled(batch_of(some.units, shape), some.units.lengths, shape)._asdict()
    (found,) = session.run(["logit"], {**given, "numbers": some.numbers})
    difference = float(np.abs(classifier.logits(some) - found).max(initial=0))
    if not difference <= TOLERANCE:
        raise TrainingError(
            "net.onnx",
            f"differs from the trained net by {difference:g}, more than {TOLERANCE:g}",
            "Check the versions of onnx and onnxruntime against requirements.lock.",
        )
    return content
