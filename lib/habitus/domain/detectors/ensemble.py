"""Several detectors as one, by how rare each one's score is: see `combination`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.base import Detector, Reason, Scores
from habitus.domain.detectors.combination import Combination, Reals
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.scoring import scores_of
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

_ABOUT = "ensemble.json"


class EnsembleDetector:
    """Fitted detectors, and what their scores are worth together."""

    name: ClassVar[str] = "ensemble"

    def __init__(
        self, vocabulary: Vocabulary, members: Mapping[str, Detector], combination: Combination
    ) -> None:
        self._vocabulary = vocabulary
        self._members = dict(members)
        self.combination = combination

    @classmethod
    def fit(
        cls, members: Mapping[str, Detector], validation: Labelled, vocabulary: Vocabulary
    ) -> Self:
        """Weigh detectors by validation units, which none of them learned from.

        Those decide at most when a member stops and how rare its surprises are.

        Args:
            members: The detectors by name.
            validation: Validation units and what is known of them.
            vocabulary: What the tokens mean.

        Raises:
            TrainingError: There are too few validation units.
        """
        combination = Combination.fit(
            tuple(members),
            _scores(members, validation.units),
            validation.anomalous,
            validation.weights,
        )
        return cls(vocabulary, members, combination)

    def score(self, units: Units) -> Scores:
        """[N] mean surprise of the members' scores, in bits; with learned weights, log-odds."""
        return self.combination.apply(_scores(self._members, units))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` of the members' own reasons for each unit.

        Each counts by its member's share in the unit's score, and what several members say of the
        same field of the same event is one reason, in the words of the one it counts most for.
        """
        shares = self.combination.shares(_scores(self._members, units))
        found: list[dict[tuple[str, int | None], Reason]] = [{} for _ in range(len(units))]
        for member, of_member in zip(self._members.values(), shares.T, strict=True):
            for own, reasons, share in zip(
                found, member.explain(units, count), of_member, strict=True
            ):
                for reason in reasons:
                    _add(own, replace(reason, share=float(share) * reason.share))
        return [
            sorted((one for one in own.values() if one.share > 0), key=lambda r: -r.share)[:count]
            for own in found
        ]

    def to_files(self) -> dict[str, bytes]:
        """The members' files, each in a folder of the member's name, and what they are worth."""
        files = {
            f"{name}/{file}": content
            for name, member in self._members.items()
            for file, content in member.to_files().items()
        }
        about = _About(vocabulary_id=self._vocabulary.vocabulary_id, combination=self.combination)
        return {**files, _ABOUT: about.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file, or one of a member, is missing, damaged, or made for another
                vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.vocabulary_id, vocabulary)
        names = about.combination.members
        members: dict[str, Detector] = {n: _member(n, files, vocabulary) for n in names}
        return cls(vocabulary, members, about.combination)


class _About(BaseModel):
    """What is known of an ensemble beside its members' files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    combination: Combination


def _scores(members: Mapping[str, Detector], units: Units) -> Reals:
    """[N, M] the members' scores as they are kept, which are the same in any batch."""
    return np.stack([scores_of(member, units) for member in members.values()], axis=1)


def _add(own: dict[tuple[str, int | None], Reason], reason: Reason) -> None:
    key = reason.field, reason.event_index
    other = own.get(key)
    if other is not None:
        stronger = max(other, reason, key=lambda one: one.share)
        reason = replace(stronger, share=other.share + reason.share)
    own[key] = reason


def _member(name: str, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Detector:
    folder = f"{name}/"
    own = {
        file.removeprefix(folder): content
        for file, content in files.items()
        if file.startswith(folder)
    }
    try:
        return load_detector(name, own, vocabulary)
    except ArtefactError as error:
        raise ArtefactError(f"{folder}{error.place}", error.problem, error.mend) from error
