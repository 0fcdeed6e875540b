"""Which features a detector needs: what it loses on validation units when one of them says nothing.

Permutation importance (Breiman 2001, "Random forests", section 10; for any model Fisher et al.
2019, section 3): a feature's values change places among the units, and the average precision that
is lost by that is what the feature was worth, beside all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.labelled import FEWEST, Labelled
from habitus.domain.detectors.selected import SelectedDetector, without
from habitus.domain.units import Floats
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

_REPEATS = 5
_MOST_NORMAL = 5_000  # normal units that are scored again for each feature and repeat


def constant_features(context: Floats, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the features whose value, or lack of one, is the same of all units.

    Args:
        context: [N, C] values of at least one unit, NaN where one has none.
        names: [C] their names.
    """
    same = (context == context[:1]) | (np.isnan(context) & np.isnan(context[:1]))
    return tuple(name for name, one in zip(names, same.all(axis=0), strict=True) if one)


@dataclass(frozen=True)
class Importance:
    """What a feature is worth.

    Args:
        feature: Its name in the features table.
        lost: Average precision lost without it, the mean over repeats.
        error: The standard error of that mean.
    """

    feature: str
    lost: float
    error: float

    @property
    def is_needed(self) -> bool:
        """Whether more is lost than chance may explain."""
        return self.lost > self.error


def importances(
    detector: Detector, validation: Labelled, vocabulary: Vocabulary, seed: int
) -> tuple[Importance, ...]:
    """What each feature is worth to a detector, the most important first.

    Args:
        detector: One that was not fitted on the validation units.
        validation: Units and what is known of them.
        vocabulary: Names the features.
        seed: Of how values change places, and of which normal units are asked.

    Raises:
        TrainingError: Too few validation units are known to be anomalous.
    """
    known = int(validation.anomalous.sum())
    if known < FEWEST:
        raise TrainingError(
            "train.select_features=true",
            f"{known} validation units are known to be anomalous, fewer than {FEWEST}",
            "Ingest more labels, move split.train_until, or set train.select_features=false.",
        )
    random = np.random.default_rng(seed)
    asked = _some(validation, random)
    whole = _precision(detector, asked, asked.units.context)
    found = []
    for column, name in enumerate(vocabulary.context):
        lost = np.empty(_REPEATS)
        for repeat in range(_REPEATS):
            context = asked.units.context.copy()
            context[:, column] = random.permutation(context[:, column])
            lost[repeat] = whole - _precision(detector, asked, context)
        error = lost.std(ddof=1) / np.sqrt(_REPEATS)
        found.append(Importance(name, float(lost.mean()), float(error)))
    return tuple(sorted(found, key=lambda one: (-one.lost, one.feature)))


def selected(
    fit: Callable[[Labelled], Detector],
    labelled: Labelled,
    validation: Labelled,
    vocabulary: Vocabulary,
    seed: int,
) -> tuple[Detector, tuple[Importance, ...], tuple[str, ...]]:
    """A detector without the features that it does not need, where that costs it nothing.

    Args:
        fit: Fits the detector.
        labelled: What it is fitted on.
        validation: What decides.
        vocabulary: Names the features.
        seed: Of how values change places, and of which normal units are asked.

    Returns:
        The detector; what each feature is worth to one that has all; those that are dropped.

    Raises:
        TrainingError: Too few validation units are known to be anomalous.
    """
    whole = fit(labelled)
    found = importances(whole, validation, vocabulary, seed)
    dropped = tuple(sorted(one.feature for one in found if not one.is_needed))
    if not dropped:
        return whole, found, ()
    fewer = replace(labelled, units=without(labelled.units, dropped, vocabulary))
    smaller = SelectedDetector(fit(fewer), dropped, vocabulary)
    asked = _some(validation, np.random.default_rng(seed))
    context = asked.units.context
    if _precision(smaller, asked, context) < _precision(whole, asked, context):
        return whole, found, ()
    return smaller, found, dropped


def _some(validation: Labelled, random: np.random.Generator) -> Labelled:
    """All anomalous units and at most _MOST_NORMAL others, which stand for all of them."""
    normal = np.flatnonzero(~validation.anomalous)
    chosen = random.choice(normal, min(len(normal), _MOST_NORMAL), replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(validation.anomalous), chosen]))
    scale = np.where(validation.anomalous, 1.0, len(normal) / max(1, len(chosen)))
    return Labelled(
        units=validation.units.take(rows),
        anomalous=validation.anomalous[rows],
        weights=(validation.weights * scale)[rows],
        users=validation.users[rows],
    )


def _precision(detector: Detector, asked: Labelled, context: Floats) -> float:
    from sklearn.metrics import average_precision_score

    scores = detector.score(replace(asked.units, context=context))
    return float(average_precision_score(asked.anomalous, scores, sample_weight=asked.weights))
