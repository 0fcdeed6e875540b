"""Canonical events: what is valid, what is rejected and why, what is the same twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from habitus.domain.events import judge, rejected_rows, row_labels, valid_events
from habitus.domain.mapping import SourceMapping
from habitus.tables import EVENTS, EVENTS_REJECTED, LABELS

pytestmark = pytest.mark.spark

INGESTED = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = "id string, ts string, customer string, event string, price string, fraud string"
SPARK = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
Line = tuple[str | None, ...]


def mapping(**changes: Any) -> SourceMapping:
    plain = {
        "name": "shop",
        "format": "csv",
        "columns": {
            "event_id": "id",
            "event_time": "to_timestamp(ts)",
            "user_id": "customer",
            "action": "event",
            "amount": "price",
        },
        "valid": {"amount_not_negative": "amount >= 0"},
    }
    return SourceMapping.model_validate(plain | changes)


def judged(
    spark: SparkSession, lines: list[Line], source: SourceMapping | None = None
) -> DataFrame:
    return judge(spark.createDataFrame(lines, SCHEMA), source or mapping(), INGESTED)


def reasons(spark: SparkSession, line: Line) -> list[str]:
    (row,) = judged(spark, [line]).collect()
    return list(row["_reasons"])


def test_a_row_becomes_an_event(spark: SparkSession) -> None:
    frame = valid_events(judged(spark, [("7", "2026-01-02 03:04:05", " u ", "VIEW", "2.5", None)]))

    (row,) = frame.collect()
    assert EVENTS.faults(frame.schema) == []
    assert (row["event_id"], row["user_id"], row["action"], row["amount"]) == (
        "7",
        "u",
        "view",
        2.5,
    )
    assert row["event_time"] == datetime(2026, 1, 2, 3, 4, 5)
    assert row["item_id"] is None
    assert row["attributes"] == {}
    assert row["event_date"].isoformat() == "2026-01-02"


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("NaN", []),
        ("Infinity", ["amount_malformed"]),
        ("1e300", ["amount_malformed"]),
        ("1O", ["amount_malformed"]),
    ],
)
def test_an_amount_is_a_number_or_missing(spark: SparkSession, price: str, why: list[str]) -> None:
    line = ("1", "2026-01-01", "u", "view", price, None)

    assert reasons(spark, line) == why
    assert [row["amount"] for row in valid_events(judged(spark, [line])).collect()] == (
        [] if why else [None]
    )


def test_every_reason_is_given(spark: SparkSession) -> None:
    assert reasons(spark, ("1", "2026-01-01", "u", "view", "1", None)) == []
    assert reasons(spark, ("1", "soon", "", "view", "-1", None)) == [
        "user_id_missing_or_malformed",
        "event_time_missing_or_malformed",
        "amount_not_negative",
    ]
    assert reasons(spark, ("1", "2026-01-01", "u", None, "much", None)) == [
        "action_missing_or_malformed",
        "amount_malformed",
    ]


def test_a_missing_value_breaks_no_rule_about_it(spark: SparkSession) -> None:
    assert reasons(spark, ("1", "2026-01-01", "u", "view", None, None)) == []


def test_a_rejected_row_is_kept_whole(spark: SparkSession) -> None:
    frame = rejected_rows(judged(spark, [("1", "soon", "u", "view", "1", None)] * 2))

    (row,) = frame.collect()
    assert EVENTS_REJECTED.faults(frame.schema) == []
    assert row["raw"] == '{"id":"1","ts":"soon","customer":"u","event":"view","price":"1"}'


def test_the_content_identifies_an_event_without_an_id(spark: SparkSession) -> None:
    columns = {name: text for name, text in mapping().columns.items() if name != "event_id"}
    same = ("x", "2026-01-01", "ab", "c", None, None)
    other = ("x", "2026-01-01", "a", "bc", None, None)

    frame = valid_events(judged(spark, [same, same, other], mapping(columns=columns)))

    assert sorted((row["user_id"], row["action"]) for row in frame.collect()) == [
        ("a", "bc"),
        ("ab", "c"),
    ]


fields = st.sampled_from(["1", "2", "u", "", "2026-01-01", "-3", "view", "\x1f", '"', "nul\x00"])
garbage = st.lists(st.tuples(*[st.one_of(st.none(), fields)] * 6), min_size=1, max_size=60)


@SPARK
@given(lines=garbage)
def test_every_row_is_an_event_or_rejected_or_a_duplicate(
    spark: SparkSession, lines: list[Line]
) -> None:
    # Spark trims spaces; Python's strip would take control characters, too.
    def is_valid(line: Line) -> bool:
        _, time, user, action, price, _ = (value and value.strip(" ") for value in line)
        number = price is None or price in ("1", "2", "")
        return bool(time == "2026-01-01" and user and action) and number and price != ""

    frame = judged(spark, lines)
    events, rejected = valid_events(frame).count(), rejected_rows(frame).count()
    valid = [line for line in lines if is_valid(line)]
    anonymous = {
        (u.strip(" "), a.strip(" ").lower(), p)
        for i, _, u, a, p, _ in valid
        if not (i and i.strip(" "))
    }  # type: ignore[union-attr]
    ids = {i.strip(" ") for i, *_ in valid if i and i.strip(" ")}
    assert events == len(ids) + len(anonymous)
    assert rejected == len({line for line in lines if not is_valid(line)})


@SPARK
@given(lines=garbage, randomness=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_change_the_events(
    spark: SparkSession, lines: list[Line], randomness: Any
) -> None:
    shuffled = lines.copy()
    randomness.shuffle(shuffled)

    def content(rows: list[Line]) -> list[Any]:
        return sorted(str(row) for row in valid_events(judged(spark, rows)).collect())

    assert content(shuffled) == content(lines)


def test_row_labels_count_from_the_time_they_are_known(spark: SparkSession) -> None:
    label = {
        "unit_kind": "event",
        "value": "fraud = '1'",
        "kind": "'theft'",
        "known_after": "7 days",
    }
    source = mapping(label=label)
    lines = [
        ("1", "2026-01-01", "u", "pay", "1", "1"),
        ("2", "2026-01-02", "u", "pay", "1", "0"),
        ("3", "2026-01-02", "u", "pay", "1", None),
    ]

    frame = row_labels(judged(spark, lines, source), source)

    assert LABELS.faults(frame.schema) == []
    rows = {row["unit_id"]: (row["label"], row["kind"], row["known_at"]) for row in frame.collect()}
    known = datetime(2026, 1, 8)
    assert rows == {"1": (True, "theft", known), "2": (False, None, known + timedelta(days=1))}


@pytest.mark.parametrize(
    ("unit_kind", "labels"),
    [
        ("session", {("event", "1", True), ("event", "2", True), ("event", "3", False)}),
        ("user", {("user", "u", True), ("user", "u", False), ("user", "v", False)}),
    ],
)
def test_what_rows_say_of_the_sources_sessions_is_said_of_their_events(
    spark: SparkSession, unit_kind: str, labels: set[tuple[str, str, bool]]
) -> None:
    label = {"unit_kind": unit_kind, "value": "fraud = '1'", "known_after": "7 days"}
    source = mapping(label=label)
    lines = [
        ("1", "2026-01-01", "u", "pay", "1", "1"),
        ("2", "2026-01-02", "u", "pay", "1", "0"),
        ("2", "2026-01-03", "u", "pay", "1", "1"),
        ("3", "2026-01-02", "v", "pay", "1", "0"),
    ]

    rows = row_labels(judged(spark, lines, source), source).collect()

    assert {(row["unit_kind"], row["unit_id"], row["label"]) for row in rows} == labels


@pytest.mark.parametrize("seconds", ["1767225600000", "-70000000000", "-62135596800"])
def test_a_time_that_no_calendar_has_is_malformed(spark: SparkSession, seconds: str) -> None:
    columns = mapping().columns | {"event_time": "timestamp_seconds(cast(ts as bigint))"}
    (row,) = (
        judged(spark, [("7", seconds, "u", "view", "1", None)], mapping(columns=columns))
        .select("event_time", "_reasons")
        .collect()
    )

    assert row["event_time"] is None
    assert row["_reasons"] == ["event_time_missing_or_malformed"]


def test_bytes_that_are_no_text_become_the_sign_for_that(spark: SparkSession) -> None:
    columns = mapping().columns | {"user_id": "cast(X'FF41' as string)"}

    (row,) = judged(
        spark, [("7", "2026-01-02", "u", "view", "1", None)], mapping(columns=columns)
    ).collect()

    assert row["user_id"] == "\ufffdA"
    assert row["_reasons"] == []
