"""What new events change in the sessions that are there.

Only the sessions that the rule of `habitus.domain.sessions` lets a new event change are made again,
each with the session after it, which tells how it ended. What comes out is what a rebuild of
everything would give.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.event_fields import NOVEL
from habitus.domain.sessions import (
    ORDER,
    READ,
    finish,
    micros,
    rule_of,
    sessions_of_marked,
    stream_of,
    with_hint,
)
from habitus.tables import SESSION_EVENT, SESSIONS
from habitus.unit_settings import SessionSettings

_NARROW = ("session_id", "user_id", "session_hint", "started_at", "ended_at", "end_reason")


@dataclass(frozen=True)
class Touched:
    """What new events touch. Both frames are small and read several times: persist them.

    Attributes:
        kept: The sessions to make again, and after each the one that tells how it ended:
            session_id, started_at, context (it is only there for the one before it), and where the
            session before it is not kept, run_start (microseconds) and left_at, when that one
            ended.
        firsts: New events that are the first of their user with a value: user_id, field, value,
            event_id; and what was the first till now, if anything: old_event_id, old_session_id.
    """

    kept: DataFrame
    firsts: DataFrame


def touched_by(
    added: DataFrame, sessions: DataFrame, settings: SessionSettings, since: date
) -> Touched:
    """What new events touch in the sessions that are there.

    Args:
        added: Rows of `events` that are new; some may be in the sessions already.
        sessions: Rows of `sessions`, made by the same rule.
        settings: The rule.
        since: The `concerned_since` of the oldest open session and the first new event.
    """
    firsts = _new_firsts(sessions, added)
    return Touched(_kept(_recent(sessions, since), added, firsts, settings), firsts)


def changed_sessions(
    touched: Touched,
    added: DataFrame,
    sessions: DataFrame,
    settings: SessionSettings,
    now: datetime,
    since: date,
) -> DataFrame:
    """Sessions that new events make, may change, or take away.

    Args:
        touched: As from `touched_by`.
        added: Rows of `events` that are new.
        sessions: Rows of `sessions`.
        settings: The rule.
        now: Time up to which events are known.
        since: The day of the oldest session that is open or `kept`; older ones are not read.

    Returns:
        Rows of `sessions` of that day or later, and whether the row is `gone`; of such a row only
        the key is told.
    """
    sessions = _recent(sessions, since)
    old = sessions.join(touched.kept.drop("started_at"), "session_id")
    events = _events_again(old, added, touched.firsts, settings)
    made = finish(sessions_of_marked(events, rule_of(settings, now)))
    before = touched.kept.select("session_id", "context")
    changes = (
        made.join(before, "session_id", "full_outer")
        .where(~F.coalesce("context", F.lit(False)))
        .select(*SESSIONS.names, F.col("user_id").isNull().alias("gone"))
    )
    return changes.unionByName(_aged(sessions, touched.kept, settings, now))


def _recent(sessions: DataFrame, since: date) -> DataFrame:
    # All sessions are asked only for what was new in them; the rest is read since then.
    return sessions.where(F.col("session_date") >= F.lit(since))


def _new_firsts(sessions: DataFrame, added: DataFrame) -> DataFrame:
    told = F.array(
        *(
            F.struct(F.lit(column).alias("field"), F.col(column).alias("value"))
            for column in NOVEL.values()
        )
    )
    key = ["user_id", "field", "value"]
    new = (
        added.select("user_id", *ORDER, F.inline(told))
        .where("value is not null")
        .groupBy(*key)
        .agg(F.min(F.struct(*ORDER)).alias("first"))
    )
    users = added.select("user_id").distinct()
    known = (
        sessions.select("user_id", F.col("session_id").alias("old_session_id"), "new_values")
        .join(users, "user_id", "left_semi")
        .select("user_id", "old_session_id", F.inline("new_values"))
        .withColumnRenamed("event_id", "old_event_id")
        .withColumnRenamed("event_time", "old_event_time")
    )
    before = F.struct(F.col("old_event_time"), F.col("old_event_id"))
    earlier = F.col("old_event_id").isNull() | (F.col("first") < before)
    return (
        new.join(known, key, "left")
        .where(earlier)
        .select(*key, "first.event_id", "old_event_id", "old_session_id")
    )


def _kept(
    sessions: DataFrame, added: DataFrame, firsts: DataFrame, settings: SessionSettings
) -> DataFrame:
    near = _near(sessions, added, settings)
    displaced = firsts.where("old_session_id is not null").select(
        F.col("old_session_id").alias("session_id")
    )
    touched = near.unionByName(displaced).distinct().withColumn("touched", F.lit(True))
    order = Window.partitionBy(*stream_of(settings)).orderBy(
        "started_at",
        "first_id",
    )
    users = added.select("user_id").distinct()
    began = F.coalesce(F.lag("end_reason").over(order) != "cap", F.lit(True))
    started = F.when(F.col("began"), F.unix_micros("started_at"))
    listed = (
        sessions.select(*_NARROW, F.col("event_ids")[0].alias("first_id"))
        .join(users, "user_id", "left_semi")
        .join(touched, "session_id", "left")
        .withColumn("touched", F.coalesce("touched", F.lit(False)))
        .withColumn("began", began)
        .withColumn("run_start", F.last(started, ignorenulls=True).over(order))
        .withColumn("context", ~F.col("touched"))
        .withColumn(
            "keep", F.col("touched") | F.coalesce(F.lag("touched").over(order), F.lit(False))
        )
    )
    follows = F.coalesce(F.lag("keep").over(order), F.lit(False))
    return (
        listed.withColumn("run_start", F.when(~follows, F.col("run_start")))
        .withColumn("left_at", F.lag("ended_at").over(order))
        .where("keep")
        .select("session_id", "started_at", "context", "run_start", "left_at")
    )


def _near(sessions: DataFrame, added: DataFrame, settings: SessionSettings) -> DataFrame:
    """Ids of the sessions that the rule lets a new event change."""
    pause, longest = _reach(settings)
    moments = (
        added.groupBy("user_id", F.floor(F.unix_micros("event_time") / longest).alias("_period"))
        .agg(F.min("event_time").alias("first"), F.max("event_time").alias("last"))
        .select("user_id", "first", "last")
    )
    ended, started = F.unix_micros("ended_at"), F.unix_micros("started_at")
    reached = (
        (sessions["user_id"] == moments["user_id"])
        & (ended >= F.unix_micros("first") - pause)
        & (started <= F.unix_micros("last") + pause + longest)
    )
    narrow = sessions.select("session_id", "user_id", "started_at", "ended_at")
    return narrow.join(moments, reached, "left_semi").select("session_id")


def _events_again(
    old: DataFrame, added: DataFrame, firsts: DataFrame, settings: SessionSettings
) -> DataFrame:
    """Events of the kept sessions and new ones, marked by what is new now.

    Returns:
        Columns user_id, session_hint, the fields of an event, and run_start where the pass is to
        begin a session whatever it saw before.
    """
    inner = old.select(
        "user_id",
        "session_hint",
        "run_start",
        "left_at",
        F.posexplode("events").alias("position", "event"),
    )
    displaced = firsts.select(F.col("old_event_id").alias("event_id"), "field").dropna()
    there = inner.select(
        "user_id",
        "session_hint",
        *(F.col(f"event.{column.name}").alias(column.name) for column in SESSION_EVENT),
        F.when(F.col("position") == 0, F.col("run_start")).alias("run_start"),
        "left_at",
        F.lit(False).alias("added"),
    )
    there = _marked(there, displaced, lambda mark, here: mark & ~here)
    more = with_hint(added, settings).select(
        *READ,
        *(F.lit(False).alias(mark) for mark in NOVEL),
        F.lit(None).cast("bigint").alias("run_start"),
        F.lit(None).cast("timestamp").alias("left_at"),
        F.lit(True).alias("added"),
    )
    more = _marked(more, firsts.select("event_id", "field"), lambda mark, here: mark | here)
    order = Window.partitionBy(*stream_of(settings)).orderBy(*ORDER, "added")
    # A new event after the session that was left out is what is before the kept one, and the rule
    # holds between the two.
    before = F.lag(F.when(F.col("added"), F.col("event_time"))).over(order)
    joined = before.isNotNull() & (F.col("left_at").isNull() | (before > F.col("left_at")))
    again = F.col("added") & F.lag("event_id").over(order).eqNullSafe(F.col("event_id"))
    return (
        there.unionByName(more)
        .withColumns({"run_start": F.when(~joined, F.col("run_start")), "again": again})
        .where("not again")
        .drop("added", "again", "left_at")
    )


def _marked(
    events: DataFrame, fields: DataFrame, change: Callable[[Column, Column], Column]
) -> DataFrame:
    """Change the marks of novelty at these events, in these fields."""
    by_event = fields.groupBy("event_id").agg(F.collect_set("field").alias("_fields"))
    here = {
        mark: F.coalesce(F.array_contains("_fields", column), F.lit(False))
        for mark, column in NOVEL.items()
    }
    return (
        events.join(by_event, "event_id", "left")
        .withColumns({mark: change(F.col(mark), here[mark]) for mark in NOVEL})
        .drop("_fields")
    )


def _aged(
    sessions: DataFrame, kept: DataFrame, settings: SessionSettings, now: datetime
) -> DataFrame:
    """Open sessions that no new event touched, and that none can join any more."""
    made_again = kept.where("not context").select("session_id")
    open_ = sessions.where("not closed").join(made_again, "session_id", "left_anti")
    waited = F.unix_micros(F.lit(now)) - F.unix_micros("ended_at")
    reason = F.when(F.col("session_hint").isNotNull() & F.lit(settings.by == "hint"), "hint")
    return (
        open_.where(waited > micros(settings.gap))
        .withColumn("end_reason", F.coalesce(reason, F.lit("gap")))
        .withColumn("closed", F.lit(True))
        .withColumn("gone", F.lit(False))
        .select(*SESSIONS.names, "gone")
    )


def concerned_since(first: datetime, settings: SessionSettings) -> date:
    """The day from which on sessions may change, or tell of one that does.

    Args:
        first: The time of the first new event, or the start of an open session.
        settings: The rule.
    """
    # The session that an event changes ends at most the longest pause before it; where it belongs
    # to an unbroken run, the last `max_duration` of that run tells where the caps cut.
    return (first - settings.gap - 4 * settings.max_duration).date()


def _reach(settings: SessionSettings) -> tuple[int, int]:
    """The longest pause within a session, and the longest session, in microseconds."""
    longest = micros(settings.max_duration)
    return (longest if settings.by == "hint" else micros(settings.gap)), longest
