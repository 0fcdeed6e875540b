"""Rows that are here, as frames."""

from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from habitus.edges.spark import local_frame

pytestmark = pytest.mark.spark

COLUMNS = "id string, at timestamp, counts map<string,bigint>"


def test_rows_are_as_given_and_what_is_missing_is_null(spark: SparkSession) -> None:
    at = datetime(2026, 1, 5, 12, 30, 0, 250, tzinfo=UTC)
    rows = [{"id": "a", "at": at, "counts": {"x": 1}}, {"id": "b", "counts": {}}]

    frame = local_frame(spark, COLUMNS, rows)

    found = [
        row.asDict() for row in frame.selectExpr("id", "unix_micros(at) at", "counts").collect()
    ]
    micros = int(at.timestamp()) * 1_000_000 + 250
    assert found == [
        {"id": "a", "at": micros, "counts": {"x": 1}},
        {"id": "b", "at": None, "counts": {}},
    ]


def test_no_row_at_all_is_a_frame_of_these_columns(spark: SparkSession) -> None:
    frame = local_frame(spark, COLUMNS)

    assert frame.columns == ["id", "at", "counts"]
    assert frame.count() == 0


def test_a_value_that_its_column_cannot_have_is_refused(spark: SparkSession) -> None:
    required = StructType([StructField("id", StringType(), nullable=False)])

    with pytest.raises(ValueError, match="null values to non-nullable"):
        local_frame(spark, required, [{"id": None}])
    with pytest.raises(ValueError, match="Could not convert 'many'"):
        local_frame(spark, "n_events int", [{"n_events": "many"}])


def test_no_python_worker_hands_the_rows_over(spark: SparkSession) -> None:
    frame = local_frame(spark, COLUMNS, [{"id": "a"}])

    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert "LocalTableScan" in plan
    assert "RDD" not in plan
