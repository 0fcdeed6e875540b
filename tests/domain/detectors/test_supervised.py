"""Detectors that learn from labels."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import (
    fine_tune_settings,
    model_settings,
    oddities,
    together,
    units,
    vocabulary,
)
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from habitus.domain.detectors import SUPERVISED, detector_class, load_detector
from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.linear import LogisticRegressionDetector
from habitus.domain.detectors.trees import GradientBoostingDetector, RandomForestDetector
from habitus.domain.models import behaviour
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.train

NAMES = sorted(SUPERVISED)
KINDS: list[UnitKind] = ["session", "event"]
# Of the units that are labelled as anomalous so many look like any other.
UNSEEN = 20


def labelled(kind: UnitKind = "session", normal: int = 1000, odd: int = 60) -> Labelled:
    words = vocabulary(kind)
    parts = [units(normal, 1, words), oddities(odd, 2, words), units(UNSEEN, 3, words)]
    every = together(*parts)
    number = np.arange(len(every))
    return Labelled(every, number >= normal, np.ones(len(every)), number // 4)


def fit(name: str, known: Labelled, words: Vocabulary) -> Detector:
    others = (
        (behaviour_model(words.unit_kind), fine_tune_settings()) if name == "fine_tuned" else ()
    )
    return detector_class(name).fit(known, words, 7, *others)  # type: ignore[attr-defined,no-any-return]


@cache
def behaviour_model(kind: UnitKind) -> BehaviourDetector:
    """A small one that has learned nothing."""
    words, some = vocabulary(kind), units(50, 1, vocabulary(kind))
    shape = BehaviourShape.of(words, model_settings(), some.context)
    return detector_of(behaviour.build(shape, 7), shape, words, some)


@cache
def fitted(name: str, kind: UnitKind = "session") -> Detector:
    return fit(name, labelled(kind), vocabulary(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_what_labels_call_anomalous_is_found_again(name: str, kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal, odd = units(500, 4, words), oddities(50, 5, words)

    scores = fitted(name, kind).score(together(normal, odd))

    assert roc_auc_score(np.arange(550) >= 500, scores) > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_log_odds_of_being_anomalous(name: str) -> None:
    words = vocabulary()
    some = together(units(5000, 6, words), oddities(300, 7, words), units(100, 8, words))

    # One of 51 units that look normal is labelled as anomalous, as in training.
    expected = 400 / 5400
    assert expit(fitted(name).score(some)).mean() == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_units_that_stand_for_many_count_as_many(name: str) -> None:
    known = labelled(normal=2000)
    third = np.flatnonzero(known.anomalous | (np.arange(len(known.anomalous)) % 10 == 0))
    sampled = Labelled(
        known.units.take(third),
        known.anomalous[third],
        np.where(known.anomalous[third], 1.0, 10.0),
        known.users[third],
    )
    words = vocabulary()
    normal = units(2000, 9, words)

    means = [expit(fit(name, one, words).score(normal)).mean() for one in (known, sampled)]

    # Without their weight they would make it ten times as much.
    assert means[0] / 3 < means[1] < means[0] * 3


@pytest.mark.parametrize("name", NAMES)
def test_reasons_are_the_features_that_raise_the_score(name: str) -> None:
    (reasons,) = fitted(name).explain(oddities(1, 10, vocabulary()), 4)

    assert 1 <= len(reasons) <= 4
    shares = [reason.share for reason in reasons]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-9
    # An oddity pays where others view, fails, and is quick.
    made_odd = [
        reason.field
        for reason in reasons
        if any(word in reason.field for word in ("pay", "view", "failure", "gap"))
    ]
    assert len(made_odd) >= 2


@pytest.mark.parametrize("kind", [GradientBoostingDetector, RandomForestDetector])
def test_what_features_are_worth_adds_up_to_the_sum_of_the_trees(
    kind: type[GradientBoostingDetector],
) -> None:
    detector = fitted(kind.name)
    assert isinstance(detector, kind)
    some = oddities(5, 11, vocabulary())
    matrix, _ = detector._description.of(some)

    worth = detector._predicted(matrix, pred_contrib=True).sum(axis=1)

    assert worth == pytest.approx(detector._predicted(matrix, raw_score=True), abs=1e-6)


@pytest.mark.parametrize("name", ["gradient_boosting", "random_forest"])
def test_rare_anomalies_that_look_like_others_keep_their_small_probability(name: str) -> None:
    words = vocabulary()
    many = units(8000, 14, words)
    odd = np.arange(8000) % 200 == 0
    known = Labelled(many, odd, np.ones(8000), np.arange(8000))

    detector = fit(name, known, words)

    found = expit(detector.score(units(2000, 15, words)))
    assert found.mean() == pytest.approx(1 / 200, rel=0.5)
    assert found.max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(name: str) -> None:
    detector = fitted(name)
    some = together(units(20, 12, vocabulary()), oddities(5, 13, vocabulary()))

    again = load_detector(name, detector.to_files(), vocabulary())

    np.testing.assert_array_equal(again.score(some), detector.score(some))
    assert again.explain(some, 3) == detector.explain(some, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_files(name: str) -> None:
    again = fit(name, labelled(), vocabulary())

    assert again.to_files() == fitted(name).to_files()


@pytest.mark.parametrize("name", NAMES)
def test_no_units_have_no_scores(name: str) -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))

    assert fitted(name).score(none).shape == (0,)
    assert fitted(name).explain(none, 3) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", [True, False])
def test_one_kind_alone_is_refused(name: str, odd: bool) -> None:
    known = labelled()
    alike = Labelled(known.units, np.full(len(known.anomalous), odd), known.weights, known.users)
    kind = "normal" if odd else "anomalous"

    with pytest.raises(TrainingError, match=f"0 of 1080 training units are known to be {kind}"):
        fit(name, alike, vocabulary())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gradient_boosting", "trees-0.txt"),
        ("gradient_boosting", "trees-4.txt"),
        ("gradient_boosting", "trees.json"),
        ("logistic_regression", "linear.json"),
        ("fine_tuned", "net-0.onnx"),
        ("fine_tuned", "net-4.onnx"),
        ("fine_tuned", "fine_tuned.json"),
    ],
)
@pytest.mark.parametrize("content", [None, b"damaged", b"{}"])
def test_a_missing_or_damaged_file_is_named(name: str, file: str, content: bytes | None) -> None:
    files = fitted(name).to_files()
    files.pop(file)
    if content is not None:
        files[file] = content

    with pytest.raises(ArtefactError, match=file):
        load_detector(name, files, vocabulary())


@pytest.mark.parametrize("name", NAMES)
def test_files_made_for_another_vocabulary_are_refused(name: str) -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        load_detector(name, fitted(name).to_files(), vocabulary("event"))


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_too_few_users_are_refused(name: str) -> None:
    known = labelled()
    few = np.where(known.anomalous, 1, known.users)
    of_one = Labelled(known.units, known.anomalous, known.weights, few)

    with pytest.raises(TrainingError, match=r"80 of 1080 .* anomalous, of 1 users, not 5"):
        fit(name, of_one, vocabulary())


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_not_known_is_said_to_be_none(name: str) -> None:
    words = vocabulary("event")
    some = units(400, 1, words)
    odd = np.arange(400) % 5 == 0
    # That it is not known is all that tells which are anomalous.
    blank = replace(some, context=np.where(odd[:, None], np.nan, some.context))
    detector = fit(name, Labelled(blank, odd, np.ones(400), np.arange(400)), words)

    for reasons in detector.explain(blank.take(np.flatnonzero(odd)[:5]), 50):
        of_numbers = [reason for reason in reasons if reason.field.startswith("user_")]
        assert {(reason.observed, reason.surprise) for reason in of_numbers} == {("none", 0)}


def test_a_number_that_never_varied_has_no_weight_of_its_own() -> None:
    known = labelled()
    flat = np.zeros_like(known.units.context)
    still = Labelled(
        type(known.units)(**{**known.units.__dict__, "context": flat}),
        known.anomalous,
        known.weights,
        known.users,
    )

    detector = LogisticRegressionDetector.fit(still, vocabulary(), 7)

    assert np.isfinite(detector.score(known.units)).all()
