"""The isolation forest, and its ONNX twin."""

from functools import cache

import numpy as np
import pytest
from builders import oddities, units, vocabulary

from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.units import Units
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]


@cache
def fitted(kind: UnitKind) -> IsolationForestDetector:
    words = vocabulary(kind)
    return IsolationForestDetector.fit(units(1500, 1, words), words, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_stranger_than_99_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(1500, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))
    assert np.median(odd) > np.quantile(normal, 0.99)
    assert (normal > 0).all()
    assert (odd < 1).all()


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 5, vocabulary())
    together = fitted("session").score(many)
    alone = [fitted("session").score(many.take(np.array([index])))[0] for index in range(30)]
    np.testing.assert_allclose(alone, together, rtol=1e-6)


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))
    assert fitted("session").score(none).shape == (0,)
    assert fitted("session").explain(none, 3) == []


def test_reasons_are_unusual_features_in_words() -> None:
    (reasons,) = fitted("session").explain(oddities(1, 3, vocabulary()), 5)
    assert len(reasons) == 5
    assert {"share of pay", "share of outcome failure"} <= {reason.field for reason in reasons}
    payments = next(reason for reason in reasons if reason.field == "share of pay")
    assert payments.observed == "86%"
    assert payments.expected == (("0% to 17%", pytest.approx(0.8)),)
    assert all(reason.event_index is None and reason.surprise > 0 for reason in reasons)
    assert sum(reason.share for reason in reasons) <= 1 + 1e-9


def test_what_never_varied_in_training_counts_when_it_does() -> None:
    words = vocabulary()
    training = units(1000, 1, words)
    action = training.tokens["action"]
    for token in (3, 4):  # every event is a view, then one event of a session is a search
        tokens = dict(training.tokens) | {"action": np.full_like(action, 3)}
        tokens["action"][training.offsets[:-1]] = token
        changed = Units(**{**training.__dict__, "tokens": tokens})
        if token == 3:
            detector = IsolationForestDetector.fit(changed, words, 7)
            before = detector.score(changed)
    assert (detector.score(changed) > before).mean() > 0.95


def test_the_same_seed_gives_the_same_forest() -> None:
    words = vocabulary()
    one, two, other = (
        IsolationForestDetector.fit(units(200, 1, words), words, seed).to_files()
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one["forest.onnx"] != other["forest.onnx"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(kind: UnitKind) -> None:
    words = vocabulary(kind)
    again = IsolationForestDetector.from_files(fitted(kind).to_files(), words)
    some = oddities(3, 3, words)
    np.testing.assert_array_equal(again.score(some), fitted(kind).score(some))
    assert again.explain(some, 5) == fitted(kind).explain(some, 5)


@pytest.mark.parametrize("name", ["forest.onnx", "isolation_forest.json"])
@pytest.mark.parametrize("content", [None, b"damaged", b"{}"])
def test_a_missing_or_damaged_file_is_named(name: str, content: bytes | None) -> None:
    files = fitted("session").to_files()
    files.pop(name)
    if content is not None:
        files[name] = content
    with pytest.raises(ArtefactError, match=name):
        IsolationForestDetector.from_files(files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        IsolationForestDetector.from_files(fitted("session").to_files(), vocabulary("event"))


def test_one_unit_is_too_few() -> None:
    words = vocabulary()
    with pytest.raises(TrainingError, match="1 training units"):
        IsolationForestDetector.fit(units(1, 1, words), words, 7)
