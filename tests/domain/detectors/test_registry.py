"""Detectors by name."""

import subprocess
import sys
from typing import get_args

import pytest
from builders import units, vocabulary

from habitus.domain.detectors import detector_class, load_detector
from habitus.domain.detectors.markov import MarkovDetector
from habitus.errors import ArtefactError
from habitus.setting_types import DetectorName

pytestmark = pytest.mark.plain


def test_a_detector_is_read_by_its_name() -> None:
    words = vocabulary()
    files = MarkovDetector.fit(units(20, 1, words), words, 7).to_files()
    assert isinstance(load_detector("markov", files, words), MarkovDetector)


@pytest.mark.parametrize("name", get_args(DetectorName))
def test_every_detector_goes_by_its_own_name(name: str) -> None:
    assert detector_class(name).name == name


def test_an_unknown_detector_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ArtefactError, match="Did you mean 'markov'"):
        detector_class("markow")


@pytest.mark.parametrize("name", ["markov", "autoencoder", "ecod"])
def test_to_score_a_detector_needs_no_library_of_the_others(name: str) -> None:
    code = (
        "import sys; from habitus.domain.detectors import detector_class;"
        f"detector_class('{name}');"
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
