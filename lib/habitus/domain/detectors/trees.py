"""Decision trees on a numeric summary of the unit, grown by LightGBM from labels.

Ke et al. (2017), "LightGBM: A highly efficient gradient boosting decision tree". A missing number
is a value of its own to a tree. Trees are kept as LightGBM's text, which is read and never
executed; reasons are the exact Shapley values of what they add up to (Lundberg et al. 2020, "From
local explanations to global understanding with explainable AI for trees").
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import lightgbm
import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import logit

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.files import MEND, read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.summary import summarise
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError

_TREES, _ABOUT = "trees.txt", "trees.json"
_COMMON: dict[str, Any] = {
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
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
        trees: How many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    chosen: dict[str, float | str]
    trees: int


class _Trees:
    """Trees and what they were grown on."""

    name: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary, about: _About, trees: str) -> None:
        self._vocabulary = vocabulary
        self._about = about
        self._text = trees
        self._trees = lightgbm.Booster(model_str=trees)

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
        matrix, features = summarise(labelled.units, vocabulary)
        fixed = _COMMON | {"seed": seed}
        chosen, trees = cls._choose(matrix, labelled, fixed)
        data = lightgbm.Dataset(matrix, labelled.anomalous, weight=labelled.weights)
        grown = lightgbm.train(fixed | chosen, data, trees)
        usual = Usual.fit(matrix[~labelled.anomalous], features, vocabulary)
        about = _About(usual=usual, chosen=chosen, trees=trees)
        return cls(vocabulary, about, grown.model_to_string())

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        """The parameters, and how many trees."""
        raise NotImplementedError

    def score(self, units: Units) -> Scores:
        """[N] log-odds that a unit is anomalous, by the labels trained on."""
        if len(units) == 0:
            return np.empty(0)
        matrix, _ = summarise(units, self._vocabulary)
        return self._log_odds(matrix)

    def _log_odds(self, matrix: Floats) -> Scores:
        raise NotImplementedError

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit that raise what the trees add up to most."""
        if len(units) == 0:
            return []
        matrix, features = summarise(units, self._vocabulary)
        worth = np.asarray(self._trees.predict(matrix, pred_contrib=True, num_threads=1))
        return self._about.usual.reasons(matrix, worth[:, :-1], features, count)

    def to_files(self) -> dict[str, bytes]:
        """The trees as LightGBM's text, what they were grown on as JSON."""
        return {
            _TREES: self._text.encode(),
            _ABOUT: self._about.model_dump_json(indent=1).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file is missing, damaged, or made for another vocabulary.
        """
        about = read_about(_About, files, _ABOUT, [_TREES])
        refuse_another_vocabulary(_ABOUT, about.usual.vocabulary_id, vocabulary)
        try:
            found = cls(vocabulary, about, files[_TREES].decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
            raise ArtefactError(_TREES, f"not readable: {error}", MEND) from error
        width = found._trees.num_feature()
        if width != len(about.usual.features):
            problem = f"trees of {width} features, not of {len(about.usual.features)}"
            raise ArtefactError(_TREES, problem, MEND)
        return found


class GradientBoostingDetector(_Trees):
    """Trees that each mend what the ones before got wrong."""

    name: ClassVar[str] = "gradient_boosting"

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        folds = list(labelled.folds())
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
                folds=folds,
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )["valid binary_logloss-mean"]
            tried.append((losses[-1], len(losses), parameters))
        _, trees, parameters = min(tried, key=lambda one: one[0])
        return parameters, trees

    def _log_odds(self, matrix: Floats) -> Scores:
        return np.asarray(self._trees.predict(matrix, raw_score=True, num_threads=1))


class RandomForestDetector(_Trees):
    """Trees that were each grown on a sample of the units and of the features."""

    name: ClassVar[str] = "random_forest"

    @classmethod
    def _choose(
        cls, matrix: Any, labelled: Labelled, fixed: Mapping[str, Any]
    ) -> tuple[dict[str, Any], int]:
        return dict(_FOREST), _FOREST_TREES

    def _log_odds(self, matrix: Floats) -> Scores:
        shares = np.asarray(self._trees.predict(matrix, num_threads=1))
        odds: Scores = logit(shares.clip(_LEAST, 1 - _LEAST))
        return odds
