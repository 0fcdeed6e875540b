"""Detectors by name. Each is imported when asked for, so that none needs the others' libraries."""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.files import SELECTION
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, nearest

_CLASSES = {
    "behaviour": ("behaviour", "BehaviourDetector"),
    "markov": ("markov", "MarkovDetector"),
    "conduct": ("conduct_forest", "ConductDetector"),
    "isolation_forest": ("isolation_forest", "IsolationForestDetector"),
    "autoencoder": ("autoencoder", "AutoencoderDetector"),
    "count_distance": ("count_distance", "CountDistanceDetector"),
    "ecod": ("ecod", "EcodDetector"),
    "kmeans": ("kmeans", "KMeansDetector"),
    "bisecting_kmeans": ("kmeans", "BisectingKMeansDetector"),
    "gradient_boosting": ("trees", "GradientBoostingDetector"),
    "random_forest": ("trees", "RandomForestDetector"),
    "logistic_regression": ("linear", "LogisticRegressionDetector"),
    "linear_svm": ("linear", "LinearSvmDetector"),
    "fine_tuned": ("fine_tuned", "FineTunedDetector"),
    "ensemble": ("ensemble", "EnsembleDetector"),
    "selected": ("selected", "SelectedDetector"),
}
# Those that learn from labels which units are anomalous.
SUPERVISED = frozenset(
    {"gradient_boosting", "random_forest", "logistic_regression", "linear_svm", "fine_tuned"}
)
# Those that Spark's MLlib fits on all units, once a sample has told how.
CLUSTERS = frozenset({"kmeans", "bisecting_kmeans"})


def detector_class(name: str) -> type[Detector]:
    """The class of a detector.

    Raises:
        ArtefactError: There is no such detector.
    """
    if name not in _CLASSES:
        raise ArtefactError("detector", f"{name!r} is unknown", nearest(name, _CLASSES))
    module, kind = _CLASSES[name]
    return cast(type[Detector], getattr(import_module(f"habitus.domain.detectors.{module}"), kind))


def load_detector(name: str, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Detector:
    """Read a fitted detector from the files of its artefact.

    Raises:
        ArtefactError: There is no such detector, or its files do not fit.
    """
    kind = detector_class("selected" if SELECTION in files else name)
    return kind.from_files(files, vocabulary)
