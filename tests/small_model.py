"""The files of a small model."""

from collections.abc import Mapping

import builders
import numpy as np

from habitus.domain.calibration import Calibration
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.scoring import scores_of
from habitus.domain.vocabulary import Vocabulary


def model_of(words: Vocabulary) -> Mapping[str, bytes]:
    """The files of a model that knows this vocabulary, fitted to few units."""
    some = builders.units(80, 1, builders.vocabulary())
    detector = MarkovDetector.fit(some, words, 7)
    alike = np.empty((len(some), 0), dtype=object)
    calibration = Calibration.fit(scores_of(detector, some), alike)
    return {
        **detector.to_files(),
        "vocabulary.json": words.model_dump_json().encode(),
        "calibration.json": calibration.model_dump_json().encode(),
    }
