"""A Markov model with back-off over several fields: cheap, and hard to beat on sequences.

Each event is a step of a chain: its action given the actions before it, and every other field
given the event's own action and the field's value in the event before. The end of a closed unit
is one more action. How probabilities are smoothed stands in `habitus.domain.detectors.backoff`.

The score. The excess of a field is how many bits more surprising it is than it was in training
(an action: after the same action; another field: in events of the same action). A unit can be
strange as a whole or in one event, and long units must not be strange for being long, so two
figures are added, each standardised over the training units, in which every event is judged with
itself left out of the counts:

- drift: the sum of all excesses over its standard deviation, were they independent;
- peak: the largest excess of one event, all fields together, less log2 of the number of events,
  which is Bonferroni's correction for having looked at them all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.backoff import BackOff, Keys, Reals
from habitus.domain.detectors.base import THE_END, Reason, Scores, within_sequence
from habitus.domain.detectors.files import (
    MEND,
    arrays_file,
    read_about,
    read_arrays,
    refuse_another_vocabulary,
)
from habitus.domain.detectors.steps import Steps, order_for, steps_of, values_of
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError

_PRIOR = 20.0  # an action seen this often weighs as much as all actions together
_LEAST_VARIANCE = 0.01  # bits squared; what is certain in training must not divide by zero
_LIKELIER = 3  # likelier values that are named, each at least this likely:
_LIKELY = 0.01
_COUNTS, _ABOUT = "counts.npz", "markov.json"


class _Standard(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Reals) -> "_Standard":
        return cls(mean=float(values.mean()), deviation=max(float(values.std()), 1e-6))

    def applied(self, values: Reals) -> Reals:
        return (values - self.mean) / self.deviation


class _About(BaseModel):
    """What the counts are of, and what is ordinary for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    order: int
    drift: _Standard
    peak: _Standard


class MarkovDetector:
    """Surprise under a back-off model of training units."""

    name: ClassVar[str] = "markov"

    def __init__(
        self,
        vocabulary: Vocabulary,
        order: int,
        models: Mapping[str, BackOff],
        ordinary: Mapping[str, Reals],
        standards: tuple[_Standard, _Standard],
    ) -> None:
        self._vocabulary = vocabulary
        self._order = order
        self._models = models
        self._ordinary = ordinary
        self._drift, self._peak = standards

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> "MarkovDetector":
        """Count the judged events of training units; their history is only looked back on.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Not used: counting is not random.

        Raises:
            TrainingError: There is nothing to count, or there are too many values.
        """
        if not units.scored.any():
            raise TrainingError("sequences", "no training unit has an event", "Move the split.")
        order, models, ordinary, judged = order_for(vocabulary), {}, {}, []
        for name in vocabulary.field_names:
            steps = steps_of(units, vocabulary, name, order)
            models[name] = BackOff.fit(steps.contexts, steps.value, values_of(vocabulary, name))
            bits = -np.log2(models[name].probabilities(steps.contexts, steps.value, leave_out=True))
            ordinary[name] = _ordinary(bits, steps.like, vocabulary.field("action").size)
            judged.append((steps, bits - ordinary[name][0][steps.like], ordinary[name][1]))
        drift, peak = _figures(units, judged)
        standards = _Standard.of(drift), _Standard.of(peak)
        return cls(vocabulary, order, models, ordinary, standards)

    def score(self, units: Units) -> Scores:
        """[N] standardised drift plus standardised peak, see the module."""
        judged = [
            (steps, excess, self._ordinary[name][1])
            for name, steps, _, excess in self.judged(units)
        ]
        drift, peak = _figures(units, judged)
        return self._drift.applied(drift) + self._peak.applied(peak)

    def deviations(self, units: Units) -> Reals:
        """[N, 2 F + 1] how far N units are from what is usual, field by field.

        Of each of the F fields the drift and the peak (NaN where nothing of it is judged), both as
        in the module but within the field and without a correction; then the drift of all.
        """
        count = len(units)
        columns, whole, variance = [], np.zeros(count), np.zeros(count)
        for name, steps, _, excess in self.judged(units):
            spreads = self._ordinary[name][1][steps.like]
            total, of_field = (
                np.bincount(steps.unit, values, count).astype(np.float64)
                for values in (excess, spreads)
            )
            peak = np.full(count, -np.inf)
            np.maximum.at(peak, steps.unit, excess)
            columns += [_standardised(total, of_field), np.where(np.isinf(peak), np.nan, peak)]
            whole, variance = whole + total, variance + of_field
        return np.stack([*columns, _standardised(whole, variance)], axis=1)

    def nats(self, units: Units) -> Scores:
        """[N] surprise of all that is judged in each unit, its end included if it is closed."""
        nats = np.zeros(len(units))
        for _, steps, bits, _ in self.judged(units):
            nats += np.bincount(steps.unit, bits, len(units)) * np.log(2)
        return nats

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` reasons of each unit: the fields of events with the largest excess.

        Surprise is that of the field, excess or not; shares are of the unit's positive excesses.
        """
        judged = list(self.judged(units))
        unit = np.concatenate([steps.unit for _, steps, _, _ in judged])
        excess = np.concatenate([excess for *_, excess in judged]).clip(min=0)
        whole = np.bincount(unit, excess, len(units))
        by_excess = np.lexsort((-excess, unit))
        rank = np.empty(len(unit), dtype=np.int64)
        starts = np.searchsorted(unit[by_excess], np.arange(len(units)))
        rank[by_excess] = np.arange(len(unit)) - starts[unit[by_excess]]
        wanted = (rank < count) & (excess > 0)
        found: list[list[tuple[int, Reason]]] = [[] for _ in range(len(units))]
        start = 0
        for name, steps, bits, part in judged:
            chosen = np.flatnonzero(wanted[start : start + len(part)])
            likely = self._models[name].distributions([c[chosen] for c in steps.contexts])
            for row, step in enumerate(chosen):
                owner = int(steps.unit[step])
                index = int(steps.event[step] - units.offsets[owner])
                reason = Reason(
                    event_index=None if steps.ends[step] else index,
                    field=name,
                    observed=self._in_words(name, int(steps.value[step])),
                    expected=self._likelier(name, likely[row], int(steps.value[step])),
                    surprise=float(bits[step]),
                    share=float(part[step] / whole[owner]),
                    against=within_sequence(self._vocabulary.unit_kind, name),
                )
                found[owner].append((int(rank[start + step]), reason))
            start += len(part)
        return [[reason for _, reason in sorted(of, key=lambda r: r[0])] for of in found]

    def to_files(self) -> dict[str, bytes]:
        """The counts as npz arrays, what they are of as JSON."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for name, model in self._models.items():
            arrays |= model.to_arrays(name)
            arrays[f"{name}.ordinary"] = self._ordinary[name]
        about = _About(
            vocabulary_id=self._vocabulary.vocabulary_id,
            order=self._order,
            drift=self._drift,
            peak=self._peak,
        )
        counts = arrays_file(arrays, compressed=True)
        return {_COUNTS: counts, _ABOUT: about.model_dump_json().encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT, [_COUNTS])
        arrays = read_arrays(files, _COUNTS)
        refuse_another_vocabulary(_ABOUT, about.vocabulary_id, vocabulary)
        models, ordinary = {}, {}
        for name in vocabulary.field_names:
            depth = about.order + 1 if name == "action" else 3
            size = values_of(vocabulary, name)
            models[name] = BackOff.from_arrays(arrays, name, size, depth, _COUNTS)
            found = arrays.get(f"{name}.ordinary")
            if found is None or found.shape != (2, vocabulary.field("action").size):
                problem = f"array '{name}.ordinary' is missing or damaged"
                raise ArtefactError(_COUNTS, problem, MEND)
            ordinary[name] = found.astype(np.float64)
        return cls(vocabulary, about.order, models, ordinary, (about.drift, about.peak))

    def judged(self, units: Units) -> Iterator[tuple[str, Steps, Reals, Reals]]:
        """Each field's name, and its steps with their bits and excesses."""
        for name in self._vocabulary.field_names:
            steps = steps_of(units, self._vocabulary, name, self._order)
            bits = -np.log2(self._models[name].probabilities(steps.contexts, steps.value))
            yield name, steps, bits, bits - self._ordinary[name][0][steps.like]

    def _likelier(
        self, name: str, probabilities: Reals, value: int
    ) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-probabilities, kind="stable")[:_LIKELIER]
        return tuple(
            (self._in_words(name, int(other)), float(probabilities[other]))
            for other in order
            if probabilities[other] > max(probabilities[value], _LIKELY)
        )

    def _in_words(self, name: str, value: int) -> str:
        field = self._vocabulary.field(name)
        return THE_END if value == field.size else field.describe(value)


def _ordinary(bits: Reals, like: Keys, actions: int) -> Reals:
    """[2, actions] mean and variance of the bits by action, drawn to those of all where few."""
    if not len(bits):
        return np.stack([np.zeros(actions), np.full(actions, _LEAST_VARIANCE)])
    times = np.bincount(like, minlength=actions)
    mean = (np.bincount(like, bits, actions) + _PRIOR * bits.mean()) / (times + _PRIOR)
    squares = np.bincount(like, (bits - mean[like]) ** 2, actions)
    variance = (squares + _PRIOR * bits.var()) / (times + _PRIOR)
    return np.stack([mean, variance.clip(min=_LEAST_VARIANCE)])


def _figures(units: Units, judged: Sequence[tuple[Steps, Reals, Reals]]) -> tuple[Reals, Reals]:
    """[N] drift and [N] peak of units, from each field's steps, excesses and variances."""
    count, events = len(units), int(units.offsets[-1])
    drift, variance, steps_of = np.zeros(count), np.zeros(count), np.zeros(events + count)
    unit_of = np.concatenate([units.unit_of_event, np.arange(count)])
    happened = np.concatenate([units.scored, units.closed & (units.lengths > 0)])
    for steps, excess, variances in judged:
        drift += np.bincount(steps.unit, excess, count)
        variance += np.bincount(steps.unit, variances[steps.like], count)
        slot = np.where(steps.ends, events + steps.unit, steps.event)
        steps_of += np.bincount(slot, excess, events + count)
    peak = np.full(count, -np.inf)
    np.maximum.at(peak, unit_of[happened], steps_of[happened])
    number = np.bincount(unit_of[happened], minlength=count).clip(min=1)
    peak = np.where(np.isinf(peak), 0.0, peak - np.log2(number))
    return _standardised(drift, variance), peak


def _standardised(totals: Reals, variance: Reals) -> Reals:
    """[N] sums over the standard deviation they would have, were the summands independent."""
    standardised: Reals = totals / np.sqrt(variance.clip(min=_LEAST_VARIANCE))
    return standardised
