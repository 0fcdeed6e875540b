"""Aggregates over all rows of a frame."""

from pyspark.sql import Column, DataFrame, Row


def totals(frame: DataFrame, *columns: Column) -> Row:
    """The values of aggregates over all rows, by their names."""
    row: Row | None = frame.agg(*columns).first()
    assert row is not None, "an aggregate without groups has one row"
    return row
