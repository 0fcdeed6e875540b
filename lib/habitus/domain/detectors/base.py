"""What every detector can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.setting_types import UnitKind

TOO_REGULAR = "too regular"  # what is observed of a pattern that surprises too little
THE_END = "the end"  # what is observed where a unit ends
Against = Literal["sequence", "history", "peers"]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reason:
    """One thing that makes a unit strange.

    Args:
        event_index: Index of the event within the unit; none when the unit as a whole is meant.
        field: Field or feature.
        observed: What was seen, in words.
        expected: Likelier values with their probabilities, the likeliest first.
        surprise: How unlikely, in bits.
        share: Share of all the unit's surprise, 0 to 1.
        against: What it is strange beside: what else happens in the sequence, the user's own
            history, or what its peers, the training units, are like.
    """

    event_index: int | None
    field: str
    observed: str
    expected: tuple[tuple[str, float], ...]
    surprise: float
    share: float
    against: Against


def within_sequence(unit_kind: UnitKind, field: str) -> Against:
    """What an event's field is judged beside, by what came before it in its unit."""
    # What comes before in an event unit is the user's history.
    return "history" if unit_kind == "event" or field.startswith("new_") else "sequence"


class Detector(Protocol):
    """Finds units that do not fit."""

    name: ClassVar[str]

    def score(self, units: Units) -> Scores:
        """[N] how strange each unit is; higher is stranger."""
        ...

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` reasons of each unit, the strongest first."""
        ...

    def to_files(self) -> dict[str, bytes]:
        """Everything needed to score again, as files by name. Never pickle."""
        ...

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote. Nothing in the files is executed.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        ...
