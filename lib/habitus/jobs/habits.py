"""How the users of flagged units usually behave: their earlier sessions, summed up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.reporting.cases import Flag, Habit
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.tables import SESSIONS

DAYS = 90
_SHARES = (0.1, 0.5, 0.9)


def habits(context: JobContext, flags: Sequence[Flag]) -> Mapping[str, Habit]:
    """For these few flags, the sessions of each one's user that had ended before it.

    Returns:
        Flagged unit -> habit.
    """
    if not flags:
        return {}
    wanted = local_frame(
        context.spark,
        "unit_id string, user_id string, flagged_at timestamp",
        (
            {"unit_id": flag.unit_id, "user_id": flag.user_id, "flagged_at": flag.event_time}
            for flag in flags
        ),
    )
    first = min(flag.event_time for flag in flags).date() - timedelta(days=DAYS)
    sessions = context.read(SESSIONS).where(F.col("session_date") >= F.lit(first))
    found: dict[str, list[Row]] = defaultdict(list)
    for row in summed(sessions.join(F.broadcast(wanted), "user_id")).collect():
        found[row["unit_id"]].append(row)
    return {flag.unit_id: _habit(found[flag.unit_id]) for flag in flags}


def summed(sessions: DataFrame) -> DataFrame:
    """What there is to say of the sessions before each flag: as many rows as things to say.

    Args:
        sessions: Rows of `sessions` with the `unit_id` of a flag and its time, `flagged_at`.

    Returns:
        `unit_id`, `facet` (hour, action, events, amount), `name` of the hour or action,
        `times` it was met, `total` and `shares`, the values that a tenth, half and nine tenths of
        the sessions do not exceed.
    """
    before = (F.col("ended_at") < F.col("flagged_at")) & (
        F.col("session_date") >= F.date_sub(F.col("flagged_at").cast("date"), DAYS)
    )
    actions = F.transform(
        F.map_entries("n_actions"), lambda entry: _facet("action", entry["value"], entry["key"])
    )
    amount = F.filter(
        F.array(_facet("amount", F.col("amount_sum"))), lambda facet: facet["value"] > 0
    )
    others = F.array(
        _facet("hour", F.lit(1), F.hour("started_at")), _facet("events", F.col("n_events"))
    )
    return (
        sessions.where(before)
        .select("unit_id", F.inline(F.concat(others, amount, actions)))
        .groupBy("unit_id", "facet", "name")
        .agg(
            F.count(F.lit(1)).alias("times"),
            F.sum("value").alias("total"),
            F.percentile_approx("value", list(_SHARES)).alias("shares"),
        )
    )


def _facet(name: str, value: Column, of: Column | None = None) -> Column:
    return F.struct(
        F.lit(name).alias("facet"),
        (F.lit("") if of is None else of.cast("string")).alias("name"),
        value.cast("double").alias("value"),
    )


def _habit(rows: Sequence[Row]) -> Habit:
    by_facet = {(row["facet"], row["name"]): row for row in rows}
    events, amounts = by_facet.get(("events", "")), by_facet.get(("amount", ""))
    if events is None:
        return Habit(DAYS, 0)
    hours = [by_facet.get(("hour", str(hour))) for hour in range(24)]
    return Habit(
        days=DAYS,
        sessions=events["times"],
        hours=tuple(0 if row is None else row["times"] for row in hours),
        actions={
            name: row["total"] for (facet, name), row in by_facet.items() if facet == "action"
        },
        events=tuple(events["shares"]),
        amounts=None if amounts is None else tuple(amounts["shares"]),
    )
