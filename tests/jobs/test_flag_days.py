"""What became of each day's units, run by run."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from jobs.conftest import Lines, small_settings
from pyspark.sql import SparkSession

from habitus.jobs.flag_days import count_days
from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs


class Day(NamedTuple):
    """A day's units: how many there are, of those rare, of those suppressed."""

    units: int
    rare: int = 0
    suppressed: int = 0


Days = dict[int, Day]
BUDGET = 2


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def count(
    spark: SparkSession,
    folder: Path,
    days: Days,
    start: datetime,
    *settings: str,
    precise_until: float | None = None,
    told: Lines | None = None,
) -> int:
    """Count days of January in a run of the period from a time on."""
    given = small_settings(folder, f"alerts.budget_per_day={BUDGET}", *settings)
    context = JobContext("score", given, spark, told or Lines())
    units = [(date(2026, 1, day),) for day, of in days.items() for _ in range(of.units)]
    rare = [
        (date(2026, 1, day), "ours" if number < of.suppressed else None, "watch")
        for day, of in days.items()
        for number in range(of.rare)
    ]
    flags = [
        (date(2026, 1, day), None, "watch")
        for day, of in days.items()
        for _ in range(min(of.rare - of.suppressed, BUDGET))
    ]
    flags += [one for one in rare if one[1] is not None]
    row = "event_date date, suppressed_by string, decision string"
    return count_days(
        context,
        spark.createDataFrame(units, "event_date date"),
        spark.createDataFrame(rare, row),
        spark.createDataFrame(flags, row),
        model_id="m-1",
        start=start,
        precise_until=precise_until,
    )


def rows_in(folder: Path) -> pl.DataFrame:
    return pl.read_delta(f"{folder}/lake/flag_days").sort("event_date")


def found(folder: Path, *more: str) -> list[tuple[Any, ...]]:
    rows = rows_in(folder)
    names = ("units", "rare", "suppressed", "flagged", "cut", *more)
    return list(zip(rows["event_date"].dt.day(), *(rows[name] for name in names), strict=True))


def test_a_later_run_counts_its_days_again_and_leaves_those_that_it_sees_less_of(
    spark: SparkSession, tmp_path: Path
) -> None:
    first = {10: Day(8, 5, 1), 11: Day(9, 1), 12: Day(7), 13: Day(6, 6)}

    assert count(spark, tmp_path, first, at(10, 12)) == 2 + 4
    assert found(tmp_path, "false_positive_rate", "counted_from", "counted_until") == [
        (10, 8, 5, 1, 2, 2, 0.1, at(10, 12), None),
        (11, 9, 1, 0, 1, 0, 0.1, at(11), None),
        (12, 7, 0, 0, 0, 0, 0.1, at(12), None),
        (13, 6, 6, 0, 2, 4, 0.1, at(13), None),
    ]
    before = rows_in(tmp_path)

    assert count(spark, tmp_path, first, at(10, 12)) == 6
    assert rows_in(tmp_path).equals(before)

    # Of the 11th this run sees the afternoon only; of the 12th no unit is left.
    again = {11: Day(4, 4), 13: Day(6, 1)}
    assert count(spark, tmp_path, again, at(11, 12), "alerts.false_positive_rate=0.01") == 2
    assert found(tmp_path, "false_positive_rate") == [
        (10, 8, 5, 1, 2, 2, 0.1),
        (11, 9, 1, 0, 1, 0, 0.1),
        (13, 6, 1, 0, 1, 0, 0.01),
    ]


def test_a_day_that_is_not_over_says_until_when_it_was_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    until = "score.until=2026-01-12T12:00"
    count(spark, tmp_path, {10: Day(8, 1), 11: Day(5), 12: Day(3, 1)}, at(10), until)
    noon = at(12, 12)
    # A session that began on the 11th may end a day later.
    assert found(tmp_path, "counted_until") == [
        (10, 8, 1, 0, 1, 0, None),
        (11, 5, 0, 0, 0, 0, noon),
        (12, 3, 1, 0, 1, 0, noon),
    ]

    # An earlier end sees less of the last days, and nothing of the 12th.
    count(spark, tmp_path, {10: Day(8, 3), 11: Day(4)}, at(10), "score.until=2026-01-12")
    assert found(tmp_path, "counted_until") == [
        (10, 8, 3, 0, 2, 1, None),
        (11, 5, 0, 0, 0, 0, noon),
        (12, 3, 1, 0, 1, 0, noon),
    ]

    count(spark, tmp_path, {10: Day(8, 3), 11: Day(6), 12: Day(7, 1)}, at(10))
    assert found(tmp_path, "counted_until") == [
        (10, 8, 3, 0, 2, 1, None),
        (11, 6, 0, 0, 0, 0, None),
        (12, 7, 1, 0, 1, 0, None),
    ]


def test_what_is_suppressed_takes_no_place_and_what_reviews_did_is_told(
    spark: SparkSession, tmp_path: Path
) -> None:
    cut = count(spark, tmp_path, {10: Day(9, 6, 1)}, at(10), precise_until=0.02)
    assert cut == 3
    assert found(tmp_path, "precision_threshold") == [(10, 9, 6, 1, 2, 3, 0.02)]


def test_days_like_those_of_a_promotion_are_told_of(spark: SparkSession, tmp_path: Path) -> None:
    told = Lines()
    days = {day: Day(100, 40 + day) for day in (11, 12, 13, 14)} | {10: Day(100, 12)}

    count(spark, tmp_path, days, at(10), told=told)

    (line,) = (line for line in told.lines if "far more" in line)
    assert line.startswith("far more sessions are rare than the 0.1 of alerts.false_positive_rate")
    assert (
        "2026-01-14 (54 of 100), 2026-01-13 (53 of 100), 2026-01-12 (52 of 100) and 1 more" in line
    )
    assert "let `segments` name such days" in line
