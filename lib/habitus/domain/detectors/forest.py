"""A forest of random cuts through rows of numbers, and what is usual of each number.

Liu, Ting and Zhou (2008), "Isolation forest": random cuts separate a strange row from the others
sooner than an ordinary one. The score is theirs, 2 ** (-mean path length / c), between 0 and 1.

The forest is fitted by scikit-learn and kept as one ONNX tree ensemble that returns the mean path
length. (skl2onnx writes an isolation forest as thousands of nodes, which take half a minute to
load and are slower to score than in scikit-learn.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.files import MEND, read_about, refuse_another_vocabulary
from habitus.domain.detectors.summary import Feature
from habitus.domain.detectors.usual import Usual
from habitus.domain.models.onnx_session import session_of
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError

_TREES = 200
_AT_ONCE = 2**22  # numbers judged together, where each row is judged without each of its own
_FOREST, _ABOUT = "forest.onnx", "isolation_forest.json"


class _About(BaseModel):
    """What the forest was fitted on.

    Args:
        usual: What the training units were like.
        path_length: c, the mean path length of an unsuccessful search among a tree's units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    path_length: float


class Forest:
    """How soon random cuts separate a row of numbers from those of training units."""

    def __init__(self, about: _About, content: bytes) -> None:
        self._about = about
        self._content = content
        self._session = session_of(content)

    @classmethod
    def fit(
        cls, matrix: Floats, features: Sequence[Feature], vocabulary: Vocabulary, seed: int
    ) -> Self:
        """Grow the trees.

        Args:
            matrix: [N, D] numbers of training units; NaN where one is not known.
            features: [D] what they mean.
            vocabulary: Of the units.
            seed: Of the samples and the cuts.

        Raises:
            TrainingError: There are fewer than two units, or the ONNX forest is not the same.
        """
        from sklearn.ensemble import IsolationForest

        if len(matrix) < 2:
            raise TrainingError("sequences", f"{len(matrix)} training units", "Move the split.")
        usual = Usual.fit(matrix, features, vocabulary)
        filled = usual.filled(matrix)
        # Noise on the training units: a column that never varied could not be cut, and what has
        # never happened before would not count.
        widths = np.array([feature.grain for feature in features])
        noise = np.random.default_rng(seed).uniform(-widths, widths, filled.shape)
        forest = IsolationForest(n_estimators=_TREES, random_state=seed)
        forest.fit(filled + noise.astype(np.float32))
        path_length = float(_search_length(np.array([forest.max_samples_]))[0])
        fitted = cls(
            _About(usual=usual, path_length=path_length), _as_onnx(forest, filled.shape[1])
        )
        difference = np.abs(fitted._scores(filled) + forest.score_samples(filled)).max()
        if difference > 1e-4:
            raise TrainingError(
                _FOREST, f"differs from the forest by {difference:.2g}", "Report this as a fault."
            )
        return fitted

    @property
    def usual(self) -> Usual:
        """What the training units were like."""
        return self._about.usual

    def scores(self, matrix: Floats) -> Scores:
        """[N] between 0 and 1; an ordinary unit is near 0.5 or below."""
        return self._scores(self.usual.filled(matrix))

    def falls(self, matrix: Floats) -> Scores:
        """[N, D] by how much each unit's score falls when one number becomes its median.

        Numbers within their usual range, which the forest may still have cut at, count 0.
        """
        filled = self.usual.filled(matrix)
        falls = np.zeros(filled.shape)
        rows = max(1, _AT_ONCE // filled.shape[1] ** 2)
        for start in range(0, len(filled), rows):
            some = slice(start, start + rows)
            falls[some] = self._falls(filled[some])
        return falls

    def _falls(self, rows: Floats) -> Scores:
        width = rows.shape[1]
        changed = np.repeat(rows, width, axis=0).reshape(len(rows), width, width)
        diagonal = np.arange(width)
        changed[:, diagonal, diagonal] = np.asarray(self.usual.medians, dtype=np.float32)
        scores = self._scores(changed.reshape(-1, width)).reshape(len(rows), width)
        unusual = self.usual.is_unusual(rows)
        falls: Scores = np.where(unusual, self._scores(rows)[:, None] - scores, 0).clip(min=0)
        return falls

    def _scores(self, filled: Floats) -> Scores:
        lengths: npt.NDArray[np.float32] = self._session.run(None, {"summary": filled})[0]
        scores: Scores = 2.0 ** (-lengths[:, 0].astype(np.float64) / self._about.path_length)
        return scores

    def to_files(self) -> dict[str, bytes]:
        """The forest as ONNX, what it was fitted on as JSON."""
        return {_FOREST: self._content, _ABOUT: self._about.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT, [_FOREST])
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        try:
            return cls(about, files[_FOREST])
        except Exception as error:  # ONNX Runtime has no one root for what a damaged file raises
            raise ArtefactError(_FOREST, f"not readable: {error}", MEND) from error


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
