"""Numbers of the summary of a unit brought to the same scale, learned from normal units."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.summary import Feature
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary

# Quantiles between which a number is told piece by piece.
_EDGES = (0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1)
_FAR = 8.0  # deviations from the mean beyond which a number counts no more


class Standard(BaseModel):
    """What is usual, and the scale of D numbers and of whether each is missing.

    Args:
        usual: What the normal training units were like.
        means: [2 D] of their numbers, and of how many are missing.
        deviations: [2 D] of their numbers, 1 where there is none and of how many are missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @classmethod
    def fit(cls, normal: Floats, features: Sequence[Feature], vocabulary: Vocabulary) -> "Standard":
        """Learn from [N, D] summaries of normal units; NaN where a number is not known."""
        usual = Usual.fit(normal, features, vocabulary)
        columns = _columns(normal, usual)
        deviations = columns.std(axis=0)
        deviations[normal.shape[1] :] = 1
        return Standard(
            usual=usual,
            means=tuple(columns.mean(axis=0).tolist()),
            deviations=tuple(np.where(deviations > 0, deviations, 1).tolist()),
        )

    def numbers(self, matrix: Floats) -> Scores:
        """[N, 2 D] the numbers of [N, D] summaries, and whether each is missing, by deviation.

        Where one is missing the median stands for it; far from the mean all are as far.
        """
        near: Scores = self._deviations(matrix).clip(-_FAR, _FAR)
        return near

    def drawn_in(self, matrix: Floats) -> Floats:
        """The same with the far ones told apart, by their logarithm: for nets.

        Where a number is hardly ever other than 0, all that is, is far.
        """
        logs = np.arcsinh(self._deviations(matrix)).clip(-_FAR, _FAR)
        return logs.astype(np.float32)

    def pieces(self, matrix: Floats) -> Floats:
        """[N, W] how far each number has come in each piece between two usual quantiles, 0 to 1.

        A piecewise linear encoding (Gorishniy et al. 2022, "On embeddings for numerical features
        in tabular deep learning", section 3.2): a net that is given it need not bend its own lines
        to tell, say, the upper percent of a number apart. A missing number is the median.
        """
        filled = self.usual.filled(matrix)
        parts = [
            (column[:, None] - edges[:-1]) / np.diff(edges)
            for column, edges in zip(filled.T, self._edges, strict=True)
        ]
        return np.hstack(parts).clip(0, 1).astype(np.float32)

    @property
    def width(self) -> int:
        """How many columns `drawn_in` and `pieces` have together."""
        return len(self.means) + sum(len(edges) - 1 for edges in self._edges)

    @cached_property
    def _edges(self) -> list[Scores]:
        """[D] where the pieces of each number meet; one that never varies has none."""
        return [np.unique(column) for column in self.usual.levels(_EDGES).T]

    def _deviations(self, matrix: Floats) -> Scores:
        columns = _columns(matrix, self.usual)
        found: Scores = (columns - np.asarray(self.means)) / np.asarray(self.deviations)
        return found


def _columns(matrix: Floats, usual: Usual) -> Scores:
    return np.hstack([usual.filled(matrix), np.isnan(matrix)]).astype(np.float64)
