"""Aggregates over all rows of a frame."""

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F


def totals(frame: DataFrame, *columns: Column) -> Row:
    """The values of aggregates over all rows, by their names; times in UTC."""
    row: Row | None = frame.agg(*columns).first()
    assert row is not None, "an aggregate without groups has one row"
    return Row(*row.__fields__)(*map(_zoned, row))


def _zoned(value: Any) -> Any:
    # PySpark hands over times without a zone, in the process's own, which is UTC.
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def last_until(name: str, now: datetime) -> Column:
    """The last of a column's times or days up to now; of all, if they all are to come.

    A single event of a clock that is wrong would otherwise make all others long past.
    """
    return F.coalesce(F.max(F.when(F.col(name) <= F.lit(now), F.col(name))), F.max(name))
