"""Detectors by name. Each is imported when asked for, so that none needs the others' libraries."""

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from habitus.domain.detectors.base import Detector
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, nearest

_CLASSES = {
    "behaviour": "BehaviourDetector",
    "markov": "MarkovDetector",
    "isolation_forest": "IsolationForestDetector",
}


def detector_class(name: str) -> type[Detector]:
    """The class of a detector.

    Raises:
        ArtefactError: There is no such detector.
    """
    if name not in _CLASSES:
        raise ArtefactError("detector", f"{name!r} is unknown", nearest(name, _CLASSES))
    module = import_module(f"habitus.domain.detectors.{name}")
    return cast(type[Detector], getattr(module, _CLASSES[name]))


def load_detector(name: str, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Detector:
    """Read a fitted detector from the files of its artefact.

    Raises:
        ArtefactError: There is no such detector, or its files do not fit.
    """
    return detector_class(name).from_files(files, vocabulary)
