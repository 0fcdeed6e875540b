"""A detector that some features are kept from, because they turned out to tell it nothing."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors import detector_class
from habitus.domain.detectors.base import Detector, Reason, Scores
from habitus.domain.detectors.files import SELECTION, read_about
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary


class _About(BaseModel):
    """Which features are kept from which detector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str
    dropped: tuple[str, ...]


class SelectedDetector:
    """A detector that was fitted, and is asked, as if some features were not known.

    Args:
        detector: The detector.
        dropped: Names of these features.
        vocabulary: Names all features.
    """

    name: ClassVar[str] = "selected"

    def __init__(
        self, detector: Detector, dropped: Collection[str], vocabulary: Vocabulary
    ) -> None:
        self._detector, self._vocabulary = detector, vocabulary
        self._about = _About(detector=detector.name, dropped=tuple(dropped))

    def score(self, units: Units) -> Scores:
        """[N] how strange each unit is; higher is stranger."""
        return self._detector.score(self._seen(units))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` reasons of each unit, the strongest first."""
        return self._detector.explain(self._seen(units), count)

    def to_files(self) -> dict[str, bytes]:
        """The detector's files, and which features are kept from it as JSON."""
        about = self._about.model_dump_json(indent=1).encode()
        return {**self._detector.to_files(), SELECTION: about}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, SELECTION)
        detector = detector_class(about.detector).from_files(files, vocabulary)
        return cls(detector, about.dropped, vocabulary)

    def _seen(self, units: Units) -> Units:
        return without(units, self._about.dropped, self._vocabulary)


def without(units: Units, features: Collection[str], vocabulary: Vocabulary) -> Units:
    """The units as if these features of them were not known."""
    context = units.context.copy()
    context[:, np.isin(vocabulary.context, list(features))] = np.nan
    return replace(units, context=context)
