"""Laws of p-values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from habitus.domain.calibration import (
    ALL,
    LEAST_P_VALUE,
    MINIMUM_UNITS,
    Calibration,
    Curve,
    Names,
    Reals,
    _fit_tail,
)
from habitus.errors import TrainingError

pytestmark = pytest.mark.plain

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 2))


def of(name: str | None, count: int) -> Names:
    return np.full(count, name, dtype=object)


def p_values(calibration: Reals, scores: Reals) -> Reals:
    return Calibration.fit(calibration, of(None, len(calibration))).p_values(
        scores, of(None, len(scores))
    )[0]


@given(st.lists(numbers, min_size=20, max_size=60), st.lists(numbers, min_size=1, max_size=20))
def test_p_values_fall_with_the_score_and_stay_above_0(
    calibration: list[float], scores: list[float]
) -> None:
    asked = np.sort(np.array([*scores, *calibration, -1e9, 1e9]))
    found = p_values(np.array(calibration), asked)
    assert (np.diff(found) <= 0).all()
    assert found.min() >= LEAST_P_VALUE
    assert found[0] == 1


@given(st.lists(numbers, min_size=20, max_size=60), st.lists(numbers, min_size=1, max_size=20))
def test_below_the_tail_p_values_are_ranks(calibration: list[float], scores: list[float]) -> None:
    known = np.array(calibration)
    asked = np.minimum(np.array(scores), np.sort(known)[-10])
    expected = [(1 + (known >= score).sum()) / (len(known) + 1) for score in asked]
    np.testing.assert_allclose(p_values(known, asked), expected)


@given(st.integers(0, 2**32 - 1))
def test_below_the_tail_only_the_order_of_scores_matters(seed: int) -> None:
    random = np.random.default_rng(seed)
    known = random.normal(size=200)
    asked = np.minimum(random.normal(size=50), np.sort(known)[-10])
    np.testing.assert_allclose(p_values(np.exp(known), np.exp(asked)), p_values(known, asked))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.1, 0.01])
def test_as_many_normal_units_as_the_level_says_fall_below_it(seed: int, level: float) -> None:
    random = np.random.default_rng(seed)
    known, fresh = random.normal(size=(2, 20000))
    below = (p_values(known, fresh) <= level).mean()
    # Both the ranks and the share are random; five such tests, so 1 in 10,000 each.
    spread = np.sqrt(2 * level * (1 - level) / 20000)
    assert abs(below - level) < stats.norm.isf(0.5e-4) * spread


def test_the_tail_goes_on_where_the_ranks_end_without_a_jump() -> None:
    known = np.random.default_rng(1).exponential(size=5000)
    start = np.sort(known)[-10]
    at, just_beyond, far = p_values(known, np.array([start, start + 1e-9, 15.0]))
    assert at == pytest.approx(11 / 5001)
    assert just_beyond == pytest.approx(at)
    assert 1e-8 < far < 1e-5  # exp(-15) is 3e-7


@pytest.mark.parametrize("shape", [0.1, 0.3, 0.6])
def test_the_tail_is_that_of_scipy_where_its_shape_is_positive(shape: float) -> None:
    excesses = stats.genpareto.rvs(shape, scale=3, size=2000, random_state=5)
    expected_shape, _, expected_scale = stats.genpareto.fit(excesses, floc=0)
    scale, found = _fit_tail(excesses)
    assert (found, scale) == pytest.approx((expected_shape, expected_scale), rel=1e-2)


def test_a_tail_that_would_end_is_taken_as_exponential() -> None:
    excesses = np.random.default_rng(2).uniform(size=2000)
    assert _fit_tail(excesses) == (pytest.approx(excesses.mean()), 0)


def test_scores_that_are_all_alike_call_nothing_rarer_than_their_number_allows() -> None:
    found = p_values(np.zeros(99), np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, [1, 1, 0.01])


def test_segments_are_judged_by_themselves_where_they_are_large_enough() -> None:
    random = np.random.default_rng(3)
    small = MINIMUM_UNITS - 1
    scores = np.concatenate([random.normal(size=2000), 10 + random.normal(size=2000 + small)])
    segments = np.concatenate([of("web", 2000), of("app", 2000), of("kiosk", small)])
    calibration = Calibration.fit(scores, segments)
    asked = np.array(["web", "app", "kiosk", "new", None], dtype=object)
    found, used = calibration.p_values(np.full(5, 10.0), asked)
    assert used.tolist() == ["web", "app", ALL, ALL, ALL]
    assert found[0] < 1e-3
    assert found[1] == pytest.approx(0.5, abs=0.05)
    assert found[2] == found[3] == found[4]


def test_of_many_scores_a_bounded_number_is_kept_and_little_is_lost() -> None:
    random = np.random.default_rng(4)
    known = random.normal(size=100_000)
    curve = Curve.fit(known)
    assert len(curve.scores) <= 4096
    asked = np.minimum(random.normal(size=2000), np.sort(known)[-10])
    exact = np.array([(1 + (known >= score).sum()) / 100_001 for score in asked])
    found = curve.p_values(asked)
    assert (found >= exact - 1e-12).all()
    np.testing.assert_allclose(found, exact, rtol=0.03)


def test_a_calibration_survives_being_written_as_json() -> None:
    known = np.random.default_rng(5).normal(size=1000)
    calibration = Calibration.fit(known, of("web", 1000))
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration


@pytest.mark.parametrize(
    ("scores", "problem"),
    [(np.arange(19.0), "19 units"), (np.array([np.nan] * 30), "not a number")],
)
def test_what_cannot_be_calibrated_on_is_refused(scores: Reals, problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        Calibration.fit(scores, of(None, len(scores)))


def test_no_units_have_no_p_values() -> None:
    found, used = Calibration.fit(np.arange(30.0), of(None, 30)).p_values(np.array([]), of(None, 0))
    assert found.shape == used.shape == (0,)
