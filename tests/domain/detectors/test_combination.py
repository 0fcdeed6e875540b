"""What scores of several detectors are worth together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from sklearn.linear_model import LogisticRegression

from habitus.domain.calibration import Curve
from habitus.domain.detectors.combination import Bools, Combination, Reals
from habitus.errors import TrainingError

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


def test_without_labels_a_unit_scores_the_mean_of_how_rare_its_scores_are() -> None:
    # Of 20 normal units with the scores 1 to 20, and all 7 by the other member.
    combination = combined(np.stack([np.arange(1.0, 21), np.full(20, 7.0)], axis=1))

    found = combination.apply(np.array([[1, 7], [9, 7], [11, 7], [16, 7], [9, 8]]))

    # At least 9 score 12 of them, at least 11 score 10; beyond, nine excesses from 1 to 9 are taken
    # for those of an exponential tail. Nothing scores 8.
    tail = 10 / 21 * (1 + 5 / 45) ** -9
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


def test_p_values_of_an_ensemble_hold_however_its_members_depend_on_each_other() -> None:
    random = np.random.default_rng(5)
    common = random.normal(size=(540_000, 1))
    scores = common + 0.3 * random.normal(size=(540_000, 2))
    combination = combined(scores[:20_000])
    judged, fresh = combination.apply(scores[20_000:520_000]), scores[520_000:]

    p_values = Curve.fit(judged).p_values(combination.apply(fresh))
    of_fisher = stats.chi2.sf(2 * np.log(2) * combination.surprises(fresh).sum(axis=1), df=4)

    for rate in (0.1, 0.01, 0.001):
        low, high = stats.binom.interval(0.99, len(fresh), rate)
        assert low <= (p_values <= rate).sum() <= high
        assert (of_fisher <= rate).sum() > high


@pytest.mark.parametrize("known", [0, 60])
def test_without_a_member_units_rank_as_by_an_ensemble_of_the_others(known: int) -> None:
    scores, anomalous = labelled_scores(odd=known)
    three = np.column_stack([scores, np.random.default_rng(2).normal(size=len(scores))])
    counts = np.ones(len(scores))
    every = Combination.fit((*NAMES, "ecod"), three, anomalous, counts)

    rarities = every.rarities_without(three)

    others = Combination.fit(NAMES, scores, anomalous, counts)
    assert every.without[2] == pytest.approx((*others.weights, 0))
    order = np.argsort(others.apply(scores), kind="stable")
    assert (np.diff(rarities[order, 3]) <= 1e-12).all()
    order = np.argsort(every.apply(three), kind="stable")
    assert (np.diff(rarities[order, 0]) <= 1e-12).all()
    nothing_known = every.rarities_without(np.full((1, 3), np.nan))
    assert nothing_known == pytest.approx(np.ones((1, 4)))
    assert ((rarities > 0) & (rarities <= 1)).all()
