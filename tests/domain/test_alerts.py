"""The choice of flags, against the obvious way in plain Python."""

from datetime import date

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.stats import false_discovery_control

from habitus.alert_settings import AlertSettings, CostSettings
from habitus.domain import alerts
from habitus.domain.alerts import DayCount, cost_threshold, crowded_days, rare, rare_by_day
from habitus.domain.policy import with_suppression

pytestmark = pytest.mark.spark

SETTINGS = AlertSettings(
    detector="markov",
    budget_per_day=3,
    false_positive_rate=0.01,
    false_discovery_rate=None,
    costs=None,
    rules=(),
    suppress=(),
    mute=(),
    mute_after=None,
    cool_down=None,
    reasons=5,
    language="en",
    precision=None,
)
Row = tuple[str, float, float, date]


def choose(scores: DataFrame, settings: AlertSettings) -> DataFrame:
    candidates = with_suppression(rare(scores, settings), settings)
    return alerts.choose(candidates, settings.budget_per_day)


def frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame(
        rows, "unit_id string, score double, p_value double, event_date date"
    )


def many(count: int) -> list[Row]:
    """Units of three days, many with the same p-value or score."""
    random = np.random.default_rng(1)
    p_values = random.choice([1e-6, 5e-5, 1e-4, 5e-4, 0.005, 0.01, 0.011, 0.5], count)
    days = random.integers(1, 4, count)
    return [
        (f"u{index:03}", float(random.integers(0, 3)), float(p), date(2026, 1, int(day)))
        for index, (p, day) in enumerate(zip(p_values, days, strict=True))
    ]


def test_the_strangest_units_of_each_day_are_flagged_whatever_the_order_of_rows(
    spark: SparkSession,
) -> None:
    rows = many(200)
    expected = []
    for day in sorted({row[3] for row in rows}):
        rare = [row for row in rows if row[3] == day and row[2] <= 0.01]
        expected += [row[0] for row in sorted(rare, key=lambda r: (r[2], -r[1], r[0]))[:3]]
    for given in (rows, rows[::-1]):
        flags = choose(frame(spark, given), SETTINGS).collect()
        assert sorted(row["unit_id"] for row in flags) == sorted(expected)


def test_severity_follows_the_decades_of_the_p_value(spark: SparkSession) -> None:
    p_values = [1e-12, 1e-5, 2e-5, 1e-4, 2e-4, 1e-3, 2e-3, 1e-2]
    rows = [(f"{p:g}", 1.0, p, date(2026, 1, 1)) for p in p_values]
    flags = choose(frame(spark, rows), SETTINGS.model_copy(update={"budget_per_day": 99}))
    found = [row["severity"] for row in flags.orderBy("p_value").collect()]
    assert found == ["critical"] * 2 + ["high"] * 2 + ["medium"] * 2 + ["low"] * 2


def test_rare_units_are_counted_by_day_and_those_of_them_that_are_suppressed(
    spark: SparkSession,
) -> None:
    rows = [(f"a{index}", 1.0, 0.005, date(2026, 1, 1)) for index in range(5)]
    rows += [("b", 1.0, 0.005, date(2026, 1, 2)), ("c", 1.0, 0.5, date(2026, 1, 3))]
    candidates = rare(frame(spark, rows), SETTINGS)
    ours = F.when(F.col("unit_id").isin("a1", "a2"), "ours")
    counted = rare_by_day(candidates.withColumn("suppressed_by", ours)).collect()
    found = {row["event_date"].day: (row["rare"], row["suppressed"]) for row in counted}
    assert found == {1: (5, 2), 2: (1, 0)}


def test_only_a_days_budget_of_rows_is_shuffled_from_each_task(spark: SparkSession) -> None:
    flags = choose(frame(spark, many(50)), SETTINGS)
    plan = flags._jdf.queryExecution().executedPlan().toString()
    assert "WindowGroupLimit" in plan
    assert plan.index("Partial") > plan.index("Exchange")  # printed from the last step to the first


def test_no_scores_give_no_flags(spark: SparkSession) -> None:
    none = frame(spark, [])
    assert choose(none, SETTINGS).count() == 0
    candidates = with_suppression(rare(none, SETTINGS), SETTINGS)
    assert rare_by_day(candidates).count() == 0


def test_the_false_discovery_rate_is_that_of_benjamini_and_hochberg(spark: SparkSession) -> None:
    settings = SETTINGS.model_copy(
        update={"false_positive_rate": 1.0, "false_discovery_rate": 0.1, "budget_per_day": 999}
    )
    random = np.random.default_rng(3)
    rows = [
        (f"{day}-{index:02}", 1.0, float(p), date(2026, 1, day))
        for day in (1, 2, 3)
        for index, p in enumerate(np.round(random.uniform(size=40) ** (4 - day), 3) + 1e-4)
    ]
    found = {row["unit_id"] for row in choose(frame(spark, rows), settings).collect()}
    expected = set()
    for day in (1, 2, 3):
        of_day = sorted(row for row in rows if row[3].day == day)
        p_values = np.array([row[2] for row in of_day])
        # scipy's adjusted p-values are at most q where the procedure rejects at level q.
        rejected = false_discovery_control(p_values) <= 0.1
        expected |= {row[0] for row, is_in in zip(of_day, rejected, strict=True) if is_in}
    assert found == expected
    assert 0 < len(expected) < len(rows)


def test_a_day_is_crowded_if_far_more_units_are_rare_than_chance_makes_so() -> None:
    usual = DayCount(date(2026, 1, 5), 2000, 32)
    # Three times what is expected: of few units that is chance, of many it is not.
    few, many = DayCount(date(2026, 1, 6), 100, 3), DayCount(date(2026, 1, 7), 2000, 60)
    flooded = DayCount(date(2026, 1, 8), 3000, 900)
    # Not by chance either, yet no flood.
    somewhat = DayCount(date(2026, 1, 9), 100_000, 1900)
    days = [usual, few, many, flooded, somewhat]
    assert crowded_days(days, 0.01) == [flooded, many]
    assert crowded_days(days, 0.3) == []
    assert crowded_days([], 0.01) == []


def test_prices_say_from_which_p_value_on_a_flag_is_worth_it(spark: SparkSession) -> None:
    costs = CostSettings(miss=100, false_alarm=5, review=2, prior=0.01)
    p = cost_threshold(costs)
    odds = (0.01 / 0.99) / (-np.e * p * np.log(p))
    anomalous = odds / (1 + odds)
    assert 2 + (1 - anomalous) * 5 == pytest.approx(anomalous * 100)
    rows = [("below", 1.0, 0.99 * p, date(2026, 1, 1)), ("above", 1.0, 1.01 * p, date(2026, 1, 1))]
    settings = SETTINGS.model_copy(update={"false_positive_rate": 1.0, "costs": costs})
    assert [row["unit_id"] for row in choose(frame(spark, rows), settings).collect()] == ["below"]


@pytest.mark.parametrize(
    ("costs", "threshold"),
    [
        (CostSettings(miss=1, false_alarm=0, review=2, prior=0.5), 0.0),
        (CostSettings(miss=100, false_alarm=0, review=1, prior=0), 0.0),
        (CostSettings(miss=100, false_alarm=0, review=1, prior=0.5), 1 / np.e),
    ],
)
def test_some_prices_leave_nothing_to_weigh(costs: CostSettings, threshold: float) -> None:
    assert cost_threshold(costs) == pytest.approx(threshold)
