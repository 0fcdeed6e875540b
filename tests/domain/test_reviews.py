"""How precise flags are, by what people who looked at some of them found."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from scipy import stats

from habitus.domain.reviews import Precision, precise_until, precisions, reviews


@pytest.mark.plain
def test_flags_that_nobody_looked_at_may_be_true_or_false() -> None:
    (one,) = precisions([(8, 10, 4, 1)], 0.9)

    assert one[:4] == (10**-2, 10, 5, 4)
    # Exact bounds by the beta distribution: 4 of 10 at least, 9 of 10 at most.
    assert one.low == pytest.approx(stats.beta.ppf(0.05, 4, 7))
    assert one.high == pytest.approx(stats.beta.ppf(0.95, 10, 1))


@pytest.mark.plain
def test_counts_add_up_from_the_rarest_on() -> None:
    found = precisions([(8, 10, 4, 1), (16, 3, 3, 0)], 0.9)

    assert [(one.p_value, one.flags, one.confirmed) for one in found] == [
        (10**-4, 3, 3),
        (10**-2, 13, 7),
    ]


@pytest.mark.plain
@pytest.mark.parametrize("confidence", [0.5, 0.99])
@pytest.mark.parametrize(("confirmed", "dismissed"), [(0, 0), (0, 9), (7, 0), (3, 40), (200, 1)])
def test_the_bounds_are_scipys_of_the_two_worst_cases(
    confirmed: int, dismissed: int, confidence: float
) -> None:
    flags = confirmed + dismissed + 5

    (found,) = precisions([(8, flags, confirmed, dismissed)], confidence)

    least, most = (
        stats.binomtest(hits, flags).proportion_ci(confidence)
        for hits in (confirmed, flags - dismissed)
    )
    assert (found.low, found.high) == pytest.approx((least.low, most.high), abs=1e-9)


@pytest.mark.plain
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1),
    st.sampled_from([0.5, 0.9]),
)
def test_what_is_looked_at_later_never_widens_the_bounds(
    parts: list[tuple[int, int, int]], confidence: float
) -> None:
    flags = [yes + no + unseen + 1 for yes, no, unseen in parts]
    some = [(part, flags[part], yes, no) for part, (yes, no, _) in enumerate(parts)]
    more = [(part, flags[part], yes + 1, no) for part, (yes, no, _) in enumerate(parts)]

    for one, other in zip(precisions(some, confidence), precisions(more, confidence), strict=True):
        assert one.low <= other.low <= other.high <= one.high


@pytest.mark.plain
def test_the_p_value_is_the_last_before_precision_is_not_shown() -> None:
    parts = [(12, 2, 1, 1), (10, 40, 40, 0), (8, 40, 30, 10), (6, 100, 0, 100), (4, 900, 900, 0)]
    found = precisions(parts, 0.95)

    # The first two are too few to show anything; all after the fourth is not asked.
    assert precise_until(found, 0.7, 0.95) == pytest.approx(10**-2)
    assert precise_until(found, 0.99, 0.95) is None
    assert precise_until([], 0.5, 0.95) is None


# How many flags there are in each part of p-values, the rarest first, and which share is true.
FLAGS = np.array([30, 40, 60, 90, 140, 200])
TRUE = np.array([0.9, 0.8, 0.7, 0.5, 0.3, 0.1])
PRECISION = np.cumsum(FLAGS * TRUE) / np.cumsum(FLAGS)
PARTS = np.arange(len(FLAGS))
# Which of the true and of the false flags in each part people look at.
LOOKED_AT = {
    "all": (PARTS >= 0, PARTS >= 0),
    "only the true": (PARTS >= 0, PARTS < 0),
    "only the false": (PARTS < 0, PARTS >= 0),
    "the rarest half of the parts": (PARTS < 3, PARTS < 3),
    "the true, and the rarest false": (PARTS >= 0, PARTS < 3),
}


def draws(looked_at: str, confidence: float) -> Iterator[tuple[Precision, ...]]:
    """What reviews show of many draws of flags, of which people choose those they look at."""
    random = np.random.default_rng(5)
    of_true, of_false = LOOKED_AT[looked_at]
    for _ in range(300):
        true = random.binomial(FLAGS, TRUE)
        seen = zip(20 - PARTS, FLAGS, true * of_true, (FLAGS - true) * of_false, strict=True)
        yield precisions([tuple(map(int, part)) for part in seen], confidence)  # type: ignore[misc]


@pytest.mark.plain
@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("looked_at", LOOKED_AT)
def test_the_bounds_hold_the_precision_whatever_people_look_at(
    looked_at: str, confidence: float
) -> None:
    found = np.array(
        [[(one.low, one.high) for one in draw] for draw in draws(looked_at, confidence)]
    )

    held = (found[:, :, 0] <= PRECISION) & (found[:, :, 1] >= PRECISION)
    assert held.mean(axis=0).min() >= confidence


@pytest.mark.plain
@pytest.mark.parametrize("looked_at", LOOKED_AT)
def test_a_threshold_is_seldom_less_precise_than_it_says(looked_at: str) -> None:
    found = [precise_until(draw, 0.7, 0.9) for draw in draws(looked_at, 0.9)]

    shown = [PRECISION[round(20 + 4 * np.log10(p_value))] for p_value in found if p_value]
    assert (np.array(shown) < 0.7).sum() <= 300 * 0.1
    # What is found false never shows that the others are true.
    assert bool(shown) == (looked_at != "only the false")


def test_flags_are_counted_by_parts_of_a_decade(spark: SparkSession) -> None:
    rows = [(0.01, True), (0.009, None), (0.01, False), (1e-12, True)]
    found = reviews(spark.createDataFrame(rows, "p_value double, label boolean")).collect()

    assert sorted(map(tuple, found)) == [(8, 3, 1, 1), (32, 1, 1, 0)]
