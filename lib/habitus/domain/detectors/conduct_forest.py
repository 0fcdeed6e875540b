"""An isolation forest on the conduct of units: see `conduct`.

It sees how far surprises are from usual, but not on which side: no label tells which is worse. Of
a session it also sees its rarest count of an action, of an event unit the summary, which compares
the event with the history.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from habitus.domain.detectors.base import TOO_REGULAR, Reason, Scores, within_sequence
from habitus.domain.detectors.conduct import Conduct
from habitus.domain.detectors.files import read_about
from habitus.domain.detectors.forest import Forest
from habitus.domain.detectors.pace import PACES, Indices, Reals
from habitus.domain.detectors.repeats import RAREST_COUNT, Repeats
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError
from habitus.setting_types import UnitKind

_FOLDS = 5
_ASKED = 2  # times as many reasons at single events are weighed as are told
# How much of the shares at the same event, and at those up to so far from it, add to a reason's.
_SAME_ADDS, _NEAR_ADDS, _NEAR = 0.5, 0.25, 2
# Among so many first reasons, what one counts whose event is named already.
_FIRST, _AGAIN = 3, 0.5
_REPEATS = "repeats.json"
_MEAN_GAP = Feature("mean gap", "plain", "s")


class ConductDetector:
    """How soon random cuts separate a unit's conduct from that of training units."""

    name: ClassVar[str] = "conduct"

    def __init__(
        self, vocabulary: Vocabulary, conduct: Conduct, forest: Forest, repeats: Repeats | None
    ) -> None:
        self._vocabulary = vocabulary
        self._repeats = repeats
        self._fields = vocabulary.field_names
        self._conduct = conduct
        self._forest = forest

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
        # Each unit is one of thousands that decide its two numbers of an action.
        repeats = None
        if vocabulary.unit_kind == "session":
            repeats = Repeats.fit(units, vocabulary.field("action").size)
        matrix, features = _seen(numbers, units, conduct, vocabulary, repeats)
        return cls(vocabulary, conduct, Forest.fit(matrix, features, vocabulary, seed), repeats)

    def score(self, units: Units) -> Scores:
        """[N] between 0 and 1; an ordinary unit is near 0.5 or below."""
        return self._forest.scores(self._matrix(self._conduct.of(units), units)[0])

    def _matrix(self, numbers: Reals, units: Units) -> tuple[Floats, tuple[Feature, ...]]:
        return _seen(numbers, units, self._conduct, self._vocabulary, self._repeats)

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` of what raises each unit's score most.

        A number counts by how much the score falls once its median is put in its place. What is
        too surprising is told by the events that are, what is too regular and a pace, in seconds,
        at the event where they show most.
        """
        numbers = self._conduct.of(units)
        matrix, features = self._matrix(numbers, units)
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
                self._conduct.markov.explain(self._conduct.judging(units), _ASKED * count),
                surprising,
                whole,
                strict=True,
            )
        ]
        regular = np.where(drifts < 0, either_way, 0) / whole[:, None]
        self._add_regular(found, units, regular, drifts)
        # What comes last is the pace, then the rarest count or the summary.
        paces = 2 * fields + 1
        others = paces + len(PACES)
        kind = np.digitize(np.arange(falls.shape[1]), [paces, others])
        usual = self._forest.usual
        paced = usual.reasons(matrix, np.where(kind == 1, falls, 0), features, 1)
        of_pace, of_rest = (falls[:, kind == one].sum(axis=1) / whole for one in (1, 2))
        self._add_pace(found, units, paced, of_pace, matrix[:, kind == 1])
        if self._repeats is not None:
            self._add_repeats(found, units, self._repeats, of_rest, matrix[:, -1])
        else:
            summed = usual.reasons(matrix, np.where(kind == 2, falls, 0), features, count)
            for own, reasons, share in zip(found, summed, of_rest, strict=True):
                own += [replace(one, share=float(one.share * share)) for one in reasons]
        kind_of_unit = self._vocabulary.unit_kind
        return [_strongest_first(own, kind_of_unit)[:count] for own in found]

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
        units = self._conduct.judging(units)
        for index, (name, steps, _, excess) in enumerate(self._conduct.markov.judged(units)):
            below = -np.bincount(steps.unit, excess, len(units))
            # An end is no event that could be named.
            lowest = np.lexsort((excess, steps.ends, steps.unit))
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
                        against=within_sequence(self._vocabulary.unit_kind, name),
                    )
                )

    def _add_pace(
        self,
        found: list[list[Reason]],
        units: Units,
        reasons: list[list[Reason]],
        share: Scores,
        numbers: Floats,
    ) -> None:
        """Add the pace, in seconds, of the units that it makes stranger, where it shows most."""
        units = self._conduct.judging(units)
        paces = 2 * len(self._fields) + 1
        ranges = self._forest.usual.ranges[:, paces : paces + len(PACES)]
        seconds, places = self._conduct.pace.seconds(units), self._conduct.pace.furthest(units)
        for unit, of_unit in enumerate(reasons):
            found[unit] += [
                replace(
                    _in_seconds(reason, seconds[unit], numbers[unit], ranges),
                    event_index=int(places[unit]),
                    share=float(share[unit]),
                )
                for reason in of_unit
            ]

    def _add_repeats(
        self,
        found: list[list[Reason]],
        units: Units,
        repeats: Repeats,
        share: Scores,
        nats: Floats,
    ) -> None:
        """Add the rarest count of units that it makes stranger for being high."""
        rare = np.flatnonzero((share > 0) & (nats > self._forest.usual.medians[-1]))
        actions = self._vocabulary.field("action")
        reasons = repeats.reasons(units.take(rare), actions, share[rare])
        for unit, reason in zip(rare, reasons, strict=True):
            found[unit].append(reason)

    def to_files(self) -> dict[str, bytes]:
        """What is usual, and the forest's files."""
        files = self._conduct.to_files() | self._forest.to_files()
        if self._repeats is not None:
            files[_REPEATS] = self._repeats.model_dump_json(indent=1).encode()
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        conduct = Conduct.from_files(files, vocabulary)
        repeats = None
        if vocabulary.unit_kind == "session":
            repeats = read_about(Repeats, files, _REPEATS)
            repeats.refuse_other(_REPEATS, vocabulary)
        return cls(vocabulary, conduct, Forest.from_files(files, vocabulary), repeats)


def _seen(
    numbers: Reals,
    units: Units,
    conduct: Conduct,
    vocabulary: Vocabulary,
    repeats: Repeats | None,
) -> tuple[Floats, tuple[Feature, ...]]:
    """[N, D] what the forest sees: peaks, drifts either way, paces, rarest count or summary."""
    fields = len(vocabulary.field_names)
    kept = [*range(1, 2 * fields, 2), *range(2 * fields + 1, numbers.shape[1])]
    matrix = numbers[:, kept].astype(np.float32)
    features = tuple(conduct.features[index] for index in kept)
    if repeats is not None:
        rarest = repeats.rarest(units)[0].astype(np.float32)
        return np.column_stack([matrix, rarest]), (*features, RAREST_COUNT)
    summary, more = summarise(units, vocabulary)
    return np.hstack([matrix, summary]), (*features, *more)


def _folds(count: int) -> Iterator[tuple[Indices, Indices]]:
    """Units to learn from and to describe, in turn: each fifth of them by the others.

    An event unit's history is of events that other units judge: most of it has been learned from,
    as has that of a unit which is scored later, but for what happened since training.
    """
    fold = np.arange(count) % _FOLDS
    for one in range(_FOLDS):
        yield np.flatnonzero(fold != one), np.flatnonzero(fold == one)


def _strongest_first(reasons: list[Reason], unit_kind: UnitKind) -> list[Reason]:
    """By share, to which a part of all that is told of the same event and of its neighbours adds.

    An event that is strange in several ways says more than one that is in a single way, and an
    attack is a run of events. A session's hour, told at its first event, says nothing of what was
    done there: its share counts half. So does, among the first, what is told of an event that is
    named already: whoever reads no further has seen more of the unit.
    """
    shares = np.array(
        [one.share / (1 + (one.field == "hour" and unit_kind == "session")) for one in reasons]
    )
    # Of the unit as a whole: near to nothing, itself included.
    events = np.array(
        [-1 if one.event_index is None else one.event_index for one in reasons], dtype=np.int64
    )
    told = np.flatnonzero(events >= 0)
    of_event = np.bincount(events[told], shares[told], max(events.max(initial=0) + 1, 1))
    around = sliding_window_view(np.pad(of_event, _NEAR), 2 * _NEAR + 1).sum(axis=1) - of_event
    worth = shares.copy()
    worth[told] += (_SAME_ADDS * of_event + _NEAR_ADDS * around)[events[told]]
    first: list[int] = []
    left = worth.copy()
    for _ in range(min(_FIRST, len(reasons))):
        best = int(left.argmax())
        first.append(best)
        if events[best] >= 0:
            left[events == events[best]] *= _AGAIN
        left[best] = -np.inf
    others = [index for index in np.argsort(-worth, kind="stable") if index not in first]
    return [reasons[index] for index in (*first, *others)]


def _in_seconds(reason: Reason, seconds: Reals, numbers: Floats, ranges: Scores) -> Reason:
    """A pace's reason by the mean gap, and by what it would be at the ends of what is usual.

    Args:
        reason: About one of `PACES`.
        seconds: [3] the unit's, from `Pace.seconds`.
        numbers: [3] the unit's paces.
        ranges: [2, 3] between which each is usual.
    """
    which = [one.name for one in PACES].index(reason.field)
    if which == len(PACES) - 1:
        return reason
    mean, *moved = seconds
    low, high = mean * np.exp((ranges[:, which] - numbers[which]) * moved[which])
    expected = f"{_MEAN_GAP.in_words(float(low))} to {_MEAN_GAP.in_words(float(high))}"
    return replace(
        reason,
        field=_MEAN_GAP.name,
        observed=_MEAN_GAP.in_words(float(mean)),
        expected=((expected, 0.8),),
    )
