"""What the rows of a label file say, and why some say nothing."""

from datetime import UTC, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.events import rejected_rows
from habitus.domain.label_rows import judge_labels, valid_labels
from habitus.domain.mapping import LabelFileMapping
from habitus.tables import EVENTS_REJECTED, LABELS

pytestmark = pytest.mark.spark

COLUMNS = {
    "unit_kind": "what",
    "unit_id": "id",
    "label": "cast(fraud as boolean)",
    "known_at": "to_timestamp(ts)",
}
MAPPING = LabelFileMapping(format="csv", columns=COLUMNS)


def judged(spark: SparkSession, *rows: tuple[str | None, ...]) -> DataFrame:
    frame = spark.createDataFrame(rows, "what string, id string, fraud string, ts string")
    return judge_labels(frame, MAPPING, "bank", datetime(2026, 2, 1, tzinfo=UTC))


def test_a_row_is_a_label_of_its_key_or_is_rejected_with_every_reason(spark: SparkSession) -> None:
    frame = judged(
        spark,
        ("event", "1", "true", "2026-01-01"),
        ("event", "1", "false", "2026-01-01"),
        ("user", "ann", "false", "2026-01-01"),
        ("basket", "2", "true", "2026-01-01"),
        (None, "3", "maybe", "tomorrow"),
    )

    labels, rejected = valid_labels(frame), rejected_rows(frame)

    assert LABELS.faults(labels.schema) == EVENTS_REJECTED.faults(rejected.schema) == []
    assert sorted((row["unit_kind"], row["unit_id"], row["label"]) for row in labels.collect()) == [
        ("event", "1", True),
        ("user", "ann", False),
    ]
    assert sorted(row["reasons"] for row in rejected.collect()) == [
        ["unit_kind_is_known"],
        [f"{name}_missing_or_malformed" for name in ("unit_kind", "label", "known_at")],
    ]


def test_of_two_rows_on_one_thing_the_anomalous_one_is_taken_as_it_is(spark: SparkSession) -> None:
    kinds = LabelFileMapping(format="csv", columns={**COLUMNS, "kind": "kind"})
    rows = [
        ("event", "1", "true", "2026-01-01", "ato"),
        ("event", "1", "false", "2026-01-01", "zz"),
    ]
    frame = spark.createDataFrame(
        rows, "what string, id string, fraud string, ts string, kind string"
    )
    judged_rows = judge_labels(frame, kinds, "bank", datetime(2026, 2, 1, tzinfo=UTC))

    (label,) = valid_labels(judged_rows).collect()
    assert (label["label"], label["kind"]) == (True, "ato")


def test_ids_of_fixed_width_name_what_events_have_trimmed(spark: SparkSession) -> None:
    (row,) = valid_labels(judged(spark, ("event ", " 4711   ", "true", "2026-01-01"))).collect()

    assert (row["unit_kind"], row["unit_id"]) == ("event", "4711")
