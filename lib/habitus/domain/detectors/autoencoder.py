"""A denoising autoencoder on a numeric summary of the unit.

A network learns to tell the numbers that are hidden of a training unit from those that are seen. A
unit is strange when its numbers do not follow from each other as they do in others: the score is
how unlikely the errors are, in nats above what units that were not trained on come to.

The network is trained in Keras and asked in numpy, which spares every Python worker the import of
TensorFlow.
"""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, PositiveFloat

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.files import (
    MEND,
    arrays_file,
    read_about,
    read_arrays,
    refuse_another_vocabulary,
)
from habitus.domain.detectors.reconstruction import Known, Network, Reconstruction
from habitus.domain.detectors.summary import summarise
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError

_FEWEST = 20  # training units
_HELD_OUT, _MOST_HELD_OUT = 0.2, 5_000  # of the training units, to stop by and to measure errors on
# A unit is judged in 8 steps; 16 would explain little more of held-out units. Its scores in one
# order and another correlate by about .9, so that the mean of 4 hardly depends on which they are.
_GROUPS, _ORDERS = 8, 4
_FAR = 8.0  # deviations from the mean beyond which a number counts no more
_ABOUT, _ARRAYS = "autoencoder.json", "autoencoder.npz"


class _About(BaseModel):
    """What the network was trained on.

    Args:
        usual: What the training units were like.
        means: [D] of their numbers, where known.
        deviations: [D] likewise, at least a grain of the column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    means: tuple[float, ...]
    deviations: tuple[PositiveFloat, ...]


class AutoencoderDetector:
    """How far a unit's numbers are from what the others of them tell."""

    name: ClassVar[str] = "autoencoder"

    def __init__(
        self, vocabulary: Vocabulary, about: _About, reconstruction: Reconstruction
    ) -> None:
        self._vocabulary = vocabulary
        self._about = about
        self._reconstruction = reconstruction

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self:
        """Train the network on four training units in five, and learn its errors on the others.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of which units are held out, of the weights and of what is hidden.

        Raises:
            TrainingError: There are fewer than 20 units, or the loss is no number.
        """
        # Only training needs TensorFlow, which takes seconds to import.
        from habitus.domain.models.autoencoder import fit

        if len(units) < _FEWEST:
            problem = f"{len(units)} training units, fewer than {_FEWEST}"
            raise TrainingError("sequences", problem, "Move the split.")
        matrix, features = summarise(units, vocabulary)
        grains = np.array([feature.grain for feature in features])
        about = _scaled_by(matrix, Usual.fit(matrix, features, vocabulary), grains)
        values, known = _numbers(matrix, about)
        random = np.random.default_rng([seed, 0])
        drawn = random.permutation(len(units))
        out, rest = np.split(drawn, [min(int(len(units) * _HELD_OUT), _MOST_HELD_OUT)])
        held_out = values[out], known[out]
        weights = fit(values[rest], known[rest], held_out, _GROUPS, seed)
        # More exact than in training: a score is not to depend on the other units of its batch.
        exact = [array.astype(np.float64) for array in weights]
        network = Network(exact[::2], exact[1::2])
        orders = np.stack([random.permutation(len(features)) % _GROUPS for _ in range(_ORDERS)])
        least = grains / np.asarray(about.deviations)
        return cls(vocabulary, about, Reconstruction.fit(network, orders, *held_out, least))

    def score(self, units: Units) -> Scores:
        """[N] nats above those expected; an ordinary unit is near 0 or below."""
        matrix, _ = summarise(units, self._vocabulary)
        scores: Scores = self._excess(matrix).sum(axis=1)
        return scores

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit by their nats above those expected."""
        matrix, features = summarise(units, self._vocabulary)
        return self._about.usual.reasons(matrix, self._excess(matrix), features, count)

    def _excess(self, matrix: Floats) -> Scores:
        return self._reconstruction.excess(*_numbers(matrix, self._about))

    def to_files(self) -> dict[str, bytes]:
        """The network and its errors as arrays, what it was trained on as JSON."""
        about = self._about.model_dump_json(indent=1).encode()
        return {_ABOUT: about, _ARRAYS: arrays_file(self._reconstruction.to_arrays())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT, [_ARRAYS])
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        width = len(about.usual.features)
        if not width == len(about.means) == len(about.deviations):
            problem = f"not every of {width} features has a mean and a deviation"
            raise ArtefactError(_ABOUT, problem, MEND)
        arrays = read_arrays(files, _ARRAYS)
        return cls(vocabulary, about, Reconstruction.from_arrays(arrays, width, _ARRAYS))


def _scaled_by(matrix: Floats, usual: Usual, grains: npt.NDArray[np.float64]) -> _About:
    """Means and deviations of [N, D] summaries, over the numbers that are known."""
    known = np.isfinite(matrix)
    count = known.sum(axis=0).clip(min=1)
    means = np.where(known, matrix, 0).sum(axis=0, dtype=np.float64) / count
    squares = np.where(known, matrix - means, 0) ** 2
    deviations = np.maximum(np.sqrt(squares.sum(axis=0) / count), grains)
    return _About(usual=usual, means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))


def _numbers(matrix: Floats, about: _About) -> tuple[Floats, Known]:
    """[N, D] the columns by deviation from their means, 0 where missing; [N, D] whether known."""
    known = np.isfinite(matrix)
    scaled = (matrix - np.asarray(about.means)) / np.asarray(about.deviations)
    return np.where(known, scaled.clip(-_FAR, _FAR), 0).astype(np.float32), known
