"""Weighted sums of a numeric description of the unit, learned from labels.

Logistic regression, and a linear support vector machine whose margin becomes a probability by a
logistic curve fitted on units that were not fitted on (Platt 1999). Numbers are first brought to
the same scale, missing ones are medians and say so in a column of their own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.description import Description
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

_ABOUT = "linear.json"
_PENALTIES = (0.001, 0.01, 0.1, 1.0)  # what is tried, as scikit-learn's C
_ITERATIONS = 2000
_CURVE = 100.0  # the same of the logistic curve over margins
_FAR = 8.0  # deviations from the mean beyond which a number counts no more


class _About(BaseModel):
    """The sum, and what it was learned from.

    Args:
        usual: What the normal training units were like.
        means: [2 D] of their numbers, and of how many are missing.
        deviations: [2 D] of their numbers, 1 where there is none and of how many are missing.
        weights: [2 D] of what is above the mean, by deviation, in log-odds.
        constant: Log-odds of an average normal unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    constant: float


class _Linear:
    """A weighted sum of a unit's numbers."""

    name: ClassVar[str]

    def __init__(self, description: Description, about: _About) -> None:
        self._description = description
        self._about = about
        self._weights = np.asarray(about.weights)

    @classmethod
    def fit(cls, labelled: Labelled, vocabulary: Vocabulary, seed: int) -> Self:
        """Weigh the numbers so that the sum tells anomalous training units from the others.

        Args:
            labelled: Training units and what is known of them.
            vocabulary: What the tokens mean.
            seed: Of the order in which units are looked at.

        Raises:
            TrainingError: Too few units are known to be anomalous, or normal, or nothing tells
                them apart.
        """
        labelled.refuse_too_few()
        description = Description.fit(labelled.units, vocabulary)
        matrix, features = description.of(labelled.units, trained=True)
        usual = Usual.fit(matrix[~labelled.anomalous], features, vocabulary)
        normal = _columns(matrix[~labelled.anomalous], usual)
        deviations = normal.std(axis=0)
        deviations[matrix.shape[1] :] = 1
        about = _About(
            usual=usual,
            means=tuple(normal.mean(axis=0).tolist()),
            deviations=tuple(np.where(deviations > 0, deviations, 1).tolist()),
            weights=(),
            constant=0.0,
        )
        weights, constant = cls._weigh(_numbers(matrix, about), labelled, seed)
        told = {"weights": tuple(weights.tolist()), "constant": float(constant)}
        return cls(description, about.model_copy(update=told))

    @classmethod
    def _estimators(cls, seed: int) -> Iterable[Any]:
        """What is tried, each with a `decision_function`."""
        raise NotImplementedError

    @classmethod
    def _weigh(cls, numbers: Scores, labelled: Labelled, seed: int) -> tuple[Scores, float]:
        """Weights and constant in log-odds, of the estimator that ranks other users' units best."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import average_precision_score

        truth, counts = labelled.anomalous, labelled.weights
        folds = list(labelled.folds())
        tried = []
        for estimator in cls._estimators(seed):
            margins = np.empty(len(truth))
            for fitted, judged in folds:
                estimator.fit(numbers[fitted], truth[fitted], counts[fitted])
                margins[judged] = estimator.decision_function(numbers[judged])
            precision = average_precision_score(truth, margins, sample_weight=counts)
            tried.append((precision, estimator, margins))
        _, best, margins = max(tried, key=lambda one: one[0])
        curve = LogisticRegression(C=_CURVE).fit(margins[:, None], truth, counts)
        best.fit(numbers, truth, counts)
        slope, start = float(curve.coef_[0, 0]), float(curve.intercept_[0])
        if slope <= 0:
            raise TrainingError(
                "labels",
                f"{int(truth.sum())} anomalous training units cannot be told from the others by "
                f"{cls.name}",
                "Add features that tell them apart, or take other detectors.",
            )
        return slope * best.coef_[0], slope * float(best.intercept_[0]) + start

    def score(self, units: Units) -> Scores:
        """[N] log-odds that a unit is anomalous, by the labels trained on."""
        matrix, _ = self._description.of(units)
        scores: Scores = _numbers(matrix, self._about) @ self._weights + self._about.constant
        return scores

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit that raise its log-odds most.

        A feature is worth what it adds to the sum of an average normal unit.
        """
        matrix, features = self._description.of(units)
        width = matrix.shape[1]
        parts = _numbers(matrix, self._about) * self._weights
        worth = parts[:, :width] + parts[:, width:]
        return self._about.usual.reasons(matrix, worth, features, count)

    def to_files(self) -> dict[str, bytes]:
        """The sum as JSON, and the description's files."""
        about = {_ABOUT: self._about.model_dump_json(indent=1).encode()}
        return about | self._description.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: The file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        return cls(Description.from_files(files, vocabulary), about)


class LogisticRegressionDetector(_Linear):
    """The sum that makes the labels likeliest."""

    name: ClassVar[str] = "logistic_regression"

    @classmethod
    def _estimators(cls, seed: int) -> Iterable[Any]:
        from sklearn.linear_model import LogisticRegression

        return [
            LogisticRegression(C=penalty, max_iter=_ITERATIONS, random_state=seed)
            for penalty in _PENALTIES
        ]


class LinearSvmDetector(_Linear):
    """The sum with the widest margin between the two kinds, each counted as much as the other."""

    name: ClassVar[str] = "linear_svm"

    @classmethod
    def _estimators(cls, seed: int) -> Iterable[Any]:
        from sklearn.svm import LinearSVC

        return [
            LinearSVC(
                C=penalty,
                class_weight="balanced",
                dual=False,
                max_iter=_ITERATIONS,
                random_state=seed,
            )
            for penalty in _PENALTIES
        ]


def _columns(matrix: Floats, usual: Usual) -> npt.NDArray[np.float64]:
    """[N, 2 D] numbers, the median where one is missing, and whether it was."""
    return np.hstack([usual.filled(matrix), np.isnan(matrix)]).astype(np.float64)


def _numbers(matrix: Floats, about: _About) -> npt.NDArray[np.float64]:
    """[N, 2 D] the columns by deviation from their means."""
    columns = _columns(matrix, about.usual)
    scaled = (columns - np.asarray(about.means)) / np.asarray(about.deviations)
    near: npt.NDArray[np.float64] = scaled.clip(-_FAR, _FAR)
    return near
