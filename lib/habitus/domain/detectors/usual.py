"""What is usual of each number in the summary of a unit, learned from training units."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary

_LEVELS = np.concatenate(
    [[0, 1e-4, 1e-3, 0.01, 0.02], np.arange(5, 96, 5) / 100, [0.98, 0.99, 0.999, 0.9999, 1]]
)
_USUAL = (0.1, 0.9)  # between these quantiles a value is called usual


class Usual(BaseModel):
    """What the summaries of training units were like.

    Args:
        vocabulary_id: Vocabulary of the units.
        units: Number of training units.
        features: [D] names of the summary's columns.
        medians: [D] their medians, which stand in for what is missing.
        quantiles: [D, K] their quantiles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    units: int
    features: tuple[str, ...]
    medians: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, matrix: Floats, features: Sequence[Feature], vocabulary: Vocabulary) -> Self:
        """Learn from [N, D] summaries; NaN where a number is not known."""
        known = np.where(np.isnan(matrix).all(axis=0), np.float32(0), matrix)
        medians = np.nanmedian(known, axis=0)
        filled = _filled(matrix, medians)
        return cls(
            vocabulary_id=vocabulary.vocabulary_id,
            units=len(matrix),
            features=tuple(feature.name for feature in features),
            medians=tuple(medians.tolist()),
            quantiles=tuple(map(tuple, np.quantile(filled, _LEVELS, axis=0).T.tolist())),
        )

    def filled(self, matrix: Floats) -> Floats:
        """The summaries with the median where a number is not known."""
        return _filled(matrix, np.asarray(self.medians))

    @property
    def ranges(self) -> Scores:
        """[2, D] between which two numbers one is called usual."""
        return self.levels(_USUAL)

    def levels(self, levels: Sequence[float]) -> Scores:
        """[K, D] these quantiles, which are among those kept."""
        return np.stack([self._quantile(level) for level in levels])

    def is_unusual(self, rows: Floats) -> npt.NDArray[np.bool_]:
        """[n, D] whether a number is outside the range that is called usual."""
        low, high = self.ranges.astype(np.float32)
        unusual: npt.NDArray[np.bool_] = (rows < low) | (rows > high)
        return unusual

    def reasons(
        self,
        rows: Floats,
        worth: Scores,
        features: Sequence[Feature],
        count: int,
        bits: Scores | None = None,
    ) -> list[list[Reason]]:
        """The first `count` features of each unit by what they are worth to its score.

        The surprise of a value that is not known is none; features worth nothing are no reasons.

        Args:
            rows: [n, D] summaries; NaN where a number is not known.
            worth: [n, D] how much each feature raises the unit's score.
            features: [D] what the columns mean.
            count: How many.
            bits: [n, D] surprises; none: those of a value as far out, on either side, among
                training units.
        """
        if bits is None:
            bits = -np.log2(self._tails(self.filled(rows)))
        totals = worth.clip(min=0).sum(axis=1).clip(min=1e-12)
        order = np.argsort(-worth, axis=1, kind="stable")[:, :count]
        return [
            [
                self._reason(features[of], of, row[of], surprise[of], one[of] / total)
                for of in chosen
                if one[of] > 0
            ]
            for row, surprise, one, total, chosen in zip(
                rows, bits, worth, totals, order, strict=True
            )
        ]

    def _tails(self, rows: Floats) -> Scores:
        """[n, D] share of training units whose value is as far out, on either side."""
        tails = np.empty(rows.shape)
        for index, quantiles in enumerate(self.quantiles):
            values = np.asarray(quantiles, dtype=np.float32)
            below = np.searchsorted(values, rows[:, index], side="right") - 1
            above = np.searchsorted(values, rows[:, index], side="left")
            at_most = np.where(below < 0, 0, _LEVELS[below])
            at_least = 1 - np.append(_LEVELS, 1)[above]
            tails[:, index] = 2 * np.minimum(at_most, at_least)
        return tails.clip(1 / (self.units + 1), 1)

    def _quantile(self, level: float) -> Scores:
        at = int(np.searchsorted(_LEVELS, level))
        return np.array([quantiles[at] for quantiles in self.quantiles])

    def _reason(
        self, feature: Feature, index: int, value: float, surprise: float, share: float
    ) -> Reason:
        low, high = (feature.in_words(float(self._quantile(level)[index])) for level in _USUAL)
        return Reason(
            event_index=None,
            field=feature.name,
            observed="none" if np.isnan(value) else feature.in_words(float(value)),
            expected=((low if low == high else f"{low} to {high}", _USUAL[1] - _USUAL[0]),),
            surprise=0.0 if np.isnan(value) else float(surprise),
            share=float(share),
            against=feature.against,
        )


def _filled(matrix: Floats, medians: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.where(np.isnan(matrix), medians.astype(np.float32), matrix)
