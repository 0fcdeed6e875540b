"""Aggregates over all rows of a frame."""

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, Row


def totals(frame: DataFrame, *columns: Column) -> Row:
    """The values of aggregates over all rows, by their names; times in UTC."""
    row: Row | None = frame.agg(*columns).first()
    assert row is not None, "an aggregate without groups has one row"
    return Row(*row.__fields__)(*map(_zoned, row))


def _zoned(value: Any) -> Any:
    # PySpark hands over times without a zone, in the process's own, which is UTC.
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
