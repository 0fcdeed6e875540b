"""What became of each day's units, run by run."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jobs.conftest import Lines, SmallLake, small_settings
from pyspark.sql import SparkSession

from habitus.jobs.flag_days import count_days
from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs

# Units of each day of January, and how many of them are rare and suppressed.
Days = dict[int, tuple[int, int, int]]


@pytest.fixture
def folder(chain: SmallLake, tmp_path: Path) -> Path:
    """Of a lake that has models and no tables."""
    shutil.copytree(f"{chain.settings.lake.root}/models", tmp_path / "lake/models")
    return tmp_path


def count(spark: SparkSession, folder: Path, days: Days, start: int, **alerts: Any) -> int:
    """Count days in a run of the period that starts at noon of a day."""
    settings = small_settings(
        folder, "alerts.budget_per_day=2", f"score.from=2026-01-{start}T12:00"
    )
    changed = {"alerts": settings.alerts.model_copy(update=alerts)}
    context = JobContext("score", settings.model_copy(update=changed), spark, Lines())
    units = [date(2026, 1, day) for day, counts in days.items() for _ in range(counts[0])]
    rare = [
        (date(2026, 1, day), "muted" if number < counts[2] else None)
        for day, counts in days.items()
        for number in range(counts[1])
    ]
    model_id = context.artefacts.current()["markov"]
    return count_days(
        context,
        spark.createDataFrame([(day,) for day in units], "event_date date"),
        spark.createDataFrame(rare, "event_date date, suppressed_by string"),
        model_id,
    )


def found(folder: Path, *more: str) -> list[tuple[Any, ...]]:
    rows = pl.read_delta(f"{folder}/lake/flag_days").sort("event_date")
    names = ("units", "rare", "suppressed", "flagged", "cut", *more)
    return list(zip(rows["event_date"].dt.day(), *(rows[name] for name in names), strict=True))


def test_a_later_run_counts_its_days_again_and_leaves_those_that_it_sees_less_of(
    spark: SparkSession, folder: Path
) -> None:
    first: Days = {10: (8, 5, 1), 11: (9, 1, 0), 12: (7, 0, 0), 13: (6, 6, 0)}

    assert count(spark, folder, first, 10) == 2 + 4
    assert found(folder, "false_positive_rate", "counted_from") == [
        (10, 8, 5, 1, 2, 2, 0.1, datetime(2026, 1, 10, 12, tzinfo=UTC)),
        (11, 9, 1, 0, 1, 0, 0.1, datetime(2026, 1, 11, tzinfo=UTC)),
        (12, 7, 0, 0, 0, 0, 0.1, datetime(2026, 1, 12, tzinfo=UTC)),
        (13, 6, 6, 0, 2, 4, 0.1, datetime(2026, 1, 13, tzinfo=UTC)),
    ]
    before = pl.read_delta(f"{folder}/lake/flag_days").sort("event_date")

    assert count(spark, folder, first, 10) == 6
    assert pl.read_delta(f"{folder}/lake/flag_days").sort("event_date").equals(before)

    # Of the 11th this run sees the afternoon only; of the 12th no unit is left.
    assert count(spark, folder, {11: (4, 4, 0), 13: (6, 1, 0)}, 11, false_positive_rate=0.01) == 2
    assert found(folder, "false_positive_rate") == [
        (10, 8, 5, 1, 2, 2, 0.1),
        (11, 9, 1, 0, 1, 0, 0.1),
        (13, 6, 1, 0, 1, 0, 0.01),
    ]
