"""Trained models, loaded from the lake once per process."""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from pydantic import ValidationError

from habitus.domain.calibration import Calibration
from habitus.domain.detectors import load_detector
from habitus.domain.detectors.base import Detector
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.artefacts import ArtefactStore
from habitus.errors import ArtefactError


@dataclass(frozen=True)
class Model:
    """A fitted detector with what it takes to read units and to judge scores."""

    model_id: str
    detector: Detector
    vocabulary: Vocabulary
    calibration: Calibration


# One thread loads at a time: Python before 3.11.8 fails when two parse at once, as numpy does in a
# file's header (CPython issue 106905), and no model is loaded twice.
_LOADING = Lock()


def load_model(root: str, model_id: str) -> Model:
    """Load a model from the lake; a process that asks again gets the same one.

    Raises:
        ArtefactError: The model is not there, damaged, or of an unknown detector.
    """
    with _LOADING:
        return _load(root, model_id)


# More than there are detectors: of models asked for in turn, a smaller cache would hold none.
@lru_cache(maxsize=32)
def _load(root: str, model_id: str) -> Model:
    files = ArtefactStore(root).read(model_id)
    place = f"{root}/models/{model_id}"
    try:
        vocabulary = Vocabulary.model_validate_json(files["vocabulary.json"])
        calibration = Calibration.model_validate_json(files["calibration.json"])
    except KeyError as error:
        raise ArtefactError(place, f"{error} is missing", "Train the model again.") from error
    except ValidationError as error:
        raise ArtefactError(
            place, f"a file does not fit: {error.errors()[0]['msg']}", "Train the model again."
        ) from error
    try:
        detector = load_detector(model_id.rpartition("-")[0], files, vocabulary)
    except ArtefactError as error:
        raise ArtefactError(f"{place}/{error.place}", error.problem, error.mend) from error
    return Model(model_id, detector, vocabulary, calibration)
