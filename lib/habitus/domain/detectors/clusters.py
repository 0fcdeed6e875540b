"""Clusters of units' numeric summaries, and how far a unit is from them.

The columns of the summary, D of them, are compared by their standard deviations. The distance of a
unit x from a cluster with centre c and spreads s is

    sqrt(mean over columns of ((x - c) / s) ** 2),

about 1 for the cluster's own units. (It is relative to the distance of a cluster's own units, as
in the local density cluster-based outlier factor of Amer and Goldstein 2012, "Nearest-neighbor and
clustering based anomaly detection algorithms for RapidMiner", but by columns.) A spread is the root
mean square of x - c over the cluster's units and, so that few of them do not tell it alone, _SHARED
more that are like the average of all clusters.
"""

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.summary import Feature, Numbers
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary

_SHARED = 30
# While clusters are sought, what is farther than _FAR deviations counts no more, and all numbers
# are multiples of _STEP: a sum of up to 2 ** 40 of them is exact, in whatever order.
_FAR, _STEP = 8.0, 2.0**-10
_DECIMALS = 6  # of a centre; more depend on the number of threads


class Scale(BaseModel):
    """What makes the columns of the summary comparable.

    Args:
        usual: What the training units were like.
        deviations: [D] standard deviations of the columns.
        least: [D] least spread of a cluster, in deviations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    deviations: tuple[float, ...]
    least: tuple[float, ...]

    @classmethod
    def fit(cls, matrix: Floats, features: tuple[Feature, ...], vocabulary: Vocabulary) -> Self:
        """Learn from [N, D] summaries; NaN where a number is not known."""
        usual = Usual.fit(matrix, features, vocabulary)
        # What never varied in training counts when it does.
        least = np.array([feature.grain for feature in features])
        deviations = usual.filled(matrix).std(axis=0, dtype=np.float64).clip(min=least)
        return cls(
            usual=usual,
            deviations=tuple(deviations.tolist()),
            least=tuple((least / deviations).tolist()),
        )

    def scaled(self, matrix: Floats) -> Numbers:
        """[N, D] how many deviations from the medians."""
        numbers = self.usual.filled(matrix) - np.asarray(self.usual.medians)
        scaled: Numbers = numbers / np.asarray(self.deviations)
        return scaled

    def sought(self, matrix: Floats) -> Floats:
        """[N, D] the same, as clusters are sought among them."""
        steps = np.rint(self.scaled(matrix).clip(-_FAR, _FAR) / _STEP)
        sought: Floats = (steps * _STEP).astype(np.float32)
        return sought


class Clusters(BaseModel):
    """Clusters, K of them.

    Args:
        scale: What they were sought by.
        units: [K] training units that each cluster's spreads were learned from.
        centres: [K, D] in deviations from the medians.
        spreads: [K, D] in deviations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: Scale
    units: tuple[int, ...]
    centres: tuple[tuple[float, ...], ...]
    spreads: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.units)

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        width = len(self.scale.usual.features)
        if not 0 < len(self.units) == len(self.centres) == len(self.spreads):
            raise ValueError("units, centres and spreads are not of the same clusters")
        rows = (self.scale.deviations, self.scale.least, *self.centres, *self.spreads)
        if any(len(row) != width for row in rows):
            raise ValueError(f"a row is not as long as there are features, {width}")
        return self

    @classmethod
    def fit(cls, scale: Scale, centres: Numbers, numbers: Floats) -> Self:
        """Learn the spreads of the clusters with [K, D] centres from [N, D] training units."""
        centres = centres.round(_DECIMALS)
        nearest = cdist(numbers, centres).argmin(axis=1)
        units = np.bincount(nearest, minlength=len(centres))
        places = (nearest, np.arange(len(numbers)))
        own = csr_array((np.ones(len(numbers)), places), shape=(len(centres), len(numbers)))
        squares = own @ np.square(numbers - centres[nearest])
        average = squares.sum(axis=0) / len(numbers)
        spreads = np.sqrt((squares + _SHARED * average) / (units[:, None] + _SHARED))
        return cls(
            scale=scale,
            units=tuple(units.tolist()),
            centres=tuple(map(tuple, centres.tolist())),
            spreads=tuple(map(tuple, spreads.clip(min=scale.least).tolist())),
        )

    def distances(self, numbers: Numbers) -> Scores:
        """[N, K] of [N, D] units, in deviations from the medians, from each cluster."""
        apart = [
            cdist(numbers, np.array([centre]), "seuclidean", V=np.square(spread))
            for centre, spread in zip(self.centres, self.spreads, strict=True)
        ]
        distances: Scores = np.hstack(apart) / np.sqrt(numbers.shape[1])
        return distances

    def parts(self, numbers: Numbers) -> Scores:
        """[N, D] what each column adds to the square of the distance from the nearest cluster."""
        nearest = self.distances(numbers).argmin(axis=1)
        centres, spreads = np.asarray(self.centres), np.asarray(self.spreads)
        parts: Scores = np.square((numbers - centres[nearest]) / spreads[nearest])
        return parts / numbers.shape[1]

    def likelihood(self, numbers: Numbers) -> float:
        """Mean log-likelihood of [N, D] units, in nats a column.

        Clusters are normal distributions with their spreads, as frequent as their units. Without
        its constant, which is that of any other clusters.
        """
        width = numbers.shape[1]
        shares = (np.asarray(self.units) + 1) / (sum(self.units) + len(self))
        each = np.log(shares) - np.log(self.spreads).sum(axis=1)
        each = each - width / 2 * np.square(self.distances(numbers))
        return float(logsumexp(each, axis=1).mean() / width)
