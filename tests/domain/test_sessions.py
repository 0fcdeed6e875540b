"""Sessions against a slow obvious reference, and the rule's corners by hand."""

import random
from datetime import timedelta
from typing import Any

import pytest
from event_streams import START, Row, event, frame, shoppers
from pyspark.sql import SparkSession
from session_words import rule, sessions_by_words, told

from habitus.domain.sessions import sessionize
from habitus.tables import EVENTS, SESSIONS
from habitus.unit_settings import SessionSettings

pytestmark = pytest.mark.spark

MINUTE = 60
NOW = START + timedelta(days=30)


def sessions(spark: SparkSession, events: list[Row], by: SessionSettings) -> list[dict[str, Any]]:
    made = sessionize(frame(spark, EVENTS, [complete(row) for row in events]), by, NOW)
    assert SESSIONS.faults(made.schema) == []
    rows = [row.asDict(recursive=True) for row in made.collect()]
    return sorted(rows, key=lambda row: (row["user_id"], row["started_at"], row["event_ids"]))


def complete(row: Row) -> Row:
    more = {"session_hint": None, "attributes": {}, "source": "test", "ingested_at": START}
    return more | {"event_date": row["event_time"].date()} | row


def ids(made: list[dict[str, Any]]) -> list[list[str]]:
    return [row["event_ids"] for row in made]


def reasons(made: list[dict[str, Any]]) -> list[str]:
    return [row["end_reason"] for row in made]


@pytest.mark.parametrize(
    ("by", "max_events", "max_hours", "batch"),
    [("gap", 5, 1, 3), ("hint", 2, 3, 10_000), ("both", 3, 2, 1)],
)
def test_sessions_are_those_of_the_words_of_the_rule(
    spark: SparkSession, by: str, max_events: int, max_hours: int, batch: int
) -> None:
    events = shoppers(max_events, users=30)
    settings_ = rule(by=by, max_events=max_events, max_duration=timedelta(hours=max_hours))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch)

    try:
        made = sessions(spark, events, settings_)
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")

    assert [told(row) for row in made] == sessions_by_words(events, settings_, NOW)


@pytest.mark.parametrize("by", ["gap", "hint", "both"])
def test_the_order_of_rows_does_not_matter(spark: SparkSession, by: str) -> None:
    events = shoppers(6, users=30)
    shuffled = random.Random(6).sample(events, len(events))

    assert sessions(spark, shuffled, rule(by=by)) == sessions(spark, events, rule(by=by))


def test_other_users_do_not_affect_a_users_sessions(spark: SparkSession) -> None:
    events = shoppers(7, users=30)
    users = {f"u{number}" for number in range(0, 30, 3)}
    together = sessions(spark, events, rule(by="both", max_events=3))
    alone = sessions(
        spark,
        [row for row in events if row["user_id"] in users],
        rule(by="both", max_events=3),
    )

    assert len(alone) < len(together)
    assert [row for row in together if row["user_id"] in users] == alone


def test_a_pause_of_exactly_the_gap_keeps_the_session(spark: SparkSession) -> None:
    made = sessions(spark, [event("u", 0, "1"), event("u", 30 * MINUTE, "2")], rule())

    assert ids(made) == [["1", "2"]]


def test_a_longer_pause_starts_a_session(spark: SparkSession) -> None:
    made = sessions(spark, [event("u", 0, "1"), event("u", 30 * MINUTE + 0.001, "2")], rule())

    assert ids(made) == [["1"], ["2"]]
    assert reasons(made) == ["gap", "gap"]


def test_events_at_the_same_time_are_ordered_by_their_id(spark: SparkSession) -> None:
    made = sessions(spark, [event("u", 0, "b"), event("u", 0, "a"), event("u", 0, "c")], rule())

    assert ids(made) == [["a", "b", "c"]]


def test_a_cap_on_events_closes_a_session_and_says_so(spark: SparkSession) -> None:
    made = sessions(spark, [event("u", n, f"{n}") for n in range(5)], rule(max_events=2))

    assert ids(made) == [["0", "1"], ["2", "3"], ["4"]]
    assert reasons(made) == ["cap", "cap", "gap"]


def test_activity_that_caps_cut_is_marked_as_heavy(spark: SparkSession) -> None:
    events = [event("u", n, f"{n}") for n in (0, 1, 2, 3 * 3600)]

    made = sessions(spark, events, rule(max_events=2))

    assert ids(made) == [["0", "1"], ["2"], [f"{3 * 3600}"]]
    assert [row["heavy"] for row in made] == [True, True, False]


def test_a_cap_on_duration_closes_a_session_and_says_so(spark: SparkSession) -> None:
    events = [event("u", n * 5 * MINUTE, f"{n}") for n in range(1, 9)]

    made = sessions(spark, events, rule(max_duration="30 minutes"))

    # From 15 minutes after the first event on, at every quarter of an hour.
    assert ids(made) == [["1", "2", "3", "4", "5"], ["6", "7", "8"]]
    assert reasons(made) == ["cap", "gap"]


def test_a_session_shorter_than_half_the_longest_is_never_cut(spark: SparkSession) -> None:
    events = [event("u", n * 5 * MINUTE, f"{n}") for n in (2, 3, 4)]

    assert ids(sessions(spark, events, rule(max_duration="30 minutes"))) == [["2", "3", "4"]]


def test_by_hint_alone_the_sources_id_ends_every_session(spark: SparkSession) -> None:
    events = [event("u", n, f"{n}", session_hint=hint) for n, hint in enumerate("ab")]

    assert reasons(sessions(spark, events, rule(by="hint"))) == ["hint", "hint"]


def test_another_hint_ends_a_session_when_hints_count(spark: SparkSession) -> None:
    events = [event("u", n, f"{n}", session_hint=hint) for n, hint in enumerate("aabba")]

    assert ids(sessions(spark, events, rule(by="both"))) == [["0", "1"], ["2", "3"], ["4"]]
    assert ids(sessions(spark, events, rule(by="hint"))) == [["0", "1", "4"], ["2", "3"]]
    assert ids(sessions(spark, events, rule(by="gap"))) == [["0", "1", "2", "3", "4"]]


def test_a_session_that_can_still_grow_is_open(spark: SparkSession) -> None:
    events = [event("u", 0, "1"), event("v", -31 * MINUTE, "2")]

    made = sessionize(frame(spark, EVENTS, [complete(row) for row in events]), rule(), START)

    open_ = {row["user_id"]: (row["closed"], row["end_reason"]) for row in made.collect()}
    assert open_ == {"u": (False, "open"), "v": (True, "gap")}


def test_a_session_sums_up_its_events(spark: SparkSession) -> None:
    events = [
        event("u", 0, "1", action="view", item_id="i", device_id="d"),
        event("u", 60, "2", action="view", item_id="i", amount=2.5, device_id="e"),
        event("u", 90, "3", action="buy", item_id="j", amount=4.0, device_id="d"),
    ]

    (row,) = sessions(spark, events, rule())

    assert (row["duration_s"], row["n_events"], row["n_items"]) == (90.0, 3, 2)
    assert row["n_actions"] == {"view": 2, "buy": 1}
    assert row["amount_sum"] == 6.5
    assert [inner["new_device"] for inner in row["events"]] == [True, True, False]


def test_sessions_cost_one_shuffle(spark: SparkSession) -> None:
    made = sessionize(frame(spark, EVENTS, [complete(event("u", 0, "1"))]), rule(), NOW)

    plan = made._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning") == 1
