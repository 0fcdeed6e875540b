"""How far a unit is from the nearest cluster of training units.

Clusters are those of k-means, or of k-means that halves one cluster after another (bisecting
k-means; Steinbach, Karypis and Kumar 2000, "A comparison of document clustering techniques").
There are as few as make held-out training units at most _TOLERANCE nats a column less likely than
that number in _NUMBERS which makes them likeliest (Smyth 2000, "Model selection for probabilistic
clustering using cross-validated likelihood"). A tenth of a nat is what spreads cost that are a
tenth wider.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.clusters import Clusters, Scale
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.summary import Numbers, summarise
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

_NUMBERS = (2, 4, 8, 16, 32)
_TOLERANCE = 0.1
_PARTS = 5  # one of so many parts of the training units is held out
_AT_ONCE = 10_000  # units compared with the clusters at once


class ClusterDetector:
    """The distance from the nearest cluster, relative to the cluster's spread."""

    name: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary, clusters: Clusters) -> None:
        self._vocabulary = vocabulary
        self._scale = clusters.scale
        self.clusters = clusters

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self:
        """Choose the number of clusters and find them, in one process.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of what is held out, and of the first centres.

        Raises:
            TrainingError: All units are alike.
        """
        matrix, features = summarise(units, vocabulary)
        if len(units) < 2:
            raise _alike(cls.name, len(units))
        scale = Scale.fit(matrix, features, vocabulary)
        numbers = scale.sought(matrix)
        if (numbers == numbers[0]).all():
            raise _alike(cls.name, len(units))
        centres = cls._centres(numbers, cls._how_many(scale, numbers, seed), seed)
        return cls(vocabulary, Clusters.fit(scale, centres, numbers))

    def with_centres(self, centres: Numbers, units: Units) -> Self:
        """The detector with clusters that were found elsewhere.

        Args:
            centres: [K, D] among what `numbers` makes of training units.
            units: Training units, to learn the spreads from.
        """
        clusters = Clusters.fit(self._scale, centres, self.numbers(units))
        return type(self)(self._vocabulary, clusters)

    def numbers(self, units: Units) -> Floats:
        """[N, D] what clusters are sought among; sums of them are exact in any order."""
        return self._scale.sought(summarise(units, self._vocabulary)[0])

    @classmethod
    def _estimator(cls, number: int, seed: int) -> Any:
        """What finds so many clusters, scikit-learn's."""
        raise NotImplementedError

    @classmethod
    def _centres(cls, numbers: Floats, number: int, seed: int) -> Numbers:
        """[K, D] the centres of so many clusters among [N, D] units."""
        fitted = cls._estimator(number, seed).fit(numbers.astype(np.float64))
        centres: Numbers = fitted.cluster_centers_
        return centres

    @classmethod
    def _how_many(cls, scale: Scale, numbers: Floats, seed: int) -> int:
        """The number of clusters for [N, D] units."""
        held_out = np.random.default_rng(seed).permutation(len(numbers)) % _PARTS == 0
        known, others = numbers[~held_out], numbers[held_out].astype(np.float64)
        distinct = len(np.unique(known, axis=0))
        possible = [number for number in _NUMBERS if number <= distinct] or [_NUMBERS[0]]
        if len(possible) == 1:
            return possible[0]
        found = (cls._centres(known, number, seed) for number in possible)
        likely = np.array([Clusters.fit(scale, one, known).likelihood(others) for one in found])
        return possible[int((likely >= likely.max() - _TOLERANCE).argmax())]

    def score(self, units: Units) -> Scores:
        """[N] distances; an ordinary unit's is about 1 or below."""
        matrix, _ = summarise(units, self._vocabulary)
        scores = np.empty(len(units))
        for start in range(0, len(units), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            numbers = self._scale.scaled(matrix[some])
            scores[some] = self.clusters.distances(numbers).min(axis=1)
        return scores

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit whose unusual values add most to its distance."""
        matrix, features = summarise(units, self._vocabulary)
        usual, found = self._scale.usual, []
        for start in range(0, len(units), _AT_ONCE):
            rows = matrix[start : start + _AT_ONCE]
            parts = self.clusters.parts(self._scale.scaled(rows))
            worth = np.where(usual.is_unusual(usual.filled(rows)), parts, 0)
            found += usual.reasons(rows, worth, features, count)
        return found

    def to_files(self) -> dict[str, bytes]:
        """All of it as JSON."""
        return {f"{self.name}.json": self.clusters.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: The file is missing, damaged, or made for another vocabulary.
        """
        name = f"{cls.name}.json"
        clusters = read_about(Clusters, files, name)
        refuse_another_vocabulary(name, clusters.scale.usual.vocabulary_id, vocabulary)
        return cls(vocabulary, clusters)


class KMeansDetector(ClusterDetector):
    """Clusters that are found all at once."""

    name: ClassVar[str] = "kmeans"

    @classmethod
    def _estimator(cls, number: int, seed: int) -> Any:
        from sklearn.cluster import KMeans

        return KMeans(number, random_state=seed)


class BisectingKMeansDetector(ClusterDetector):
    """Clusters that are each half of a larger one."""

    name: ClassVar[str] = "bisecting_kmeans"

    @classmethod
    def _estimator(cls, number: int, seed: int) -> Any:
        from sklearn.cluster import BisectingKMeans

        return BisectingKMeans(number, random_state=seed)


def _alike(name: str, units: int) -> TrainingError:
    problem = f"{units} training units, of which no two differ in their numbers"
    return TrainingError("sequences", problem, f"Ingest more, or leave {name} out.")
