"""Several detectors as one."""

import json
from functools import cache

import numpy as np
import pytest
from builders import oddities, together, units, vocabulary
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.base import Reason
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.domain.detectors.ensemble import Bools, Combination, EnsembleDetector, Reals, _add
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.markov import MarkovDetector
from habitus.errors import ArtefactError, TrainingError

pytestmark = pytest.mark.plain

NAMES = ("markov", "isolation_forest")


def combined(scores: Reals, anomalous: Bools | None = None) -> Combination:
    anomalous = np.zeros(len(scores), dtype=bool) if anomalous is None else anomalous
    return Combination.fit(NAMES, scores, anomalous, np.ones(len(scores)))


def labelled_scores(normal: int = 3000, odd: int = 60) -> tuple[Reals, Bools]:
    """Of two members, the first tells a little more, on a scale of its own."""
    random = np.random.default_rng(1)
    anomalous = np.arange(normal + odd) >= normal
    scores = random.normal(size=(normal + odd, 2)) + np.outer(anomalous, [2.5, 1.5])
    return scores * [100, 1], anomalous


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


def test_without_labels_a_unit_scores_the_mean_of_how_rare_its_scores_are() -> None:
    # Of 20 normal units with the scores 1 to 20, and all 7 by the other member.
    combination = combined(np.stack([np.arange(1.0, 21), np.full(20, 7.0)], axis=1))

    found = combination.apply(np.array([[1, 7], [9, 7], [11, 7], [16, 7], [9, 8]]))

    # At least 9 score 12 of them, at least 11 score 10; beyond, the excesses 1 to 9 are taken for
    # exponential. Nothing scores 8.
    tail = 11 / 21 * np.exp(-5 / 5)
    expected = [[1, 1], [13 / 21, 1], [11 / 21, 1], [tail, 1], [13 / 21, 1 / 21]]
    assert found == pytest.approx(-np.log2(expected).mean(axis=1))
    assert combination.weights == (0.5, 0.5)
    assert combination.in_words() == (
        "Equal weights of markov, isolation_forest: 0 validation units are known to be anomalous, "
        "fewer than 20"
    )


@pytest.mark.parametrize("known", [0, 19])
def test_too_few_labels_weigh_nothing(known: int) -> None:
    scores, anomalous = labelled_scores(odd=known)

    assert combined(scores, anomalous).weights == (0.5, 0.5)


def test_weights_are_those_of_a_logistic_regression_that_scores_log_odds() -> None:
    scores, anomalous = labelled_scores()
    counts = np.where(anomalous, 1.0, 7.0)

    combination = Combination.fit(NAMES, scores, anomalous, counts)

    bits = combination.surprises(scores)
    reference = LogisticRegression(C=1, tol=1e-10, max_iter=1000).fit(bits, anomalous, counts)
    assert combination.weights == pytest.approx(reference.coef_[0], rel=1e-3)
    assert combination.constant == pytest.approx(reference.intercept_[0], rel=1e-3)
    assert combination.weights[0] > combination.weights[1] > 0
    odds = combination.apply(scores)
    assert (counts / (1 + np.exp(-odds))).sum() == pytest.approx(60, rel=1e-4)
    assert combination.in_words().startswith(
        "Weights in nats a bit, learned from labels, by which 60 validation units are known to be "
        "anomalous: markov 0."
    )


def test_a_member_that_ranks_anomalous_units_low_has_no_weight() -> None:
    scores, anomalous = labelled_scores()

    combination = combined(scores * [1, -1], anomalous)

    assert combination.weights[0] > 0
    assert combination.weights[1] == 0


def test_members_that_all_rank_anomalous_units_low_are_weighed_alike() -> None:
    scores, anomalous = labelled_scores()

    combination = combined(-scores, anomalous)

    assert combination.weights == (0.5, 0.5)
    assert combination.in_words().endswith("anomalous, which no member ranks higher")


def test_weights_come_out_the_same_on_any_increasing_scale() -> None:
    scores, anomalous = labelled_scores()
    # Beyond the largest scores, where few units are, the scale counts a little.
    others = np.stack([scores[:, 0] * 1e-6 - 5, np.exp(scores[:, 1])], axis=1)

    once, again = combined(scores, anomalous), combined(others, anomalous)

    assert again.weights == pytest.approx(once.weights, rel=0.1)


@given(
    st.integers(0, 1),
    st.tuples(st.floats(-400, 800), st.floats(-4, 8)),
    st.floats(0, 1000),
    st.booleans(),
)
def test_the_score_never_falls_when_a_members_score_rises(
    member: int, start: tuple[float, float], rise: float, learned: bool
) -> None:
    scores, anomalous = labelled_scores(normal=600)
    combination = combined(scores, anomalous & learned)
    higher = np.array(start)
    higher[member] += rise

    before, after = combination.apply(np.array([start, higher]))

    assert after >= before


def test_shares_are_of_what_is_stranger_than_half_of_the_normal_units() -> None:
    twice = np.arange(1.0, 21)
    combination = combined(np.stack([twice, twice], axis=1))

    shares = combination.shares(np.array([[16, 16], [16, 1], [1, 1.0]]))

    assert shares.tolist() == [[0.5, 0.5], [1, 0], [0, 0]]


def test_too_few_normal_units_are_refused() -> None:
    with pytest.raises(TrainingError, match="19 normal validation units, fewer than 20"):
        combined(np.zeros((19, 2)))


@pytest.mark.parametrize("names", [("markov",), ("markov", "markov"), ("markov", "ensemble")])
def test_members_are_several_others(names: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        Combination.fit(names, np.zeros((20, len(names))), np.zeros(20, bool), np.ones(20))


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
