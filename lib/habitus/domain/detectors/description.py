"""What detectors that learn from labels look at: a unit's summary and, of a session, its conduct.

Counts and amounts tell the kinds of anomaly apart that labels name. An attack of a kind that none
names has other counts, but it too goes against the usual order, and faster than people do. So
sessions are also described by how far they are from what training sessions lead one to expect:

- surprise: of each field, and of all together, under the counts of `MarkovDetector`; and how far
  from usual it is either way, for what goes too regularly to be a person's doing is strange too;
- pace: the logarithm of the gap after an event, in deviations from its mean after the same action.
  Its mean over the session, their sum as that of independent ones, and their spread.

What is learned from described training units is right of new ones only if both are described
alike, so a training session is described by the counts of other users' sessions: its own would make
it look more usual than any new one. An event unit's summary compares it with its history itself,
and is all.
"""

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from habitus.domain.detectors.files import MEND, read_about
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

Reals = npt.NDArray[np.float64]
_PACE = "pace.json"
_SHORTEST = 0.05  # seconds; all shorter gaps are as short
_PRIOR = 20.0  # an action seen this often weighs as much as all actions together
_LEAST_DEVIATION = 0.1  # of the logarithm of a gap
_PACES = tuple(
    Feature(f"{name} of gaps beside usual ones", "plain", "deviations", "sequence")
    for name in ("mean", "sum", "spread")
)


class Pace(BaseModel):
    """How long people take after each action.

    Args:
        means: [A] mean logarithm of the gap in seconds after the action of each token.
        deviations: [A] its standard deviation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    means: tuple[FiniteFloat, ...]
    deviations: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @classmethod
    def fit(cls, units: Units, actions: int) -> Self:
        """Learn from units, of `actions` tokens; those seen rarely are drawn to all together."""
        before, logs, _ = _gaps(units)
        if not len(logs):
            return cls(means=(0.0,) * actions, deviations=(1.0,) * actions)
        times = np.bincount(before, minlength=actions) + _PRIOR
        means = (np.bincount(before, logs, actions) + _PRIOR * logs.mean()) / times
        squares = np.bincount(before, (logs - means[before]) ** 2, actions)
        deviations = np.sqrt((squares + _PRIOR * logs.var()) / times).clip(min=_LEAST_DEVIATION)
        return cls(means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))

    def of(self, units: Units) -> Reals:
        """[N, 3] columns as in `_PACES`; NaN for a unit of a single event."""
        before, logs, unit = _gaps(units)
        beside = (logs - np.asarray(self.means)[before]) / np.asarray(self.deviations)[before]
        times = np.bincount(unit, minlength=len(units)).astype(np.float64)
        count = np.where(times > 0, times, np.nan)
        total, squares = (np.bincount(unit, one, len(units)) for one in (beside, beside**2))
        mean = total / count
        spread = np.sqrt((squares / count - mean**2).clip(min=0))
        return np.stack([mean, total / np.sqrt(count), spread], axis=1)


class Description:
    """Describes units by numbers, as learned from training units."""

    def __init__(
        self, vocabulary: Vocabulary, conduct: tuple[MarkovDetector, Pace] | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._conduct = conduct

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary) -> Self:
        """Learn what is usual from training units.

        Raises:
            TrainingError: There are no events, or too many values.
        """
        if vocabulary.unit_kind != "session":
            return cls(vocabulary)
        pace = Pace.fit(units, vocabulary.field("action").size)
        return cls(vocabulary, (MarkovDetector.fit(units, vocabulary, seed=0), pace))

    @classmethod
    def learned(
        cls, labelled: Labelled, vocabulary: Vocabulary
    ) -> tuple[Self, Floats, tuple[Feature, ...]]:
        """Learn what is usual from training units, and describe these as new ones will be.

        Returns:
            The description; [N, D] the units', each by what users of other folds do; the columns.

        Raises:
            TrainingError: There are no events, or too many values.
        """
        description = cls.fit(labelled.units, vocabulary)
        if description._conduct is None:
            return description, *description.of(labelled.units)
        parts, places = [], []
        for others, described in labelled.folds():
            by_others = cls.fit(labelled.units.take(others), vocabulary)
            found, features = by_others.of(labelled.units.take(described))
            parts.append(found)
            places.append(described)
        order = np.argsort(np.concatenate(places))
        return description, np.concatenate(parts)[order], features

    def of(self, units: Units) -> tuple[Floats, tuple[Feature, ...]]:
        """Describe N units that it was not fitted on.

        Returns:
            [N, D] float32, NaN where a number is not known, and the D columns' meaning.
        """
        matrix, features = summarise(units, self._vocabulary)
        if self._conduct is None:
            return matrix, features
        markov, pace = self._conduct
        surprises = markov.deviations(units)
        # Every other column is a drift.
        conduct = [surprises, np.abs(surprises[:, ::2]), pace.of(units)]
        described = np.hstack([matrix, *conduct]).astype(np.float32)
        return described, (*features, *_surprises(self._vocabulary), *_PACES)

    def to_files(self) -> dict[str, bytes]:
        """What is usual, as the files of `MarkovDetector` and JSON."""
        if self._conduct is None:
            return {}
        markov, pace = self._conduct
        return markov.to_files() | {_PACE: pace.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        if vocabulary.unit_kind != "session":
            return cls(vocabulary)
        pace = read_about(Pace, files, _PACE)
        actions = vocabulary.field("action").size
        if not len(pace.means) == len(pace.deviations) == actions:
            problem = f"not every of {actions} actions has a mean and a deviation"
            raise ArtefactError(_PACE, problem, MEND)
        return cls(vocabulary, (MarkovDetector.from_files(files, vocabulary), pace))


def _surprises(vocabulary: Vocabulary) -> list[Feature]:
    """The columns of `MarkovDetector.deviations`, and those of its drifts either way."""
    fields = [f" of {name}" for name in vocabulary.field_names]
    kinds = (("surprise", "deviations"), ("largest surprise", "bits"))
    told = [(f"{kind}{field}", unit) for field in fields for kind, unit in kinds]
    told.append(("surprise", "deviations"))
    told += [(f"surprise{field} either way", "deviations") for field in (*fields, "")]
    return [Feature(name, "plain", unit, "sequence") for name, unit in told]


def _gaps(units: Units) -> tuple[npt.NDArray[np.int64], Reals, npt.NDArray[np.int64]]:
    """Of each event but the first ones: the action before it, its gap's logarithm, its unit."""
    later = np.flatnonzero(units.position > 0)
    before = units.tokens["action"][later - 1].astype(np.int64)
    logs = np.log(units.gaps[later].astype(np.float64).clip(min=_SHORTEST))
    return before, logs, units.unit_of_event[later]
