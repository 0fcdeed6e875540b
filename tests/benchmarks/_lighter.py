"""What the behaviour model gains and loses by being lighter.

Weights of eight bits instead of 32 (dynamic quantisation); the half of the weights that are nearest
to 0 left out (Han et al. 2015, "Learning both weights and connections for efficient neural
networks"); half as wide a body, trained on the same units, and trained on what the whole model
makes of them (Hinton et al. 2015, "Distilling the knowledge in a neural network"). Weights of
bfloat16 cannot be tried: ONNX Runtime has no LSTM of them for CPUs. Packed sequences could save the
padding, no more; `score.py` tells how much that is.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
import onnx
from _figures import Figure
from _trained import Learning, trained
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.behaviour_model import MEASURES
from habitus.domain.models import behaviour, onnx_session
from habitus.domain.models.batches import Batch, by_length
from habitus.domain.models.onnx_export import detector_of, to_onnx
from habitus.domain.models.shape import Array
from habitus.domain.units import Units

# What rounds to eight bits is ONNX Runtime's own, which artefacts may not have.
onnx_session._DOMAINS |= {"com.microsoft"}
TIMES = 5
SEED = 7
PRUNED = 0.5
# Kinds of layers whose weights are rounded; what they are multiplied with is, too, as it comes.
ROUNDED = {
    "8 bits in the LSTM": ("LSTM",),
    "8 bits everywhere": ("LSTM", "MatMul"),
}


def tried(
    model: Any, learning: Learning, parts: tuple[Units, Units, Units], odd: NDArray[np.bool_]
) -> list[Figure]:
    """Events a second and AUC of the model and of lighter ones.

    Args:
        model: As it is.
        learning: How it was trained.
        parts: The units that it was trained on, those that tell what is normal, and N that are
            scored.
        odd: [N] which of these are known as attacks.
    """
    training, held_out, units = parts
    detectors = dict(lighter(model, learning, training, held_out))
    rates = {
        name: round(units.offsets[-1] / took) for name, took in seconds(detectors, units).items()
    }
    areas = {
        name: float(roc_auc_score(odd, detector.score(units)))
        for name, detector in detectors.items()
    }
    rate, area = rates["as it is"], areas["as it is"]
    return [
        figure
        for name in detectors
        for figure in (
            Figure(f"events a second of one core, {name}", rates[name], rate),
            Figure(f"AUC on the shop's attacks, {name}", areas[name], area),
        )
    ]


def lighter(
    model: Any, learning: Learning, training: Units, held_out: Units
) -> Iterator[tuple[str, BehaviourDetector]]:
    """The model as it is, and each lighter one."""
    exact, vocabulary = model.detector, model.vocabulary
    whole = exact.to_files()["model.onnx"]
    yield "as it is", exact
    made = {name: rounded(whole, kinds) for name, kinds in ROUNDED.items()}
    made["half of the weights"] = to_onnx(exact.shape, pruned(exact.weights))
    for name, content in made.items():
        detector = BehaviourDetector(vocabulary, exact.shape, content, exact.weights)
        detector.fit_rarity(held_out)
        yield name, detector
    narrow = exact.shape.hidden // 2
    settings = learning.behaviour.model_copy(update={"hidden": narrow})
    half = replace(learning, behaviour=settings)
    yield "half as wide", trained(training, held_out, vocabulary, SEED, half)
    yield "half as wide, distilled", distilled(model, learning, training, held_out)


def pruned(weights: Mapping[str, Array]) -> dict[str, Array]:
    """The weights of which the smaller half of each matrix is 0."""
    return {
        name: np.where(np.abs(weight) < np.quantile(np.abs(weight), PRUNED), 0, weight).astype(
            np.float32
        )
        if weight.ndim == 2
        else weight
        for name, weight in weights.items()
    }


def distilled(
    model: Any, learning: Learning, training: Units, held_out: Units
) -> BehaviourDetector:
    """A model half as wide that learns what the whole model makes of its training units."""
    exact = model.detector
    shape = exact.shape.model_copy(update={"hidden": exact.shape.hidden // 2})
    teacher, student = behaviour.build(exact.shape, SEED), behaviour.build(shape, SEED)
    behaviour.set_weights(teacher, exact.weights)
    losses = [keras.losses.CategoricalCrossentropy(from_logits=True) for _ in student.outputs]
    steps = learning.epochs * (len(training) // learning.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning.learning_rate, steps, alpha=0.1)
    student.compile(
        keras.optimizers.Adam(rate, global_clipnorm=behaviour.CLIP), losses, jit_compile=False
    )
    random = np.random.default_rng(SEED)

    def batches() -> list[Batch]:
        order = random.permutation(len(training))
        parts = np.array_split(order, max(1, len(training) // (64 * learning.batch_size)))
        laid_out = [
            batch
            for part in parts
            for _, batch in by_length(training.take(part), learning.batch_size, shape)
        ]
        return [laid_out[index] for index in random.permutation(len(laid_out))]

    for _ in range(learning.epochs):
        for batch in batches():
            given = [batch.tokens, batch.context]
            logits = keras.tree.flatten(teacher.predict_on_batch(given))
            told = batch.judged[:, :, None] & (batch.tokens > 0)
            counts = [told[:, :, field].astype(np.float32) for field in range(len(logits))]
            student.train_on_batch(given, [softmax(one, axis=-1) for one in logits], counts)
    return detector_of(student, shape, model.vocabulary, held_out)


def seconds(detectors: Mapping[str, BehaviourDetector], units: Units) -> dict[str, float]:
    """What each bare model takes for units that are laid out, on one core; in turn, TIMES over."""
    ready = [batch for _, batch in detectors["as it is"].model.by_length(units)]
    found: dict[str, list[float]] = {name: [] for name in detectors}
    for _ in range(TIMES):
        for name, detector in detectors.items():
            before = time.process_time()
            for batch in ready:
                detector.model.run(MEASURES, batch)
            found[name].append(time.process_time() - before)
    return {name: median(times) for name, times in found.items()}


def rounded(content: bytes, kinds: tuple[str, ...]) -> bytes:
    """The model with weights of eight bits in layers of these kinds."""
    model = onnx.load_from_string(content)
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
    # The sums over each field's tokens are products too, but with ones and zeros.
    outputs = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}
    spared = [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul" and not (set(node.output) & outputs and node.input[1] in shapes)
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "exact.onnx", Path(folder) / "rounded.onnx"
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(kinds),
            weight_type=QuantType.QInt8,
            nodes_to_exclude=spared,
        )
        return target.read_bytes()
