"""Detectors without labels, each with the scores of training units that it was not fitted on."""

from collections.abc import Callable

import numpy as np
from _trained import Learning, trained
from numpy.typing import NDArray

from habitus.domain.detectors.autoencoder import AutoencoderDetector
from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.combination import Combination
from habitus.domain.detectors.conduct_forest import ConductDetector
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.domain.detectors.ecod import EcodDetector
from habitus.domain.detectors.ensemble import EnsembleDetector
from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.detectors.kmeans import BisectingKMeansDetector, KMeansDetector
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary

FOLDS = 10
MEMBERS = ("count_distance", "markov")  # of the ensemble

Numbers = NDArray[np.float64]
Alone = Callable[[Units, Vocabulary, int], Detector]
# Training units, vocabulary and seed -> the detector, and [N] scores of the training units.
Fit = Callable[[Units, Vocabulary, int], tuple[Detector, Numbers]]


def with_count_distance(
    training: Units, vocabulary: Vocabulary, seed: int
) -> tuple[Detector, Numbers]:
    """The detector, and the scores of training units that it left out."""
    detector = CountDistanceDetector.fit(training, vocabulary, seed)
    return detector, detector.left_out(training)


def in_folds(alone: Alone) -> Fit:
    """A detector without a shortcut: training units are left out a tenth at a time."""

    def fit(training: Units, vocabulary: Vocabulary, seed: int) -> tuple[Detector, Numbers]:
        fold = np.random.default_rng(seed).permutation(len(training)) % FOLDS
        scores = np.empty(len(training))
        for number in range(FOLDS):
            out = np.flatnonzero(fold == number)
            fitted = alone(training.take(np.flatnonzero(fold != number)), vocabulary, seed)
            scores[out] = fitted.score(training.take(out))
        return alone(training, vocabulary, seed), scores

    return fit


def behaviour(training: Units, vocabulary: Vocabulary, seed: int) -> BehaviourDetector:
    """The behaviour model with the default settings; a tenth of the units stops it."""
    order = np.random.default_rng(seed).permutation(len(training))
    stops, learns = np.split(order, [len(order) // 10])
    learning = Learning.default()
    return trained(training.take(learns), training.take(stops), vocabulary, seed, learning)


def ensemble(training: Units, vocabulary: Vocabulary, seed: int) -> tuple[Detector, Numbers]:
    """Its members together, and the same of the scores of training units that they left out."""
    fitted = {name: DETECTORS[name](training, vocabulary, seed) for name in MEMBERS}
    scores = np.stack([left_out for _, left_out in fitted.values()], axis=1)
    none, once = np.zeros(len(training), dtype=bool), np.ones(len(training))
    combination = Combination.fit(MEMBERS, scores, none, once)
    members = {name: detector for name, (detector, _) in fitted.items()}
    return EnsembleDetector(vocabulary, members, combination), combination.apply(scores)


DETECTORS: dict[str, Fit] = {
    "count_distance": with_count_distance,
    "markov": in_folds(MarkovDetector.fit),
    "ensemble": ensemble,
    "conduct": in_folds(ConductDetector.fit),
    "isolation_forest": in_folds(IsolationForestDetector.fit),
    "ecod": in_folds(EcodDetector.fit),
    "kmeans": in_folds(KMeansDetector.fit),
    "bisecting_kmeans": in_folds(BisectingKMeansDetector.fit),
    "autoencoder": in_folds(AutoencoderDetector.fit),
    "behaviour": in_folds(behaviour),
}
# Fitted in folds they take minutes for each draw: judged on the official split alone.
SLOW = {"autoencoder", "behaviour"}
# Those that chance has a part in.
RANDOM = {"conduct", "isolation_forest", "kmeans", "bisecting_kmeans", "autoencoder", "behaviour"}
