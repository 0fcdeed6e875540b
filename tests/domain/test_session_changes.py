"""Sessions brought up to date against sessions made anew."""

import random
from datetime import UTC, date
from typing import Any

import pytest
from event_streams import START, Row, frame, shoppers
from pyspark.sql import SparkSession
from session_words import rule, told

from habitus.domain.session_changes import changed_sessions, concerned_since, touched_by
from habitus.domain.sessions import sessionize
from habitus.tables import EVENTS, SESSIONS
from habitus.unit_settings import SessionSettings

pytestmark = pytest.mark.spark


def made(spark: SparkSession, events: list[Row], by: SessionSettings) -> dict[str, Row]:
    now = max(row["event_time"] for row in events)
    rows = sessionize(frame(spark, EVENTS, events), by, now).collect()
    return {row["session_id"]: row.asDict(recursive=True) for row in rows}


def updated(
    spark: SparkSession, before: dict[str, Row], added: list[Row], by: SessionSettings, now: Any
) -> tuple[dict[str, Row], date]:
    """The sessions after the changes, and the day since which they were read."""
    old = frame(spark, SESSIONS, list(before.values()))
    open_ = [row["started_at"].replace(tzinfo=UTC) for row in before.values() if not row["closed"]]
    since = concerned_since(min([*open_, *(row["event_time"] for row in added)]), by)
    new = frame(spark, EVENTS, added)
    touched = touched_by(new, old, by, since)
    changes = changed_sessions(touched, new, old, by, now, since).collect()
    after = dict(before)
    for change in changes:
        row = change.asDict(recursive=True)
        if row.pop("gone"):
            del after[row["session_id"]]
        else:
            after[row["session_id"]] = row
    assert len({change["session_id"] for change in changes}) == len(changes)
    return after, since


@pytest.mark.parametrize(
    ("seed", "by", "share", "latest"),
    [
        (3596, "hint", 0.3, False),  # a stream whose session before was left out
        (35, "both", 0.9, False),  # sessions of one microsecond
        (1, "gap", 0.02, True),
        (2, "hint", 0.3, True),
        (3, "both", 0.3, True),
    ],
)
def test_new_events_leave_what_a_rebuild_makes(
    spark: SparkSession, seed: int, by: str, share: float, latest: bool
) -> None:
    events = shoppers(seed)
    random_ = random.Random(seed)
    now = max(row["event_time"] for row in events)
    since = START + (now - START) * 0.6 if latest else START
    added = [row for row in events if random_.random() < share and row["event_time"] >= since]
    there = [row for row in events if row not in added]
    # Some events come a second time.
    again = [row for row in there if row["event_time"] >= since]
    added += random_.sample(again, min(3, len(again)))

    by_ = rule(by=by, max_events=4, max_duration="2 hours")
    before = made(spark, there, by_)
    after, read_since = updated(spark, before, added, by_, now)

    # Of new events of the latest days, the days before are not read.
    assert any(row["session_date"] < read_since for row in before.values()) == latest
    rebuilt = made(spark, events, by_)
    assert {key: told(row) for key, row in after.items()} == {
        key: told(row) for key, row in rebuilt.items()
    }
    assert after == rebuilt
