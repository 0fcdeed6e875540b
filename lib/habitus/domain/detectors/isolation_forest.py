"""An isolation forest on a numeric summary of the unit, see `forest`."""

from collections.abc import Mapping
from typing import ClassVar, Self

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.forest import Forest
from habitus.domain.detectors.summary import summarise
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary


class IsolationForestDetector:
    """How soon random cuts separate a unit's summary from those of training units."""

    name: ClassVar[str] = "isolation_forest"

    def __init__(self, vocabulary: Vocabulary, forest: Forest) -> None:
        self._vocabulary = vocabulary
        self._forest = forest

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self:
        """Grow the trees on training units.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of the samples and the cuts.

        Raises:
            TrainingError: There are fewer than two units, or the ONNX forest is not the same.
        """
        return cls(vocabulary, Forest.fit(*summarise(units, vocabulary), vocabulary, seed))

    def score(self, units: Units) -> Scores:
        """[N] between 0 and 1; an ordinary unit is near 0.5 or below."""
        return self._forest.scores(summarise(units, self._vocabulary)[0])

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit whose unusual values raise the score most.

        A feature counts by how much the score falls once its median is put in its place. Its
        surprise is that of a value as far out, on either side, among training units.
        """
        matrix, features = summarise(units, self._vocabulary)
        falls = self._forest.falls(matrix)
        return self._forest.usual.reasons(matrix, falls, features, count)

    def to_files(self) -> dict[str, bytes]:
        """The forest's files."""
        return self._forest.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        return cls(vocabulary, Forest.from_files(files, vocabulary))
