"""What the rows of a label file say, and why some say nothing."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.events import rejected_rows
from habitus.domain.label_rows import judge_labels, news, valid_labels
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


START = datetime(2026, 1, 1, tzinfo=UTC)
# Unit, day it is known, whether it is anomalous.
Said = tuple[str, int, bool]


def labels_of(spark: SparkSession, rows: list[Said], source: str = "shop") -> DataFrame:
    return spark.createDataFrame(
        [
            ("user", unit, label, "theft" if label else None, START + timedelta(days=day), source)
            for unit, day, label in rows
        ],
        LABELS.schema(),
    )


def said_by(frame: DataFrame) -> list[Said]:
    rows = frame.collect()
    days = [(row["known_at"] - START.replace(tzinfo=None)).days for row in rows]
    return sorted((row["unit_id"], day, row["label"]) for row, day in zip(rows, days, strict=True))


@pytest.mark.parametrize(
    ("known", "said", "found"),
    [
        # The first words, and each change of them.
        ([], [("a", 1, False), ("a", 2, False), ("a", 3, True)], [("a", 1, False), ("a", 3, True)]),
        # The same once more, in part or with more of the same after it.
        ([("a", 1, False), ("a", 3, True)], [("a", 1, False), ("a", 3, True), ("a", 9, True)], []),
        # Something new after it.
        ([("a", 1, True)], [("a", 1, True), ("a", 9, False)], [("a", 9, False)]),
        # Another mind about what was said, known when it is told; then the first mind again.
        ([("a", 7, False)], [("a", 7, True)], [("a", 45, True)]),
        ([("a", 7, False), ("a", 40, True)], [("a", 7, False)], [("a", 45, False)]),
        # What is not known yet is not known later for that.
        ([("a", 60, False)], [("a", 60, True)], [("a", 60, True)]),
        # Another mind about the past that a later word confirms is known by that.
        ([("a", 7, False)], [("a", 7, True), ("a", 9, True)], [("a", 9, True)]),
        # Words of units of before.
        ([("a", 7, False), ("b", 7, True)], [("a", 7, False), ("b", 7, True)], []),
    ],
)
def test_what_a_source_says_otherwise_than_before_is_known_when_it_is_told(
    spark: SparkSession, known: list[Said], said: list[Said], found: list[Said]
) -> None:
    told_at = START + timedelta(days=45)

    frame = news(labels_of(spark, said), labels_of(spark, known), told_at)

    assert LABELS.faults(frame.schema) == []
    assert said_by(frame) == found


def test_what_others_say_of_a_unit_is_not_what_the_source_said(spark: SparkSession) -> None:
    others = labels_of(spark, [("a", 8, True)], source="analyst")
    said = labels_of(spark, [("a", 7, True)])

    assert said_by(news(said, others, START + timedelta(days=45))) == [("a", 7, True)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_source_that_is_read_day_by_day_says_what_it_says_at_once(
    spark: SparkSession, seed: int
) -> None:
    dice = random.Random(seed)
    said = [
        (unit, day, dice.random() < 0.5)
        for unit in "abcde"
        for day in range(9)
        if dice.random() < 0.7
    ]

    def told(rows: list[Said], known: list[Said]) -> list[Said]:
        frame = news(labels_of(spark, rows), labels_of(spark, known), START + timedelta(days=45))
        return said_by(frame)

    at_once, by_parts = told(said, []), list[Said]()
    for days in (range(3), range(3, 4), range(2, 9)):
        by_parts += told([one for one in said if one[1] in days], by_parts)

    assert sorted(by_parts) == at_once
