from datetime import UTC, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.domain.labelling import (
    UNNAMED,
    doubtful_labels,
    unit_labels,
    unit_verdicts,
    unmatched_labels,
)

pytestmark = pytest.mark.spark

LABEL = "unit_kind string, unit_id string, label boolean, kind string, known_at timestamp"
SEQUENCE = (
    "unit_id string, unit_kind string, user_id string, n_events int, scored_from int, "
    "event_ids array<string>"
)
Label = tuple[str, str, bool, str | None, int]

SESSIONS = [
    ("s1", "session", "ann", 2, 0, ["e1", "e2"]),
    ("s2", "session", "ann", 1, 0, ["e3"]),
    ("s3", "session", "bob", 2, 0, ["e4", "e5"]),
]
EVENTS = [
    ("e1", "event", "ann", 1, 0, ["e1"]),
    ("e2", "event", "ann", 2, 1, ["e1", "e2"]),
    ("e3", "event", "ann", 3, 2, ["e1", "e2", "e3"]),
]


def day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def marked(
    spark: SparkSession,
    labels: list[Label],
    sequences: list[tuple[str, str, str, int, int, list[str]]],
    known_by: datetime | None = None,
) -> set[tuple[str, str]]:
    frame: DataFrame = spark.createDataFrame(
        [(*label[:4], day(label[4])) for label in labels], LABEL
    )
    rows = unit_labels(frame, spark.createDataFrame(sequences, SEQUENCE), known_by).collect()
    found = {(row["unit_id"], row["kind"]) for row in rows}
    assert len(found) == len(rows), "one row per unit and kind"
    return found


def test_an_event_marks_its_session_a_session_itself_and_a_user_all_units(
    spark: SparkSession,
) -> None:
    labels: list[Label] = [
        ("event", "e2", True, "card_testing", 1),
        ("event", "e1", True, "card_testing", 1),
        ("session", "s2", True, "scraping", 1),
        ("user", "ann", True, "account_takeover", 1),
        ("event", "e4", False, None, 1),
        ("event", "elsewhere", True, "scraping", 1),
    ]
    assert marked(spark, labels, SESSIONS) == {
        ("s1", "card_testing"),
        ("s2", "scraping"),
        ("s1", "account_takeover"),
        ("s2", "account_takeover"),
    }


def test_an_event_that_is_only_history_marks_nothing(spark: SparkSession) -> None:
    labels: list[Label] = [("event", "e1", True, "card_testing", 1), ("event", "e3", True, None, 1)]
    assert marked(spark, labels, EVENTS) == {("e1", "card_testing"), ("e3", UNNAMED)}


def test_what_became_known_last_wins(spark: SparkSession) -> None:
    labels: list[Label] = [
        ("event", "e1", True, "scraping", 1),
        ("event", "e1", False, None, 5),
        ("event", "e3", False, None, 1),
        ("event", "e3", True, "scraping", 3),
        ("event", "e3", True, "card_testing", 4),
    ]
    assert marked(spark, labels, SESSIONS) == {("s2", "card_testing")}
    assert marked(spark, labels, SESSIONS, day(3)) == {("s1", "scraping"), ("s2", "scraping")}


def test_a_verdict_on_the_unit_itself_overrules_what_was_known_before(spark: SparkSession) -> None:
    labels: list[Label] = [
        ("user", "ann", True, "account_takeover", 1),
        ("event", "e2", True, "card_testing", 3),
        ("session", "s1", False, None, 2),
    ]
    assert marked(spark, labels, SESSIONS) == {("s1", "card_testing"), ("s2", "account_takeover")}


def test_a_verdict_without_a_kind_leaves_the_kind_that_an_event_has(spark: SparkSession) -> None:
    labels: list[Label] = [
        ("event", "e1", True, "card_testing", 1),
        ("session", "s1", True, None, 5),
        ("session", "s3", True, None, 5),
    ]
    assert marked(spark, labels, SESSIONS) == {("s1", "card_testing"), ("s3", UNNAMED)}


def test_no_labels_mark_nothing(spark: SparkSession) -> None:
    assert marked(spark, [], SESSIONS) == set()


def test_labels_of_nothing_and_labels_from_before_are_counted(spark: SparkSession) -> None:
    labels: list[Label] = [
        ("event", "e1", True, "scraping", 4),  # known a day before its session began
        ("session", "s1", True, "scraping", 5),
        ("session", "s9", True, "scraping", 6),
        ("event", "elsewhere", False, None, 6),
        ("user", "ann", True, "scraping", 1),
        ("user", "zoe", True, "scraping", 6),
    ]
    frame = spark.createDataFrame([(*label[:4], day(label[4])) for label in labels], LABEL)
    units = spark.createDataFrame(SESSIONS, SEQUENCE).withColumn("started_at", F.lit(day(5)))
    assert doubtful_labels(frame, units).asDict() == {"unmatched": 3, "early": 1}
    unmatched = {row["labelled"] for row in unmatched_labels(frame, units).collect()}
    assert unmatched == {"s9", "elsewhere", "zoe"}


def verdicts(
    spark: SparkSession,
    labels: list[Label],
    sequences: list[tuple[str, str, str, int, int, list[str]]],
    known_by: int = 9,
) -> dict[str, bool]:
    frame = spark.createDataFrame([(*label[:4], day(label[4])) for label in labels], LABEL)
    units = spark.createDataFrame(sequences, SEQUENCE)
    flagged = units.select("unit_kind", "unit_id")
    rows = unit_verdicts(frame, flagged, units, day(known_by)).collect()
    return {row["unit_id"]: row["label"] for row in rows}


@pytest.mark.parametrize("few", [0, 1_000_000])
def test_what_flags_turned_out_to_be_is_said_of_them_or_of_events_they_judge_however_many(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("habitus.domain.joining._FEW", few)
    labels: list[Label] = [
        ("session", "s1", False, None, 2),
        ("event", "e2", True, "card_testing", 3),  # known after its session was cleared
        ("event", "e3", False, None, 1),
        ("user", "bob", True, "scraping", 1),  # says nothing of one session
        ("session", "elsewhere", True, None, 1),
    ]
    assert verdicts(spark, labels, SESSIONS) == {"s1": True, "s2": False}
    assert verdicts(spark, labels, SESSIONS, known_by=2) == {"s1": False, "s2": False}
    of_events: list[Label] = [("event", "e1", True, None, 1), ("event", "e3", False, None, 1)]
    assert verdicts(spark, of_events, EVENTS) == {"e1": True, "e3": False}
