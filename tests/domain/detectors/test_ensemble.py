"""Several detectors as one."""

import json
from functools import cache

import numpy as np
import pytest
from builders import oddities, together, units, vocabulary

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.base import Reason
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.domain.detectors.ensemble import EnsembleDetector, _add
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.markov import MarkovDetector
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

NAMES = ("markov", "isolation_forest")


def of_markov_and_counts(odd: int = 30) -> EnsembleDetector:
    words = vocabulary()
    training = units(1000, 1, words)
    members = {
        "markov": MarkovDetector.fit(training, words, 7),
        "count_distance": CountDistanceDetector.fit(training, words, 7),
    }
    validation = together(units(400, 2, words), oddities(odd, 3, words))
    number = np.arange(400 + odd)
    known = Labelled(validation, number >= 400, np.ones(400 + odd), number)
    return EnsembleDetector.fit(members, known, words)


@cache
def fitted() -> EnsembleDetector:
    return of_markov_and_counts()


def test_what_is_unlike_the_training_units_scores_high() -> None:
    words = vocabulary()

    normal, odd = fitted().score(units(400, 4, words)), fitted().score(oddities(40, 5, words))

    assert odd.min() > np.quantile(normal, 0.99)


def test_reasons_are_the_members_own_by_the_members_shares() -> None:
    (reasons,) = fitted().explain(oddities(1, 6, vocabulary()), 60)

    shares = [reason.share for reason in reasons]
    assert shares == sorted(shares, reverse=True)
    assert 0.8 < sum(shares) <= 1 + 1e-9
    named = {reason.field for reason in reasons}
    assert {"outcome", "number of pay"} <= named
    (first,) = fitted().explain(oddities(1, 6, vocabulary()), 1)
    assert len(first) == 1


def test_what_two_members_say_of_one_field_of_one_event_is_one_reason() -> None:
    weak = Reason(3, "amount", "9", (("1", 0.5),), 2.0, 0.125, "sequence")
    strong = Reason(3, "amount", "9 to 10", (("2", 0.5),), 4.0, 0.25, "sequence")
    other = Reason(4, "amount", "9", (), 1.0, 0.25, "sequence")

    own: dict[tuple[str, int | None], Reason] = {}
    for reason in (weak, strong, other):
        _add(own, reason)

    merged = Reason(3, "amount", "9 to 10", (("2", 0.5),), 4.0, 0.375, "sequence")
    assert list(own.values()) == [merged, other]


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))

    assert fitted().score(none).shape == (0,)
    assert fitted().explain(none, 3) == []


def test_a_unit_scores_the_same_alone_and_among_others() -> None:
    some = together(units(30, 7, vocabulary()), oddities(3, 8, vocabulary()))

    alone = [fitted().score(some.take(np.array([unit])))[0] for unit in range(33)]

    np.testing.assert_allclose(alone, fitted().score(some), rtol=0, atol=1e-9)


def test_a_detector_read_from_its_files_scores_and_explains_the_same() -> None:
    some = together(units(20, 9, vocabulary()), oddities(3, 10, vocabulary()))

    again = load_detector("ensemble", fitted().to_files(), vocabulary())

    np.testing.assert_array_equal(again.score(some), fitted().score(some))
    assert again.explain(some, 5) == fitted().explain(some, 5)


def test_fitting_again_gives_the_same_files() -> None:
    assert of_markov_and_counts().to_files() == fitted().to_files()


@pytest.mark.parametrize(
    "file", ["ensemble.json", "markov/markov.json", "count_distance/count_distance.json"]
)
@pytest.mark.parametrize("content", [None, b"damaged", b"{}"])
def test_a_missing_or_damaged_file_is_named(file: str, content: bytes | None) -> None:
    files = fitted().to_files()
    files.pop(file)
    if content is not None:
        files[file] = content

    with pytest.raises(ArtefactError, match=file.replace(".", r"\.")):
        load_detector("ensemble", files, vocabulary())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("members", ["markov", "ensemble"]),
        ("members", ["markov", "os"]),
        ("weights", [1.0]),
        ("weights", [1.0, -1.0]),
        ("weights", [1.0, float("nan")]),
        ("constant", float("inf")),
    ],
)
def test_what_no_training_writes_is_refused(part: str, value: object) -> None:
    files = fitted().to_files()
    about = json.loads(files["ensemble.json"])
    about["combination"][part] = value
    files["ensemble.json"] = json.dumps(about).encode()

    with pytest.raises(ArtefactError, match=r"ensemble\.json: combination"):
        load_detector("ensemble", files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match=r"ensemble\.json: made for vocabulary"):
        load_detector("ensemble", fitted().to_files(), vocabulary("event"))
