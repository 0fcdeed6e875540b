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
# Day on which it is known, and whether it is anomalous.
Said = tuple[int, bool]


def labels_of(
    spark: SparkSession, unit_kind: str, rows: list[Said], source: str = "shop"
) -> DataFrame:
    labels = [
        (unit_kind, "a", label, "theft" if label else None, START + timedelta(days=day), source)
        for day, label in rows
    ]
    return spark.createDataFrame(labels, LABELS.schema())


def said_by(labels: DataFrame) -> list[Said]:
    start = START.replace(tzinfo=None)
    return sorted(((row["known_at"] - start).days, row["label"]) for row in labels.collect())


@pytest.mark.parametrize(
    ("unit_kind", "known", "said", "found"),
    [
        # What was not said before: the first time, going on, and of a time before.
        ("user", [], [(1, False), (3, True)], [(1, False), (3, True)]),
        ("user", [(1, False)], [(1, False), (9, True)], [(9, True)]),
        ("user", [(9, False)], [(3, True)], [(3, True)]),
        # The same once more, all of it or an older part.
        ("user", [(3, True), (5, False)], [(3, True), (5, False)], []),
        ("user", [(3, True), (5, False)], [(3, True)], []),
        ("event", [(7, False)], [(7, False)], []),
        # Another mind is known when it is told, once.
        ("event", [(7, False)], [(7, True)], [(45, True)]),
        ("event", [(7, False), (40, True)], [(7, True)], []),
        ("user", [(1, False), (9, False)], [(1, True), (9, True)], [(45, True)]),
        ("user", [(1, False), (9, False), (40, True)], [(1, True), (9, True)], []),
        # The rows of before it, read again, do not take it back.
        ("event", [(7, False), (40, True)], [(7, False)], []),
        # What is not known yet is not known any later for that.
        ("event", [(60, False)], [(60, True)], [(60, True)]),
        # Of a user a later word that stays, or comes with it, counts more.
        ("user", [(7, False), (9, False)], [(7, True), (9, False)], []),
        ("user", [(7, False)], [(7, True), (9, True)], [(9, True)]),
        # An event's label stays where another delay would put it.
        ("event", [(7, False)], [(3, False)], []),
        ("event", [(7, False)], [(30, True)], [(45, True)]),
    ],
)
def test_what_a_source_says_otherwise_than_before_is_known_when_it_is_told(
    spark: SparkSession, unit_kind: str, known: list[Said], said: list[Said], found: list[Said]
) -> None:
    told_at = START + timedelta(days=45)
    labels = (labels_of(spark, unit_kind, rows) for rows in (said, known))

    frame = news(*labels, told_at)

    assert LABELS.faults(frame.schema) == []
    assert said_by(frame) == found


@pytest.mark.parametrize(("day", "found"), [(8, [(7, True)]), (7, [])])
def test_what_others_say_of_an_event_stays_and_is_not_what_the_source_said(
    spark: SparkSession, day: int, found: list[Said]
) -> None:
    others = labels_of(spark, "event", [(day, False)], source="analyst")
    said = labels_of(spark, "event", [(7, True)])

    assert said_by(news(said, others, START + timedelta(days=45))) == found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_source_that_is_read_in_parts_and_again_says_what_it_says_at_once(
    spark: SparkSession, seed: int
) -> None:
    dice = random.Random(seed)
    said = [(day, dice.random() < 0.5) for day in range(9) if dice.random() < 0.8]
    parts = [range(3), range(6, 7), range(2, 7), range(9), range(1)]
    dice.shuffle(parts)

    by_parts = list[Said]()
    for days in parts:
        rows = labels_of(spark, "user", [one for one in said if one[0] in days])
        known = labels_of(spark, "user", by_parts)
        by_parts += said_by(news(rows, known, START + timedelta(days=45)))

    assert sorted(by_parts) == said
