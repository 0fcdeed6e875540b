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

Of an event unit it is that of the user's last events, the history included.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Self

import numpy as np

from habitus.domain.detectors.base import within_sequence
from habitus.domain.detectors.files import MEND, read_about
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.detectors.pace import PACES, Indices, Pace, Reals
from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

_PACE = "pace.json"


class Conduct:
    """Describes units by how they depart from what training units lead one to expect."""

    def __init__(self, vocabulary: Vocabulary, markov: MarkovDetector, pace: Pace) -> None:
        self.markov = markov
        self.pace = pace
        self._unit_kind = vocabulary.unit_kind
        against = within_sequence(vocabulary.unit_kind, "")
        self.features = tuple(
            replace(one, against=against) for one in (*_surprises(vocabulary), *PACES)
        )

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
        units = self.judging(units)
        surprises = self.markov.deviations(units)
        # Every other column is a drift.
        return np.hstack([surprises, np.abs(surprises[:, ::2]), self.pace.of(units)])

    def judging(self, units: Units) -> Units:
        """The units, in whose history an event unit's conduct shows, too."""
        if self._unit_kind == "session":
            return units
        return replace(units, scored_from=np.zeros_like(units.scored_from))

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


def _surprises(vocabulary: Vocabulary) -> list[Feature]:
    """The columns of `MarkovDetector.deviations`, and those of its drifts either way."""
    fields = [f" of {name}" for name in vocabulary.field_names]
    kinds = (("surprise", "deviations"), ("largest surprise", "bits"))
    told = [(f"{kind}{field}", unit) for field in fields for kind, unit in kinds]
    told.append(("surprise", "deviations"))
    told += [(f"surprise{field} either way", "deviations") for field in (*fields, "")]
    return [Feature(name, "plain", unit, "sequence") for name, unit in told]
