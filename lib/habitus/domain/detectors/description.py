"""What detectors that learn from labels look at: a unit's summary and, of a session, its conduct.

Counts and amounts tell the kinds of anomaly apart that labels name, and `Conduct` tells sessions of
kinds that none names from usual ones. An event unit's summary compares it with its history itself,
and is all.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np

from habitus.domain.detectors.conduct import Conduct
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary


class Description:
    """Describes units by numbers, as learned from training units."""

    def __init__(self, vocabulary: Vocabulary, conduct: Conduct | None = None) -> None:
        self._vocabulary = vocabulary
        self._conduct = conduct

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
        matrix, features = summarise(labelled.units, vocabulary)
        if vocabulary.unit_kind != "session":
            return cls(vocabulary), matrix, features
        conduct, numbers = Conduct.learned(labelled.units, vocabulary, labelled.folds)
        described = np.hstack([matrix, numbers]).astype(np.float32)
        return cls(vocabulary, conduct), described, (*features, *conduct.features)

    def of(self, units: Units) -> tuple[Floats, tuple[Feature, ...]]:
        """Describe N units that it was not fitted on.

        Returns:
            [N, D] float32, NaN where a number is not known, and the D columns' meaning.
        """
        matrix, features = summarise(units, self._vocabulary)
        if self._conduct is None:
            return matrix, features
        described = np.hstack([matrix, self._conduct.of(units)]).astype(np.float32)
        return described, (*features, *self._conduct.features)

    def to_files(self) -> dict[str, bytes]:
        """The files of the conduct, where there is one."""
        return {} if self._conduct is None else self._conduct.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        if vocabulary.unit_kind != "session":
            return cls(vocabulary)
        return cls(vocabulary, Conduct.from_files(files, vocabulary))
