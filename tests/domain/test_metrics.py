import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from habitus.domain.metrics import (
    Counts,
    auc,
    average_precision,
    estimate,
    precision_of_chosen,
    precision_recall,
    recall_at_false_positive_rate,
    recall_of_chosen,
)

pytestmark = pytest.mark.plain

RECALL_AT_1_PERCENT = recall_at_false_positive_rate(0.01)
BINS = arrays.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 50))


@st.composite
def both_sorts(draw: st.DrawFn) -> tuple[Counts, Counts]:
    """Counts of both sorts with at least one unit each."""
    anomalous = draw(BINS)
    normal = draw(arrays.arrays(np.int64, len(anomalous), elements=st.integers(0, 50)))
    anomalous[draw(st.integers(0, len(anomalous) - 1))] += 1
    normal[draw(st.integers(0, len(normal) - 1))] += 1
    return anomalous, normal


def units_of(
    anomalous: Counts, normal: Counts
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One score and one label per unit, as scikit-learn takes them."""
    scores = -np.arange(len(anomalous))
    return (
        np.concatenate([np.repeat(scores, anomalous), np.repeat(scores, normal)]),
        np.repeat([1, 0], [anomalous.sum(), normal.sum()]),
    )


def binned(
    strangeness: npt.NDArray[np.float64], label: npt.NDArray[np.bool_], width: float
) -> tuple[Counts, Counts]:
    bins = np.round(strangeness / width).astype(int)
    high = bins.max() + 1
    return (
        np.bincount(bins[label], minlength=high)[::-1],
        np.bincount(bins[~label], minlength=high)[::-1],
    )


@given(both_sorts())
def test_every_measure_is_scikit_learns_with_ties(sorts: tuple[Counts, Counts]) -> None:
    score, label = units_of(*sorts)
    assert auc(*sorts) == pytest.approx(roc_auc_score(label, score))
    assert average_precision(*sorts) == pytest.approx(average_precision_score(label, score))
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    assert RECALL_AT_1_PERCENT(*sorts) == pytest.approx(true[false <= 0.01].max())


@given(both_sorts())
def test_the_precision_recall_curve_is_scikit_learns(sorts: tuple[Counts, Counts]) -> None:
    score, label = units_of(*sorts)
    expected_precision, expected_recall, _ = precision_recall_curve(label, score)
    filled = (sorts[0] > 0) | (sorts[1] > 0)
    precision, recall = precision_recall(*sorts)
    np.testing.assert_allclose(precision[filled], expected_precision[:-1][::-1])
    np.testing.assert_allclose(recall[filled], expected_recall[:-1][::-1])


@given(both_sorts(), st.integers(0, 30))
def test_empty_bins_in_between_change_nothing(sorts: tuple[Counts, Counts], at: int) -> None:
    stretched = tuple(np.insert(counts, min(at, len(counts)), [0, 0, 0]) for counts in sorts)
    for measure in (auc, average_precision, RECALL_AT_1_PERCENT):
        assert measure(*stretched) == pytest.approx(measure(*sorts))


@given(both_sorts())
def test_turning_the_ranking_round_mirrors_the_area(sorts: tuple[Counts, Counts]) -> None:
    anomalous, normal = sorts
    assert auc(anomalous[::-1], normal[::-1]) == pytest.approx(1 - auc(anomalous, normal))


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_perfect_ranking_scores_one(n_anomalous: int, n_normal: int) -> None:
    perfect = np.array([n_anomalous, 0]), np.array([0, n_normal])
    for measure in (auc, average_precision, RECALL_AT_1_PERCENT):
        assert measure(*perfect) == 1


def test_a_measure_without_anomalies_is_not_defined() -> None:
    none, some = np.array([0, 0]), np.array([3, 4])
    for measure in (auc, average_precision, RECALL_AT_1_PERCENT, recall_of_chosen):
        assert np.isnan(measure(none, some))
    assert np.isnan(auc(some, none))


def test_the_first_bin_of_two_is_what_was_chosen() -> None:
    anomalous, others = np.array([6, 2]), np.array([14, 78])
    assert recall_of_chosen(anomalous, others) == pytest.approx(6 / 8)
    assert precision_of_chosen(anomalous, others) == pytest.approx(6 / 20)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_bins_of_a_thousandth_decade_keep_every_measure_within_a_thousandth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.arange(20_000) < 400
    p_value = rng.uniform(size=len(label)) ** np.where(label, 4, 1)
    strangeness = -np.log10(p_value)
    counts = binned(strangeness, label, 0.001)
    assert auc(*counts) == pytest.approx(roc_auc_score(label, strangeness), abs=1e-3)
    exact = average_precision_score(label, strangeness)
    assert average_precision(*counts) == pytest.approx(exact, abs=1e-3)


def test_the_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    truth, trials, covered = 0.75, 200, 0
    for _ in range(trials):
        # P(U^(1/2) > V^(3/2)) = E[U^(1/3)] = 3/4 for uniform U and V.
        anomalous, normal = np.sqrt(rng.uniform(size=60)), rng.uniform(size=600) ** 1.5
        label = np.repeat([True, False], [60, 600])
        counts = binned(np.concatenate([anomalous, normal]), label, 0.005)
        figure = estimate(auc, *counts, resamples=200, confidence=0.9, rng=rng)
        covered += figure.low <= truth <= figure.high
    assert 0.82 <= covered / trials <= 0.96


@given(both_sorts())
def test_the_same_seed_draws_the_same_interval(sorts: tuple[Counts, Counts]) -> None:
    first, second = (
        estimate(average_precision, *sorts, 20, 0.95, np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_equal(first, second)


def test_resamples_in_many_small_batches_still_give_one_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("habitus.domain.metrics._COUNTS_AT_ONCE", 7)
    counts = np.array([5, 3, 1]), np.array([1, 10, 50])
    figure = estimate(auc, *counts, 50, 0.95, np.random.default_rng(1))
    assert figure.low <= figure.value <= figure.high


def test_no_units_at_all_give_no_figure() -> None:
    nothing = np.zeros(3, dtype=np.int64)
    figure = estimate(auc, nothing, nothing, 10, 0.95, np.random.default_rng(1))
    assert np.isnan([figure.value, figure.low, figure.high]).all()
