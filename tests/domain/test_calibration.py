"""Laws of p-values."""

from typing import Any

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
    Small,
)
from habitus.domain.tails import Tail, fit_scales, fit_tails, survival
from habitus.errors import TrainingError

pytestmark = pytest.mark.plain

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 2))


RATES = np.array([1e-1, 1e-2, 1e-3, 1e-4])


def of(count: int, *names: str | None) -> Names:
    """The same segments for so many units."""
    return np.tile(np.array(names, dtype=object), (count, 1))


def p_values(calibration: Reals, scores: Reals) -> Reals:
    return Curve.fit(calibration).p_values(scores)


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


def test_the_rates_got_on_normal_units_are_those_asked_for_within_their_binomial_interval() -> None:
    random = np.random.default_rng(11)
    # Many more are calibrated on than judged, so that nearly all of the chance is in the latter.
    found = p_values(random.normal(size=2_000_000), random.normal(size=100_000))
    got = (found[:, None] <= RATES).sum(axis=0)
    low, high = stats.binom.interval(0.99, len(found), RATES)
    assert ((got >= low) & (got <= high)).all()


def test_p_values_of_normal_units_are_uniform() -> None:
    known, fresh = np.random.default_rng(12).gumbel(size=(2, 20_000))
    assert stats.kstest(p_values(known, fresh), "uniform", method="asymp").pvalue > 0.01


@pytest.mark.parametrize(
    "law",
    [stats.norm(), stats.expon(), stats.t(4), stats.lognorm(1)],
    ids=lambda law: law.dist.name,
)
def test_beyond_the_ranks_too_the_rate_asked_for_is_got_on_average(law: Any) -> None:
    # A ten thousandth of 10,000 is one unit: beyond the ranks, which end at the tenth.
    share = np.logspace(-5.5, -0.5, 1000)
    at = law.isf(share)
    got = np.zeros(len(RATES))
    for seed in range(40):
        found = p_values(law.rvs(size=10_000, random_state=seed), at)
        # Shares rise, so scores fall, and p-values rise.
        got += share[np.searchsorted(found, RATES, side="right") - 1] / 40
    assert got == pytest.approx(RATES, rel=0.3)


@pytest.mark.parametrize("law", [stats.norm(), stats.expon(), stats.t(3), stats.lognorm(1)])
def test_in_small_segments_too_no_more_are_flagged_on_average_than_asked_for(law: Any) -> None:
    random = np.random.default_rng(3)
    spreads = np.exp(random.normal(0, 0.2, 60))
    known = law.rvs((60, 600), random_state=random) * spreads[:, None]
    names = np.repeat([f"s{number}" for number in range(60)], 600).astype(object)
    calibration = Calibration.fit(known.ravel(), names[:, None])

    rates = np.array([1e-3, 1e-4, 1e-5])
    beyond = np.geomspace(0.01, 1e4, 3000)
    got, alone = np.zeros(3), np.zeros(3)
    for number, spread in enumerate(spreads):
        scores = np.sort(known[number])[-10] + beyond
        for curve, sums in (
            (calibration.segments[f"s{number}"], got),
            (Curve.fit(known[number]), alone),
        ):
            first = np.searchsorted(-curve.p_values(scores), -rates)
            sums += law.sf(scores[first] / spread) / 60
    assert (got / rates < [1.4, 2, 2.5]).all()
    assert (got / rates > [0.5, 0.1, 0.01]).all()
    # Each by itself, some are lucky, and what lies beyond is impossible.
    assert alone[2] / rates[2] > 4


def test_where_the_shapes_of_the_whole_cannot_be_a_segment_has_its_own() -> None:
    excesses = np.append(np.random.default_rng(4).exponential(1, 60), 50)
    that_ends = (Tail(weight=1, scale=1, shape=-0.9),)

    assert fit_scales(excesses, that_ends) == fit_tails(excesses)
    assert fit_scales(excesses[:0], that_ends) == ()


def test_of_tied_scores_no_more_are_flagged_than_asked_for() -> None:
    known, fresh = np.random.default_rng(13).poisson(2, (2, 50_000)).astype(float)
    found = p_values(known, fresh)
    for rate in RATES:
        reached = found[found <= rate].max(initial=0)
        assert (found <= rate).sum() <= stats.binom.ppf(0.999, len(fresh), reached)


def test_the_tail_goes_on_where_the_ranks_end() -> None:
    known = np.random.default_rng(1).exponential(size=5000)
    start = np.sort(known)[-10]
    at, just_beyond, far = p_values(known, np.array([start, start + 1e-9, 15.0]))
    assert at == pytest.approx(11 / 5001)
    assert just_beyond == pytest.approx(10 / 5001)  # nine of those known are larger, as is this one
    assert 1e-8 < far < 1e-5  # exp(-15) is 3e-7


@pytest.mark.parametrize("shape", [-0.2, 0.1, 0.3, 0.6])
def test_tails_are_on_average_the_likeliest_one(shape: float) -> None:
    excesses = stats.genpareto.rvs(shape, scale=3, size=2000, random_state=5)
    likeliest, _, scale = stats.genpareto.fit(excesses, floc=0)
    tails = fit_tails(excesses)
    assert sum(one.weight for one in tails) == pytest.approx(1)
    assert sum(one.weight * one.shape for one in tails) == pytest.approx(likeliest, abs=0.02)
    at = np.quantile(excesses, [0.5, 0.9, 0.99])
    expected = stats.genpareto.sf(at, likeliest, scale=scale)
    np.testing.assert_allclose(survival(tails, at), expected, rtol=0.05)


def test_of_few_excesses_the_next_is_foretold_as_from_an_exponential_tail_seen_so_often() -> None:
    excesses = np.random.default_rng(2).exponential(size=40)
    # The integral of exp(-r x) over a rate r of Gamma(40, sum): (1 + x / sum)^-40.
    expected = (1 + 5 / excesses.sum()) ** -40
    assert survival(fit_tails(excesses), np.array([5.0])) == pytest.approx([expected])


def test_excesses_that_are_all_alike_have_a_tail() -> None:
    (far,) = survival(fit_tails(np.ones(100)), np.array([5.0]))
    assert 0 <= far < 0.01


def test_scores_that_are_all_alike_call_nothing_rarer_than_their_number_allows() -> None:
    found = p_values(np.zeros(99), np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, [1, 1, 0.01])


def test_a_segment_that_is_too_small_is_judged_within_its_parent_and_named() -> None:
    random = np.random.default_rng(3)
    small = MINIMUM_UNITS - 1
    segments = np.concatenate(
        [
            of(2000, "web", "web / old"),
            of(2000, "app", "app / old"),
            of(small, "app", "app / new"),
            of(small, "kiosk", "kiosk / old"),
        ]
    )
    scores = random.normal(size=len(segments))
    scores[2000:] += 10
    calibration = Calibration.fit(scores, segments)
    assert calibration.small == (
        Small(name="app / new", units=small, within="app"),
        Small(name="kiosk", units=small, within=ALL),
        Small(name="kiosk / old", units=small, within=ALL),
    )
    assert (
        "app (2,499), app / old (2,000), web (2,000), web / old (2,000);" in calibration.in_words()
    )
    assert "app / new (499, judged within app)" in calibration.in_words()

    asked = np.concatenate(
        [
            of(1, "web", "web / old"),
            of(1, "app", "app / new"),
            of(1, "app", None),
            of(1, "kiosk", "kiosk / old"),
            of(1, None, None),
            of(1, "unheard", "of"),
        ]
    )
    found, used = calibration.p_values(np.full(6, 10.0), asked)
    assert used.tolist() == ["web / old", "app", "app", ALL, ALL, ALL]
    assert found[0] < 1e-3
    assert found[1] == found[2] == pytest.approx(0.5, abs=0.05)
    assert found[3] == found[4] == found[5]


def test_without_segments_all_units_are_one() -> None:
    found, used = Calibration.fit(np.arange(30.0), of(30)).p_values(np.array([28.5]), of(1))
    assert used.tolist() == [ALL]
    assert found == Curve.fit(np.arange(30.0)).p_values(np.array([28.5]))


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
    calibration = Calibration.fit(known, of(1000, "web"))
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration


@pytest.mark.parametrize(
    ("scores", "problem"),
    [(np.arange(19.0), "19 units"), (np.array([np.nan] * 30), "not a number")],
)
def test_what_cannot_be_calibrated_on_is_refused(scores: Reals, problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        Calibration.fit(scores, of(len(scores)))


def test_no_units_have_no_p_values() -> None:
    found, used = Calibration.fit(np.arange(30.0), of(30)).p_values(np.array([]), of(0))
    assert found.shape == used.shape == (0,)


def test_what_is_no_number_is_never_rare() -> None:
    calibration = Calibration.fit(np.arange(600.0), of(600, "a"))
    scores = np.array([np.nan, -np.inf, 599.0, np.inf])
    found, _ = calibration.p_values(scores, of(4, "a"))
    assert found[:2].tolist() == [1, 1]
    assert found[3] < found[2] < 0.01
