"""What a session is.

A user's events are ordered by (event_time, event_id). A session starts at the user's first event
and wherever the pause since the event before is longer than `gap`, the source's session id
changes, or either, as `sessions.by` says. A session longer than `max_duration` is cut at every
multiple of it since the session's start, and one of more than `max_events` after every
`max_events` events; the parts say that a cap ended them. The last session of a user is open
while its next event could still join it; by the source's session id alone, a session is taken for
closed once nothing has come for `gap`.
"""

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.config import SessionSettings
from habitus.tables import SESSIONS

_ORDER = ("event_time", "event_id")
_NOVEL = {
    "new_device": "device_id",
    "new_network": "network",
    "new_counterparty": "counterparty_id",
}


def sessionize(events: DataFrame, settings: SessionSettings, now: datetime) -> DataFrame:
    """Group events into sessions.

    Args:
        events: Rows of `events`.
        settings: The rule.
        now: Time up to which events are known; a session that could still grow then is open.

    Returns:
        Rows of `sessions`. One shuffle, by user.
    """
    streams = _with_novelty(_with_stream(events, settings))
    sessions = _with_caps(_with_starts(streams, settings), settings)
    return _collect(sessions, settings, now)


def _with_stream(events: DataFrame, settings: SessionSettings) -> DataFrame:
    # By hint, a user's interleaved sessions are told apart; events without a hint fall to gaps.
    stream = F.col("session_hint") if settings.by == "hint" else F.lit(None).cast("string")
    return events.withColumn("_stream", stream)


def _with_novelty(events: DataFrame) -> DataFrame:
    """Mark the events at which a device, network or counterparty is new to the user."""
    columns = {}
    for name, value in _NOVEL.items():
        earlier = Window.partitionBy("user_id", value).orderBy(*_ORDER)
        new = F.when(F.col(value).isNotNull(), F.row_number().over(earlier) == 1)
        columns[name] = F.coalesce(new, F.lit(False))
    # The exchange is by user alone, which serves these windows and the ones after them.
    return events.repartition("user_id").withColumns(columns)


def _with_starts(events: DataFrame, settings: SessionSettings) -> DataFrame:
    """Number each user's runs of events between starts."""
    user = Window.partitionBy("user_id", "_stream").orderBy(*_ORDER)
    pause = F.col("event_time").cast("double") - F.lag("event_time").over(user).cast("double")
    late = pause > settings.gap.total_seconds()
    other = ~F.col("session_hint").eqNullSafe(F.lag("session_hint").over(user))
    first = pause.isNull()
    starts = {
        "gap": first | late,
        "both": first | late | other,
        "hint": first | (F.col("_stream").isNull() & late),
    }[settings.by]
    numbered = events.withColumns({"_starts": F.coalesce(starts, F.lit(False)), "_late": late})
    return numbered.withColumn("_run", F.sum(F.col("_starts").cast("long")).over(user))


def _with_caps(events: DataFrame, settings: SessionSettings) -> DataFrame:
    """Cut runs at the caps on duration, then on events."""
    run = Window.partitionBy("user_id", "_stream", "_run").orderBy(*_ORDER)
    seconds = F.col("event_time").cast("double") - F.first("event_time").over(run).cast("double")
    period = F.floor(seconds / settings.max_duration.total_seconds())
    timed = events.withColumn("_period", period)
    part = Window.partitionBy("user_id", "_stream", "_run", "_period").orderBy(*_ORDER)
    chunk = F.floor((F.row_number().over(part) - 1) / settings.max_events)
    return timed.withColumn("_chunk", chunk)


def _collect(events: DataFrame, settings: SessionSettings, now: datetime) -> DataFrame:
    """One row for each session, its events in order."""
    order = F.struct(*_ORDER)
    names = [part.split(":")[0].strip() for part in _event_fields()]
    grouped = events.groupBy("user_id", "_stream", "_run", "_period", "_chunk").agg(
        F.sort_array(F.collect_list(F.struct(order.alias("order"), *names))).alias("_sorted")
    )
    user = Window.partitionBy("user_id", "_stream").orderBy("_run", "_period", "_chunk")
    following = F.lead(F.struct("_run", "_period", "_chunk", F.col("_sorted")[0].alias("e"))).over(
        user
    )
    listed = grouped.select(
        "user_id",
        "_stream",
        "_run",
        following.alias("_next"),
        F.transform(
            "_sorted", lambda event: F.struct(*[event[name].alias(name) for name in names])
        ).alias("events"),
    )
    times = F.transform("events", lambda event: event["event_time"])
    measured = listed.withColumns(
        {"started_at": F.element_at(times, 1), "ended_at": F.element_at(times, -1)}
    ).withColumn("end_reason", _end_reason(settings, now))
    return measured.select(*_columns()).select(*SESSIONS.names)


def _end_reason(settings: SessionSettings, now: datetime) -> Column:
    following = F.col("_next")
    pause = following["e"]["event_time"].cast("double") - F.col("ended_at").cast("double")
    gap = settings.gap.total_seconds()
    waiting = F.lit(now).cast("double") - F.col("ended_at").cast("double") <= gap
    return (
        F.when(following.isNull() & waiting, "open")
        .when(following.isNull(), F.when(F.col("_stream").isNull(), "gap").otherwise("hint"))
        .when(following["_run"] == F.col("_run"), "cap")
        .when(pause > gap, "gap")
        .otherwise("hint")
    )


def _columns() -> list[Column]:
    actions = F.transform("events", lambda event: event["action"])
    counts = F.transform(
        F.array_distinct(actions),
        lambda action: F.struct(action, F.size(F.filter(actions, lambda other: other == action))),
    )
    items = F.transform("events", lambda event: event["item_id"])
    amounts = F.transform("events", lambda event: F.coalesce(event["amount"], F.lit(0.0)))
    first = F.col("events")[0]
    seconds = F.col("ended_at").cast("double") - F.col("started_at").cast("double")
    return [
        F.md5(F.concat_ws("\x1f", "user_id", first["event_id"])).alias("session_id"),
        F.col("user_id"),
        F.col("started_at"),
        F.col("ended_at"),
        seconds.alias("duration_s"),
        F.size("events").alias("n_events"),
        (F.col("end_reason") != "open").alias("closed"),
        F.col("end_reason"),
        F.map_from_entries(counts).alias("n_actions"),
        F.size(F.array_distinct(F.array_compact(items))).alias("n_items"),
        F.aggregate(amounts, F.lit(0.0), lambda total, amount: total + amount).alias("amount_sum"),
        F.transform("events", lambda event: event["event_id"]).alias("event_ids"),
        F.col("events"),
        F.to_date("started_at").alias("session_date"),
    ]


def _event_fields() -> list[str]:
    declared = next(column for column in SESSIONS.columns if column.name == "events").type
    return declared.removeprefix("array<struct<").removesuffix(">>").split(",")
