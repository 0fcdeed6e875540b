"""How far a unit's counts of actions are from those of the nearest training unit.

Counts are compared as log(1 + n). What differs between training units that are otherwise alike, as
how often a page is read, says little: a difference in an action counts by -log2 of the share of
distinct training units that differ in it from their own nearest neighbour, so a distance is in
bits. Who is nearest depends on these weights, and they on who is nearest; both are found in turn,
from equal weights on. (A nearest-neighbour distance as in Landauer et al. 2024, "A critical review
of common log data sets used for evaluation of sequence-based anomaly detection techniques", with
weights that are learned.)
"""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from scipy.spatial.distance import cdist

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, RARE, Vocabulary
from habitus.errors import TrainingError

_ABOUT = "count_distance.json"
_MOST = 5_000  # distinct training units kept, the most frequent first
_AT_ONCE = 10_000  # units compared with all of those at once
_ROUNDS = 20

Counts = npt.NDArray[np.int64]


class _About(BaseModel):
    """The distinct training units, and what a difference between two counts.

    Args:
        vocabulary_id: Vocabulary of the units.
        units: Number of training units.
        counts: [R, A] how often each action happened in each distinct training unit.
        times: [R] how many training units were like it.
        bits: [A] what a difference of 1 in log(1 + n) of an action counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    units: int
    counts: tuple[tuple[int, ...], ...]
    times: tuple[int, ...]
    bits: tuple[float, ...]


class CountDistanceDetector:
    """The distance to the nearest training unit."""

    name: ClassVar[str] = "count_distance"

    def __init__(self, vocabulary: Vocabulary, about: _About) -> None:
        self._vocabulary = vocabulary
        self._about = about
        self._bits = np.asarray(about.bits)
        self._counts = np.asarray(about.counts, dtype=np.int64)
        self._known = np.log1p(self._counts) * self._bits

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self:
        """Keep the distinct training units, and learn what a difference counts.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of the choice among equally frequent ones, where there are too many to keep.

        Raises:
            TrainingError: All units have the same counts.
        """
        found, times = np.unique(_counts(units, vocabulary), axis=0, return_counts=True)
        if len(found) < 2:
            problem = f"{len(units)} training units, {len(found)} of them distinct in their counts"
            raise TrainingError("sequences", problem, "Ingest more, or leave count_distance out.")
        order = np.random.default_rng(seed).permutation(len(found))
        kept = order[np.argsort(-times[order], kind="stable")[:_MOST]]
        counts = found[kept]
        return cls(
            vocabulary,
            _About(
                vocabulary_id=vocabulary.vocabulary_id,
                units=len(units),
                counts=tuple(map(tuple, counts.tolist())),
                times=tuple(times[kept].tolist()),
                bits=tuple(_learned_bits(np.log1p(counts)).tolist()),
            ),
        )

    def score(self, units: Units) -> Scores:
        """[N] bits to the nearest training unit; 0 for a unit like one of them."""
        return self._nearest(_counts(units, self._vocabulary))[1]

    def left_out(self, units: Units) -> Scores:
        """[N] the scores of training units had each itself not been trained on."""
        counts = _counts(units, self._vocabulary)
        nearest, scores = self._nearest(counts)
        alone = (scores == 0) & (np.asarray(self._about.times)[nearest] == 1)
        apart = cdist(self._known[nearest[alone]], self._known, "cityblock")
        apart[np.arange(len(apart)), nearest[alone]] = np.inf
        scores[alone] = apart.min(axis=1, initial=np.inf)
        return scores

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` actions by what they add to the distance.

        Expected is the count of the nearest training unit, with the share of training units that
        have it.
        """
        counts = _counts(units, self._vocabulary)
        nearest, scores = self._nearest(counts)
        parts = np.abs(np.log1p(counts) * self._bits - self._known[nearest])
        order = np.argsort(-parts, axis=1, kind="stable")[:, :count]
        return [
            [
                self._reason(action, counts[unit, action], nearest[unit], part[action] / total)
                for action in chosen
                if part[action] > 0
            ]
            for unit, (part, total, chosen) in enumerate(zip(parts, scores, order, strict=True))
        ]

    def _reason(self, action: int, observed: int, nearest: int, share: float) -> Reason:
        expected = int(self._counts[nearest, action])
        alike = self._counts[:, action] == expected
        times = np.asarray(self._about.times)
        apart = abs(np.log1p(observed) - np.log1p(expected))
        return Reason(
            event_index=None,
            field=f"number of {_name(action, self._vocabulary)}",
            observed=str(observed),
            expected=((str(expected), float(times[alike].sum() / times.sum())),),
            surprise=float(apart * self._bits[action]),
            share=float(share),
            against="peers",
        )

    def _nearest(self, counts: Counts) -> tuple[npt.NDArray[np.int64], Scores]:
        """[N] index of the nearest distinct training unit, and the distance in bits."""
        nearest = np.zeros(len(counts), dtype=np.int64)
        scores = np.zeros(len(counts))
        for start in range(0, len(counts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            apart = cdist(np.log1p(counts[some]) * self._bits, self._known, "cityblock")
            nearest[some] = apart.argmin(axis=1)
            scores[some] = apart.min(axis=1)
        return nearest, scores

    def to_files(self) -> dict[str, bytes]:
        """All of it as JSON."""
        return {_ABOUT: self._about.model_dump_json().encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: The file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.vocabulary_id, vocabulary)
        return cls(vocabulary, about)


def _learned_bits(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[A] what a difference in each action counts, from [R, A] distinct training units."""
    bits = np.ones(logs.shape[1])
    for _ in range(_ROUNDS):
        apart = cdist(logs * bits, logs * bits, "cityblock")
        np.fill_diagonal(apart, np.inf)
        differs = logs != logs[apart.argmin(axis=1)]
        # Half a unit more of either kind (Krichevsky and Trofimov 1981): nothing is impossible.
        learned = -np.log2((differs.sum(axis=0) + 0.5) / (len(logs) + 1))
        if np.array_equal(learned, bits):
            break
        bits = learned
    return bits


def _counts(units: Units, vocabulary: Vocabulary) -> Counts:
    """[N, A] how often each action happens in each unit, rare ones together first.

    The history of an event unit counts, that of a session does not.
    """
    if vocabulary.unit_kind == "session":
        units = units.without_history()
    size = vocabulary.field("action").size
    cell = units.unit_of_event * size + units.tokens["action"]
    counts = np.bincount(cell, minlength=len(units) * size).reshape(len(units), size)
    return counts[:, RARE:].astype(np.int64)


def _name(action: int, vocabulary: Vocabulary) -> str:
    field = vocabulary.field("action")
    return "rare or new actions" if action == 0 else field.describe(FIRST_VALUE + action - 1)
