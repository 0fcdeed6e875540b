"""Numbers of the summary of a unit brought to the same scale, learned from normal units."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.summary import Feature
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary

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

    def _deviations(self, matrix: Floats) -> Scores:
        columns = _columns(matrix, self.usual)
        found: Scores = (columns - np.asarray(self.means)) / np.asarray(self.deviations)
        return found


def _columns(matrix: Floats, usual: Usual) -> Scores:
    return np.hstack([usual.filled(matrix), np.isnan(matrix)]).astype(np.float64)
