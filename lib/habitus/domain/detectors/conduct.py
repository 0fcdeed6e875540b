"""How far units depart from the usual order and pace, whatever they do.

An attack of a kind that nobody has named has counts and amounts like anybody's, but it goes against
the usual order, and faster than people do. So the conduct of a unit is described by

- surprise: of each field, and of all together, under the counts of `MarkovDetector`; and how far
  from usual it is either way, for what goes too regularly to be a person's doing is strange too;
- pace: the logarithm of the gap after an event, in deviations from its mean after the same action.
  Its mean over the unit, their sum as that of independent ones, and their spread.

What is learned from described training units is right of new ones only if both are described
alike, so a training unit is described by the counts of other units: its own would make it look more
usual than any new one.

`ConductDetector` grows an isolation forest on these numbers, but for the surprises' directions: no
label tells which way is worse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from habitus.domain.detectors.base import TOO_REGULAR, Reason, Scores
from habitus.domain.detectors.files import MEND, read_about
from habitus.domain.detectors.forest import Forest
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.detectors.pace import PACES, Indices, Pace, Reals
from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError

_PACE = "pace.json"
_FOLDS = 5
_MOST = 200  # reasons of a unit's single events that are weighed
_MEAN_GAP = Feature("mean gap", "plain", "s")


class Conduct:
    """Describes units by how they depart from what training units lead one to expect."""

    def __init__(self, vocabulary: Vocabulary, markov: MarkovDetector, pace: Pace) -> None:
        self.markov = markov
        self.pace = pace
        self.features = (*_surprises(vocabulary), *PACES)

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary) -> Self:
        """Learn what is usual from training units.

        Raises:
            TrainingError: There are no events, or too many values.
        """
        pace = Pace.fit(units, vocabulary.field("action").size)
        return cls(vocabulary, MarkovDetector.fit(units, vocabulary, seed=0), pace)

    @classmethod
    def learned(
        cls, units: Units, vocabulary: Vocabulary, folds: Iterable[tuple[Indices, Indices]]
    ) -> tuple[Self, Reals]:
        """Learn what is usual from training units, and describe these as new ones will be.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            folds: Units to learn from and units to describe by these, in turn; each is described
                once.

        Returns:
            The conduct, and [N, D] numbers as from `of`.

        Raises:
            TrainingError: There are no events, or too many values.
        """
        conduct = cls.fit(units, vocabulary)
        numbers = np.empty((len(units), len(conduct.features)))
        for others, described in folds:
            by_others = cls.fit(units.take(others), vocabulary)
            numbers[described] = by_others.of(units.take(described))
        return conduct, numbers

    def of(self, units: Units) -> Reals:
        """[N, D] numbers of units it was not fitted on, as `features` say; NaN where unknown."""
        surprises = self.markov.deviations(units)
        # Every other column is a drift.
        return np.hstack([surprises, np.abs(surprises[:, ::2]), self.pace.of(units)])

    def to_files(self) -> dict[str, bytes]:
        """What is usual, as the files of `MarkovDetector` and JSON."""
        return self.markov.to_files() | {_PACE: self.pace.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        pace = read_about(Pace, files, _PACE)
        actions = vocabulary.field("action").size
        if not len(pace.means) == len(pace.deviations) == actions:
            problem = f"not every of {actions} actions has a mean and a deviation"
            raise ArtefactError(_PACE, problem, MEND)
        return cls(vocabulary, MarkovDetector.from_files(files, vocabulary), pace)


class ConductDetector:
    """How soon random cuts separate a unit's conduct from that of training units."""

    name: ClassVar[str] = "conduct"

    def __init__(self, vocabulary: Vocabulary, conduct: Conduct, forest: Forest) -> None:
        self._fields = vocabulary.field_names
        self._conduct = conduct
        self._forest = forest
        self._kept = _undirected(len(self._fields))
        self._features = [conduct.features[index] for index in self._kept]

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self:
        """Learn what is usual, and grow the trees, on training units.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of the samples and the cuts.

        Raises:
            TrainingError: There are no events, too many values, or fewer units than folds.
        """
        if len(units) < _FOLDS:
            problem = f"{len(units)} training units, fewer than {_FOLDS}"
            raise TrainingError("sequences", problem, "Move the split.")
        conduct, numbers = Conduct.learned(units, vocabulary, _folds(len(units)))
        kept = _undirected(len(vocabulary.field_names))
        matrix = numbers[:, kept].astype(np.float32)
        features = [conduct.features[index] for index in kept]
        return cls(vocabulary, conduct, Forest.fit(matrix, features, vocabulary, seed))

    def score(self, units: Units) -> Scores:
        """[N] between 0 and 1; an ordinary unit is near 0.5 or below."""
        return self._forest.scores(self._undirected(self._conduct.of(units)))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` of what raises each unit's score most.

        A number counts by how much the score falls once its median is put in its place. What is
        too surprising is told by the events that are, what is too regular and a pace, in seconds,
        at the event where they show most.
        """
        numbers = self._conduct.of(units)
        matrix = self._undirected(numbers)
        falls = self._forest.falls(matrix)
        whole = falls.sum(axis=1).clip(min=1e-12)
        fields = len(self._fields)
        drifts = numbers[:, : 2 * fields + 1 : 2]
        either_way = falls[:, fields : 2 * fields + 1]
        surprising = np.where(drifts > 0, either_way, 0)
        surprising[:, :fields] += falls[:, :fields]
        found = [
            self._at_events(reasons, worth / total)
            for reasons, worth, total in zip(
                self._conduct.markov.explain(units, max(count, _MOST)),
                surprising,
                whole,
                strict=True,
            )
        ]
        regular = np.where(drifts < 0, either_way, 0) / whole[:, None]
        self._add_regular(found, units, regular, drifts)
        self._add_pace(found, units, matrix, falls)
        return [sorted(own, key=lambda one: -one.share)[:count] for own in found]

    def _at_events(self, reasons: Sequence[Reason], worth: Reals) -> list[Reason]:
        """Reasons at single events, by [F + 1] what each field and all together are worth."""
        of_field = dict.fromkeys(self._fields, 1e-12)
        for reason in reasons:
            of_field[reason.field] += reason.share
        every = sum(of_field.values())
        by_field = {
            name: own / of_field[name] + worth[-1] / every
            for name, own in zip(self._fields, worth, strict=False)
        }
        weighed = [replace(one, share=float(one.share * by_field[one.field])) for one in reasons]
        return [one for one in weighed if one.share > 0]

    def _add_regular(
        self, found: list[list[Reason]], units: Units, regular: Reals, drifts: Reals
    ) -> None:
        """Add the fields that surprise too little, by [N, F + 1] what that is worth.

        What all together are worth goes to the field that surprises least of all.
        """
        rows = np.arange(len(units))
        worth = regular[:, :-1].copy()
        worth[rows, drifts[:, :-1].argmin(axis=1)] += regular[:, -1]
        for index, (name, steps, _, excess) in enumerate(self._conduct.markov.judged(units)):
            below = -np.bincount(steps.unit, excess, len(units))
            lowest = np.lexsort((excess, steps.unit))
            firsts = np.searchsorted(steps.unit[lowest], rows)
            for unit in np.flatnonzero((worth[:, index] > 0) & (below > 0)):
                step = lowest[firsts[unit]]
                found[unit].append(
                    Reason(
                        event_index=int(steps.event[step] - units.offsets[unit]),
                        field=f"{name}_pattern",
                        observed=TOO_REGULAR,
                        expected=(),
                        surprise=float(below[unit]),
                        share=float(worth[unit, index]),
                        against="sequence",
                    )
                )

    def _add_pace(
        self, found: list[list[Reason]], units: Units, matrix: Floats, falls: Scores
    ) -> None:
        """Add the pace, in seconds, of the units that it makes stranger, where it shows most."""
        own = np.where(np.arange(falls.shape[1]) >= falls.shape[1] - len(PACES), falls, 0)
        share = own.sum(axis=1) / falls.sum(axis=1).clip(min=1e-12)
        reasons = self._forest.usual.reasons(matrix, own, self._features, 1)
        seconds, places = self._conduct.pace.seconds(units), self._conduct.pace.furthest(units)
        for unit, of_unit in enumerate(reasons):
            found[unit] += [
                replace(
                    _in_seconds(reason, seconds[unit]),
                    event_index=int(places[unit]),
                    share=float(share[unit]),
                )
                for reason in of_unit
            ]

    def _undirected(self, numbers: Reals) -> Floats:
        return numbers[:, self._kept].astype(np.float32)

    def to_files(self) -> dict[str, bytes]:
        """What is usual, and the forest's files."""
        return self._conduct.to_files() | self._forest.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        conduct = Conduct.from_files(files, vocabulary)
        return cls(vocabulary, conduct, Forest.from_files(files, vocabulary))


def _in_seconds(reason: Reason, gaps: Reals) -> Reason:
    """A pace's reason by the mean gap and between which ends 80 % usually lie."""
    if reason.field == PACES[-1].name:
        return reason
    mean, low, high = map(_MEAN_GAP.in_words, gaps.tolist())
    return replace(
        reason, field=_MEAN_GAP.name, observed=mean, expected=((f"{low} to {high}", 0.8),)
    )


def _undirected(fields: int) -> list[int]:
    """The columns of a conduct without the directions of its drifts."""
    return [*range(1, 2 * fields, 2), *range(2 * fields + 1, 3 * fields + 2 + len(PACES))]


def _folds(count: int) -> Iterator[tuple[Indices, Indices]]:
    """Units to learn from and to describe, in turn; they come in the order of a hash."""
    fold = np.arange(count) % _FOLDS
    for one in range(_FOLDS):
        yield np.flatnonzero(fold != one), np.flatnonzero(fold == one)


def _surprises(vocabulary: Vocabulary) -> list[Feature]:
    """The columns of `MarkovDetector.deviations`, and those of its drifts either way."""
    fields = [f" of {name}" for name in vocabulary.field_names]
    kinds = (("surprise", "deviations"), ("largest surprise", "bits"))
    told = [(f"{kind}{field}", unit) for field in fields for kind, unit in kinds]
    told.append(("surprise", "deviations"))
    told += [(f"surprise{field} either way", "deviations") for field in (*fields, "")]
    return [Feature(name, "plain", unit, "sequence") for name, unit in told]
