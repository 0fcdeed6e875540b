"""An isolation forest on a numeric summary of the unit.

Liu, Ting and Zhou (2008), "Isolation forest": random cuts separate a strange unit from the others
sooner than an ordinary one. The score is theirs, 2 ** (-mean path length / c), between 0 and 1.

The forest is fitted by scikit-learn and kept as one ONNX tree ensemble that returns the mean path
length. (skl2onnx writes an isolation forest as thousands of nodes, which take half a minute to
load and are slower to score than in scikit-learn.)
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import BaseModel, ConfigDict, ValidationError

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError

_TREES = 200
_AT_ONCE = 64  # units explained together; each takes as many rows as there are features
_LEVELS = np.concatenate(
    [[0, 1e-4, 1e-3, 0.01, 0.02], np.arange(5, 96, 5) / 100, [0.98, 0.99, 0.999, 0.9999, 1]]
)
# Noise on the training units, by scale. A column that never varied could not be cut, and what has
# never happened before would not count.
_NOISE = {"log": 0.1, "share": 0.02, "plain": 0.1}
_USUAL = (0.1, 0.9)  # between these quantiles a value is called usual
_FOREST, _ABOUT = "forest.onnx", "isolation_forest.json"


class _About(BaseModel):
    """What the forest was fitted on.

    Args:
        vocabulary_id: Vocabulary of the units.
        units: Number of training units.
        path_length: c, the mean path length of an unsuccessful search among a tree's units.
        features: [D] names of the summary's columns.
        medians: [D] their medians, which stand in for what is missing.
        quantiles: [D, K] their quantiles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    units: int
    path_length: float
    features: tuple[str, ...]
    medians: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]


class IsolationForestDetector:
    """How soon random cuts separate a unit's summary from those of training units."""

    name: ClassVar[str] = "isolation_forest"

    def __init__(self, vocabulary: Vocabulary, about: "_About", forest: bytes) -> None:
        self._vocabulary = vocabulary
        self._about = about
        self._forest = forest
        options = onnxruntime.SessionOptions()
        # Spark already runs one task per core.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            forest, options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> "IsolationForestDetector":
        """Grow the trees on training units.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of the samples and the cuts.

        Raises:
            TrainingError: There are fewer than two units, or the ONNX forest is not the same.
        """
        from sklearn.ensemble import IsolationForest

        if len(units) < 2:
            raise TrainingError("sequences", f"{len(units)} training units", "Move the split.")
        matrix, features = summarise(units, vocabulary)
        known = np.where(np.isnan(matrix).all(axis=0), np.float32(0), matrix)
        medians = np.nanmedian(known, axis=0)
        filled = _filled(matrix, medians)
        widths = np.array([_NOISE[feature.scale] for feature in features])
        noise = np.random.default_rng(seed).uniform(-widths, widths, filled.shape)
        forest = IsolationForest(n_estimators=_TREES, random_state=seed)
        forest.fit(filled + noise.astype(np.float32))
        about = _About(
            vocabulary_id=vocabulary.vocabulary_id,
            units=len(units),
            path_length=float(_search_length(np.array([forest.max_samples_]))[0]),
            features=tuple(feature.name for feature in features),
            medians=tuple(medians.tolist()),
            quantiles=tuple(map(tuple, np.quantile(filled, _LEVELS, axis=0).T.tolist())),
        )
        detector = cls(vocabulary, about, _as_onnx(forest, filled.shape[1]))
        difference = np.abs(detector._scores(filled) + forest.score_samples(filled)).max()
        if difference > 1e-4:
            raise TrainingError(
                _FOREST, f"differs from the forest by {difference:.2g}", "Report this as a fault."
            )
        return detector

    def score(self, units: Units) -> Scores:
        """[N] between 0 and 1; an ordinary unit is near 0.5 or below."""
        matrix, _ = summarise(units, self._vocabulary)
        return self._scores(_filled(matrix, np.asarray(self._about.medians)))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit whose unusual values raise the score most.

        A feature counts by how much the score falls once its median is put in its place. Its
        surprise is that of a value as far out, on either side, among training units.
        """
        matrix, features = summarise(units, self._vocabulary)
        filled = _filled(matrix, np.asarray(self._about.medians))
        found = []
        for start in range(0, len(units), _AT_ONCE):
            rows = filled[start : start + _AT_ONCE]
            falls = self._falls(rows)
            tails = self._tails(rows)
            totals = falls.sum(axis=1).clip(min=1e-12)
            order = np.argsort(-falls, axis=1, kind="stable")[:, :count]
            found += [
                [
                    self._reason(features[of], of, row[of], tail[of], fall[of] / total)
                    for of in chosen
                    if fall[of] > 0
                ]
                for row, tail, fall, total, chosen in zip(
                    rows, tails, falls, totals, order, strict=True
                )
            ]
        return found

    def _falls(self, rows: Floats) -> Scores:
        """[n, D] by how much each unit's score falls when one feature becomes the median.

        Features within their usual range, which the forest may still have cut at, count 0.
        """
        width = rows.shape[1]
        changed = np.repeat(rows, width, axis=0).reshape(len(rows), width, width)
        diagonal = np.arange(width)
        changed[:, diagonal, diagonal] = np.asarray(self._about.medians, dtype=np.float32)
        scores = self._scores(changed.reshape(-1, width)).reshape(len(rows), width)
        low, high = (np.float32(self._usual(level)) for level in _USUAL)
        unusual = (rows < low) | (rows > high)
        falls: Scores = np.where(unusual, self._scores(rows)[:, None] - scores, 0).clip(min=0)
        return falls

    def _tails(self, rows: Floats) -> Scores:
        """[n, D] share of training units whose value is as far out, on either side."""
        tails = np.empty(rows.shape)
        for index, quantiles in enumerate(self._about.quantiles):
            values = np.asarray(quantiles, dtype=np.float32)
            below = np.searchsorted(values, rows[:, index], side="right") - 1
            above = np.searchsorted(values, rows[:, index], side="left")
            at_most = np.where(below < 0, 0, _LEVELS[below])
            at_least = 1 - np.append(_LEVELS, 1)[above]
            tails[:, index] = 2 * np.minimum(at_most, at_least)
        return tails.clip(1 / (self._about.units + 1), 1)

    def _usual(self, level: float) -> Scores:
        at = int(np.searchsorted(_LEVELS, level))
        return np.array([quantiles[at] for quantiles in self._about.quantiles])

    def _reason(
        self, feature: Feature, index: int, value: float, tail: float, share: float
    ) -> Reason:
        low, high = (feature.in_words(float(self._usual(level)[index])) for level in _USUAL)
        return Reason(
            event_index=None,
            field=feature.name,
            observed=feature.in_words(float(value)),
            expected=((low if low == high else f"{low} to {high}", _USUAL[1] - _USUAL[0]),),
            surprise=float(-np.log2(tail)),
            share=float(share),
        )

    def _scores(self, filled: Floats) -> Scores:
        lengths: npt.NDArray[np.float32] = self._session.run(None, {"summary": filled})[0]
        scores: Scores = 2.0 ** (-lengths[:, 0].astype(np.float64) / self._about.path_length)
        return scores

    def to_files(self) -> dict[str, bytes]:
        """The forest as ONNX, what it was fitted on as JSON."""
        return {_FOREST: self._forest, _ABOUT: self._about.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        mend = "Restore the file, or train again."
        for name in (_FOREST, _ABOUT):
            if name not in files:
                raise ArtefactError(name, "no such file in the artefact", mend)
        try:
            about = _About.model_validate_json(files[_ABOUT])
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ArtefactError(_ABOUT, f"{where} {fault['msg']}".strip(), mend) from error
        if about.vocabulary_id != vocabulary.vocabulary_id:
            problem = f"made for vocabulary {about.vocabulary_id}, not {vocabulary.vocabulary_id}"
            raise ArtefactError(_ABOUT, problem, "Train again after the features job.")
        try:
            return cls(vocabulary, about, files[_FOREST])
        except Exception as error:  # ONNX Runtime has no one root for what a damaged file raises
            raise ArtefactError(_FOREST, f"not readable: {error}", mend) from error


def _filled(matrix: Floats, medians: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.where(np.isnan(matrix), medians.astype(np.float32), matrix)


def _search_length(units: npt.NDArray[np.int64]) -> Scores:
    """Mean path length of an unsuccessful search in a tree of so many units (equation 1)."""
    several = np.maximum(units, 3).astype(np.float64)
    length = 2 * (np.log(several - 1) + np.euler_gamma) - 2 * (several - 1) / several
    return np.select([units <= 1, units == 2], [0.0, 1.0], length)


def _as_onnx(forest: Any, width: int) -> bytes:
    """The mean path length over the trees, as one node.

    A leaf's length is its depth and what its training units would still have taken to separate.
    """
    from onnx import TensorProto, helper

    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for index, (estimator, chosen) in enumerate(
        zip(forest.estimators_, forest.estimators_features_, strict=True)
    ):
        tree = estimator.tree_
        leaf = tree.children_left < 0
        # ONNX compares in float32: rounded down, the cut parts the same float32 values.
        cut = tree.threshold.astype(np.float32)
        cut = np.where(cut > tree.threshold, np.nextafter(cut, np.float32(-np.inf)), cut)
        length = tree.compute_node_depths() - 1 + _search_length(tree.n_node_samples)
        leaves = np.flatnonzero(leaf)
        for name, values in {
            "nodes_treeids": np.full(tree.node_count, index),
            "nodes_nodeids": np.arange(tree.node_count),
            "nodes_featureids": np.where(leaf, 0, chosen[tree.feature]),
            "nodes_values": np.where(leaf, 0, cut),
            "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
            "nodes_truenodeids": tree.children_left.clip(min=0),
            "nodes_falsenodeids": tree.children_right.clip(min=0),
            "target_treeids": np.full(len(leaves), index),
            "target_nodeids": leaves,
            "target_ids": np.zeros(len(leaves), dtype=np.int64),
            "target_weights": length[leaves],
        }.items():
            parts.setdefault(name, []).append(values)
    attributes = {name: np.concatenate(values).tolist() for name, values in parts.items()}
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["summary"],
        ["path_length"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="AVERAGE",
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "isolation_forest",
        [helper.make_tensor_value_info("summary", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("path_length", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 15)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=8
    ).SerializeToString()
    return content
