"""What a session is.

A user's events are ordered by (event_time, event_id). A session starts at the user's first event
and wherever the pause since the event before is longer than `gap`, the source's session id
changes, or either, as `sessions.by` says. By the source's session id alone, the sessions of a user
may interleave, an id that comes back after more than `max_duration` is another session, and events
without an id fall to pauses. Two caps cut what would go on too long:

- on duration: from half of `max_duration` after its first event on, a session is cut at every
  multiple of that half since 1970-01-01 UTC, so that none is longer than `max_duration` and none
  shorter than half of it is cut;
- on events: what is then left is cut after every `max_events` events.

The parts say that a cap ended them; they and the last one, which a pause ends, are `heavy`: a part
of activity that began at an earlier time or goes on, as that of bots and shared accounts. The last
session of a user is open while its next event could still join it; by the source's session id
alone, a session is taken for closed once nothing has come for `gap`.

A late event changes sessions of its user that begin within `gap` plus `max_duration` after it or
end within `gap` before it (by the source's session id alone, `max_duration` stands for `gap`), and
no other, however active the user is: where the caps cut does not depend on how long ago the
activity began. Only a mark of what was new to the user (`new_device`, ...) may change later, at the
event that is no longer the first.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.event_fields import NOVEL
from habitus.domain.session_pass import PASSED, Rule, sessions_of, with_novelty
from habitus.tables import SESSION_EVENT, SESSIONS
from habitus.unit_settings import SessionSettings

# The order of a user's events, and what is read of them.
ORDER = ("event_time", "event_id")
_NAMES = [column.name for column in SESSION_EVENT]
READ = ("user_id", "session_hint", *(name for name in _NAMES if name not in NOVEL))
_MARKED = ", ".join(
    ["user_id string", "session_hint string"]
    + [f"{column.name} {column.type}" for column in SESSION_EVENT]
)
_PASSED = ", ".join(
    f"{column.name} {column.type}" for column in SESSIONS.columns if column.name in PASSED
)


def sessionize(events: DataFrame, settings: SessionSettings, now: datetime) -> DataFrame:
    """Group events into sessions.

    One shuffle, by user, and one sort; the rest is a single pass over the sorted events, whose
    memory no user's number of events adds to, only what the user was seen with.

    Args:
        events: Rows of `events`.
        settings: The rule.
        now: Time up to which events are known; a session that could still grow then is open.

    Returns:
        Rows of `sessions`.
    """
    rule = rule_of(settings, now)
    read = with_hint(events, settings).select(*READ)
    by_time = read.repartition("user_id").sortWithinPartitions("user_id", *ORDER)
    if rule.streams:
        return finish(sessions_of_marked(by_time.mapInArrow(with_novelty, _MARKED), rule))
    return finish(by_time.mapInArrow(partial(_sessions_with_novelty, rule=rule), _PASSED))


def sessions_of_marked(events: DataFrame, rule: Rule) -> DataFrame:
    """The pass over events whose marks of novelty are known, each user's in one partition."""
    streams = ["session_hint"] if rule.streams else []
    in_order = events.sortWithinPartitions("user_id", *streams, *ORDER)
    return in_order.mapInArrow(partial(sessions_of, rule=rule, fields=_NAMES), _PASSED)


def finish(passed: DataFrame) -> DataFrame:
    """Add the columns of `sessions` that follow from the others."""
    seconds = (F.unix_micros("ended_at") - F.unix_micros("started_at")) / 1_000_000
    return passed.withColumns(
        {
            "session_id": F.md5(F.concat_ws("\x1f", "user_id", F.col("events")[0]["event_id"])),
            "event_ids": F.col("events.event_id"),
            "duration_s": seconds,
            "n_events": F.size("events"),
            "closed": F.col("end_reason") != "open",
            "session_date": F.to_date("started_at"),
        }
    ).select(*SESSIONS.names)


def with_hint(events: DataFrame, settings: SessionSettings) -> DataFrame:
    """The events, with the source's session id only where the rule counts it."""
    counts = settings.by != "gap"
    return events if counts else events.withColumn("session_hint", F.lit(None).cast("string"))


def stream_of(settings: SessionSettings) -> list[str]:
    """What tells streams of events apart that do not end each other's sessions."""
    return ["user_id", "session_hint"] if settings.by == "hint" else ["user_id"]


def rule_of(settings: SessionSettings, now: datetime) -> Rule:
    """The rule as the pass takes it."""
    return Rule(
        gap=micros(settings.gap),
        by_hint=settings.by == "both",
        streams=settings.by == "hint",
        half=micros(settings.max_duration) // 2,
        max_events=settings.max_events,
        now=micros(now - datetime(1970, 1, 1, tzinfo=UTC)),
    )


def micros(duration: timedelta) -> int:
    """Whole microseconds."""
    return duration // timedelta(microseconds=1)


def _sessions_with_novelty(
    batches: Iterable[pa.RecordBatch], rule: Rule
) -> Iterator[pa.RecordBatch]:
    return sessions_of(with_novelty(batches), rule, _NAMES)
