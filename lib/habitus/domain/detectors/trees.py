"""Decision trees on a numeric description of the unit, grown by LightGBM from labels.

Ke et al. (2017), "LightGBM: A highly efficient gradient boosting decision tree". A missing number
is a value of its own to a tree. Trees are kept as LightGBM's text, which is read and never
executed; reasons are the exact Shapley values of what they add up to (Lundberg et al. 2020, "From
local explanations to global understanding with explainable AI for trees").
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import lightgbm
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy import optimize
from scipy.special import expit, logit

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.description import Description
from habitus.domain.detectors.files import MEND, read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

_TREES, _ABOUT = "trees-{}.txt", "trees.json"
_COMMON: dict[str, Any] = {
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
# Sums of trees that differ in their samples alone, the mean of which counts: with few anomalous
# units what one of them learns is partly luck.
_BOOSTERS = 5
_MOST_TREES = 600
_PATIENCE = 50  # trees without progress before boosting stops
# What is tried, by the log-likelihood of units of users that were not fitted on.
_BOOSTED = [
    {"num_leaves": leaves, "min_data_in_leaf": least, "feature_fraction": share}
    for leaves, least in ((4, 20), (8, 50), (16, 50))
    for share in (0.3, 0.6)
]
_FOREST = {
    # A leaf then holds the share of anomalous units, and a forest the mean of its leaves.
    "objective": "regression",
    "boosting": "rf",
    "num_leaves": 127,
    "min_data_in_leaf": 5,
    "bagging_freq": 1,
    "bagging_fraction": 0.632,
    "feature_fraction_bynode": 0.3,
}
_FOREST_TREES = 300
_LEAST = 1e-6  # a probability is held to be at least so far from 0 and 1


class _About(BaseModel):
    """What the trees were grown on.

    Args:
        usual: What the training units were like.
        chosen: The parameters of the trees.
        trees: How many, in each sum.
        sums: How many sums of trees.
        shift: What is added to their log-odds, to make these those of units not fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    chosen: dict[str, float | str]
    trees: int
    sums: int = Field(ge=1)
    shift: FiniteFloat


class _Trees:
    """Sums of trees and what they were grown on."""

    name: ClassVar[str]
    sums: ClassVar[int]

    def __init__(self, description: Description, about: _About, sums: Sequence[str]) -> None:
        self._description = description
        self._about = about
        self._texts = sums
        self._sums = [lightgbm.Booster(model_str=text) for text in sums]

    @classmethod
    def fit(cls, labelled: Labelled, vocabulary: Vocabulary, seed: int) -> Self:
        """Grow trees that tell anomalous training units from the others.

        Args:
            labelled: Training units and what is known of them.
            vocabulary: What the tokens mean.
            seed: Of the samples of units and features.

        Raises:
            TrainingError: Too few units are known to be anomalous, or normal.
        """
        labelled.refuse_too_few()
        description, matrix, features = Description.learned(labelled, vocabulary)
        chosen, trees = cls._choose(matrix, labelled, _COMMON | {"seed": seed})
        data = lightgbm.Dataset(matrix, labelled.anomalous, weight=labelled.weights)
        sums = [
            lightgbm.train(_COMMON | chosen | {"seed": seed + number}, data, trees)
            for number in range(cls.sums)
        ]
        usual = Usual.fit(matrix[~labelled.anomalous], features, vocabulary)
        shift = cls._shift(matrix, labelled, _COMMON | chosen | {"seed": seed}, trees)
        about = _About(usual=usual, chosen=chosen, trees=trees, sums=cls.sums, shift=shift)
        return cls(description, about, [one.model_to_string() for one in sums])

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """The parameters, and how many trees."""
        raise NotImplementedError

    @classmethod
    def _shift(
        cls, matrix: Floats, labelled: Labelled, parameters: Mapping[str, Any], trees: int
    ) -> float:
        """What is to be added to the log-odds."""
        raise NotImplementedError

    def score(self, units: Units) -> Scores:
        """[N] log-odds that a unit is anomalous, by the labels trained on."""
        if len(units) == 0:
            return np.empty(0)
        matrix, _ = self._description.of(units)
        return self._log_odds(matrix) + self._about.shift

    def _log_odds(self, matrix: Floats) -> Scores:
        raise NotImplementedError

    def _predicted(self, matrix: Floats, **options: bool) -> Scores:
        """What LightGBM predicts, the mean over the sums."""
        found = [one.predict(matrix, num_threads=1, **options) for one in self._sums]
        mean: Scores = np.mean(found, axis=0)
        return mean

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit that raise what the trees add up to most."""
        if len(units) == 0:
            return []
        matrix, features = self._description.of(units)
        worth = self._predicted(matrix, pred_contrib=True)
        return self._about.usual.reasons(matrix, worth[:, :-1], features, count)

    def to_files(self) -> dict[str, bytes]:
        """The trees as LightGBM's text, what they were grown on as JSON, and the description's."""
        sums = {_TREES.format(at): text.encode() for at, text in enumerate(self._texts)}
        about = {_ABOUT: self._about.model_dump_json(indent=1).encode()}
        return sums | about | self._description.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        names = [_TREES.format(at) for at in range(about.sums)]
        description = Description.from_files(files, vocabulary)
        return cls(description, about, [_readable(name, files, about) for name in names])


class GradientBoostingDetector(_Trees):
    """Trees that each mend what the ones before got wrong."""

    name: ClassVar[str] = "gradient_boosting"
    sums: ClassVar[int] = _BOOSTERS

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        tried = []
        for candidate in _BOOSTED:
            parameters = candidate | {
                "objective": "binary",
                "learning_rate": 0.05,
                "bagging_freq": 1,
                "bagging_fraction": 0.8,
                "lambda_l2": 1.0,
            }
            losses = lightgbm.cv(
                {**fixed, **parameters},
                lightgbm.Dataset(matrix, labelled.anomalous, weight=labelled.weights),
                _MOST_TREES,
                folds=labelled.folds,
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )["valid binary_logloss-mean"]
            tried.append((losses[-1], len(losses), parameters))
        _, trees, parameters = min(tried, key=lambda one: one[0])
        return parameters, trees

    @classmethod
    def _shift(
        cls, matrix: Floats, labelled: Labelled, parameters: Mapping[str, Any], trees: int
    ) -> float:
        # How many there are was chosen by the likelihood of units that were not fitted on.
        return 0.0

    def _log_odds(self, matrix: Floats) -> Scores:
        return self._predicted(matrix, raw_score=True)


class RandomForestDetector(_Trees):
    """Trees that were each grown on a sample of the units and of the features."""

    name: ClassVar[str] = "random_forest"
    sums: ClassVar[int] = 1

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        return dict(_FOREST), _FOREST_TREES

    @classmethod
    def _shift(
        cls, matrix: Floats, labelled: Labelled, parameters: Mapping[str, Any], trees: int
    ) -> float:
        """With which units of users not fitted on are as many anomalous ones as is expected.

        Near anomalous units that it grew on, a forest expects more than there are. Calibration in
        the large: Cox (1958), "Two further applications of a model for binary regression".
        """
        odds = np.empty(len(matrix))
        for fitted, judged in labelled.folds:
            known = lightgbm.Dataset(
                matrix[fitted], labelled.anomalous[fitted], weight=labelled.weights[fitted]
            )
            forest = lightgbm.train(dict(parameters), known, trees)
            odds[judged] = _odds(forest.predict(matrix[judged], num_threads=1))

        def too_many(shift: float) -> float:
            return float(((expit(odds + shift) - labelled.anomalous) * labelled.weights).sum())

        most = -2 * float(logit(_LEAST))
        return float(optimize.brentq(too_many, -most, most))

    def _log_odds(self, matrix: Floats) -> Scores:
        return _odds(self._predicted(matrix))


def _odds(chances: Scores) -> Scores:
    odds: Scores = logit(chances.clip(_LEAST, 1 - _LEAST))
    return odds


def _readable(name: str, files: Mapping[str, bytes], about: _About) -> str:
    """The text of a sum of trees, once it is known to be one.

    Raises:
        ArtefactError: The file is missing, damaged, or of other features.
    """
    if name not in files:
        raise ArtefactError(name, "no such file in the artefact", MEND)
    try:
        text = files[name].decode()
        width = lightgbm.Booster(model_str=text).num_feature()
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise ArtefactError(name, f"not readable: {error}", MEND) from error
    if width != len(about.usual.features):
        problem = f"trees of {width} features, not of {len(about.usual.features)}"
        raise ArtefactError(name, problem, MEND)
    return text
