"""The choice of flags, against the obvious way in plain Python."""

from datetime import date

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from habitus.config import AlertSettings
from habitus.domain.alerts import choose, cut_by_budget

pytestmark = pytest.mark.spark

SETTINGS = AlertSettings(detector="markov", budget_per_day=3, false_positive_rate=0.01, reasons=5)
Row = tuple[str, float, float, date]


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


def test_severity_and_decision_follow_the_decades_of_the_p_value(spark: SparkSession) -> None:
    p_values = [1e-12, 1e-5, 2e-5, 1e-4, 2e-4, 1e-3, 2e-3, 1e-2]
    rows = [(f"{p:g}", 1.0, p, date(2026, 1, 1)) for p in p_values]
    flags = choose(frame(spark, rows), SETTINGS.model_copy(update={"budget_per_day": 99}))
    found = [(row["severity"], row["decision"]) for row in flags.orderBy("p_value").collect()]
    assert found == [
        *[("critical", "challenge")] * 2,
        *[("high", "challenge")] * 2,
        *[("medium", "watch")] * 2,
        *[("low", "watch")] * 2,
    ]


def test_what_the_budget_cut_is_counted(spark: SparkSession) -> None:
    rows = [(f"a{index}", 1.0, 0.005, date(2026, 1, 1)) for index in range(5)]
    rows += [("b", 1.0, 0.005, date(2026, 1, 2)), ("c", 1.0, 0.5, date(2026, 1, 3))]
    found = {
        row["event_date"].day: (row["flagged"], row["cut"])
        for row in cut_by_budget(frame(spark, rows), SETTINGS).collect()
    }
    assert found == {1: (5, 2), 2: (1, 0)}


def test_flagged_and_cut_add_up_to_the_rare_units(spark: SparkSession) -> None:
    rows = many(200)
    chosen = choose(frame(spark, rows), SETTINGS).count()
    cut = sum(row["cut"] for row in cut_by_budget(frame(spark, rows), SETTINGS).collect())
    assert chosen + cut == sum(row[2] <= 0.01 for row in rows)


def test_only_a_days_budget_of_rows_is_shuffled_from_each_task(spark: SparkSession) -> None:
    flags = choose(frame(spark, many(50)), SETTINGS)
    plan = flags._jdf.queryExecution().executedPlan().toString()
    assert "WindowGroupLimit" in plan
    assert plan.index("Partial") > plan.index("Exchange")  # printed from the last step to the first


def test_no_scores_give_no_flags(spark: SparkSession) -> None:
    none = frame(spark, [])
    assert choose(none, SETTINGS).count() == 0
    assert cut_by_budget(none, SETTINGS).count() == 0
