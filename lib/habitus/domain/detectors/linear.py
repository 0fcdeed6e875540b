"""Weighted sums of a numeric description of the unit, learned from labels.

Logistic regression, and a linear support vector machine whose margin becomes a probability by a
logistic curve fitted on units that were not fitted on (Platt 1999). Numbers are first brought to
the same scale, missing ones are medians and say so in a column of their own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.description import Description
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.standard import Standard
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary

_ABOUT = "linear.json"
_PENALTIES = (0.001, 0.01, 0.1, 1.0)  # what is tried, as scikit-learn's C
_ITERATIONS = 2000


class _About(Standard):
    """The sum, and what it was learned from.

    Args:
        weights: [2 D] of what is above the mean, by deviation, in log-odds.
        constant: Log-odds of an average normal unit.
    """

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
        description, matrix, features = Description.learned(labelled, vocabulary)
        standard = Standard.fit(matrix[~labelled.anomalous], features, vocabulary)
        weights, constant = cls._weigh(standard.numbers(matrix), labelled, seed)
        about = _About(**dict(standard), weights=tuple(weights.tolist()), constant=float(constant))
        return cls(description, about)

    @classmethod
    def _estimators(cls, seed: int) -> Iterable[Any]:
        """What is tried, each with a `decision_function`."""
        raise NotImplementedError

    @classmethod
    def _weigh(cls, numbers: Scores, labelled: Labelled, seed: int) -> tuple[Scores, float]:
        """Weights and constant in log-odds, of the estimator that ranks other users' units best."""
        from sklearn.metrics import average_precision_score

        truth, counts = labelled.anomalous, labelled.weights
        tried = []
        for estimator in cls._estimators(seed):
            margins = np.empty(len(truth))
            for fitted, judged in labelled.folds:
                estimator.fit(numbers[fitted], truth[fitted], counts[fitted])
                margins[judged] = estimator.decision_function(numbers[judged])
            precision = average_precision_score(truth, margins, sample_weight=counts)
            tried.append((precision, estimator, margins))
        _, best, margins = max(tried, key=lambda one: one[0])
        best.fit(numbers, truth, counts)
        slope, start = labelled.curve(margins, cls.name)
        return slope * best.coef_[0], slope * float(best.intercept_[0]) + start

    def score(self, units: Units) -> Scores:
        """[N] log-odds that a unit is anomalous, by the labels trained on."""
        matrix, _ = self._description.of(units)
        scores: Scores = self._about.numbers(matrix) @ self._weights + self._about.constant
        return scores

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit that raise its log-odds most.

        A feature is worth what it adds to the sum of an average normal unit.
        """
        matrix, features = self._description.of(units)
        width = matrix.shape[1]
        parts = self._about.numbers(matrix) * self._weights
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
