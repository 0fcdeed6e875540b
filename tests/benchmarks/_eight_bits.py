"""What the behaviour model gains and loses by weights of eight bits, instead of 32."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from _figures import Figure
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.metrics import roc_auc_score

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.units import Units

TIMES = 5
# Kinds of layers whose weights are rounded; what they are multiplied with is, too, as it comes.
TRIED = {
    "32 bits": (),
    "8 bits in the LSTM": ("LSTM",),
    "8 bits everywhere": ("LSTM", "MatMul"),
}


def tried(model: Any, held_out: Units, units: Units, odd: NDArray[np.bool_]) -> list[Figure]:
    """Events a second and AUC of the model with each kind of weights.

    Args:
        model: As it is.
        held_out: Units from which each learns what is normal.
        units: What is scored, N units.
        odd: [N] which of them are known as attacks.
    """
    figures, exact = [], model.detector
    aucs, rates = {}, {}
    for name, kinds in TRIED.items():
        content = rounded(exact.to_files()["model.onnx"], kinds)
        detector = BehaviourDetector(model.vocabulary, exact.shape, content, exact.weights)
        detector.fit_rarity(held_out)
        aucs[name] = roc_auc_score(odd, detector.score(units))
        rates[name] = units.offsets[-1] / seconds(detector, units)
    first = next(iter(TRIED))
    for name in TRIED:
        figures += [
            Figure(f"events a second of one core, {name}", round(rates[name]), round(rates[first])),
            Figure(f"AUC on the shop's attacks, {name}", aucs[name], aucs[first]),
        ]
    return figures


def seconds(detector: BehaviourDetector, units: Units) -> float:
    """What the bare model takes for units that are laid out, on one core."""
    ready = [batch for _, batch in detector.model.by_length(units)]
    found = []
    for _ in range(TIMES):
        before = time.process_time()
        for batch in ready:
            detector.model.run(["surprise", "entropy", "variance"], batch)
        found.append(time.process_time() - before)
    return median(found)


def rounded(content: bytes, kinds: tuple[str, ...]) -> bytes:
    """The model with weights of eight bits in layers of these kinds."""
    if not kinds:
        return content
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
