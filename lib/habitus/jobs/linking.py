"""From `anomalies` to `cases`: flags that belong together, as one thing to look at."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.linking import cases_of
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.judging import flagging_model
from habitus.jobs.reviewing import is_decided
from habitus.tables import ANOMALIES, CASES, EVENTS, sequences

# What flags may share, and the column of `events` that holds it.
_THINGS = {"device": "device_id", "network": "network", "counterparty": "counterparty_id"}
_THING = ["kind", "value"]


def run(context: JobContext) -> None:
    """Put the flags that are shown together into cases; what an analyst made of one stays."""
    model_id = flagging_model(context)
    shown = "suppressed_by is null and decision != 'allow'"
    flags = context.read(ANOMALIES).where(F.col("model_id") == model_id).where(shown)
    # A verdict holds for the flags that it was given on: what comes later makes a case of its own.
    decided = context.read_or_empty(CASES).where(F.col("model_id") == model_id).where(is_decided())
    flags = flags.join(decided.select(F.explode("unit_ids").alias("unit_id")), "unit_id", "anti")
    with (
        context.reporter.step("put flags together into cases"),
        persisted(flags),
        persisted(_units(context, flags)) as units,
        persisted(_things(context, units)) as things,
    ):
        links = _links(context, things)
        window = int(context.settings.cases.window.total_seconds() * 1e6)
        # A budget of flags a day is small beside the units, and so is what they share.
        amounts = units.groupBy("unit_id").agg(F.max("amount_sum").alias("amount_sum"))
        told = flags.select("unit_id", "user_id", "event_time", "p_value", "summary")
        found = cases_of(told.join(amounts, "unit_id").toArrow(), links.toArrow(), window)
    _write(context, model_id, found)


def _units(context: JobContext, flags: DataFrame) -> DataFrame:
    """The judged events of flagged units: unit_id, user_id, amount_sum and event_id."""
    judged = "slice({}, scored_from + 1, n_events)"
    amounts = F.expr(judged.format("amounts"))
    return (
        context.read(sequences(context.settings.sequences.fields))
        .join(F.broadcast(flags.select("unit_kind", "unit_id")), ["unit_kind", "unit_id"])
        .select(
            "unit_id",
            "user_id",
            F.aggregate(amounts, F.lit(0.0), lambda total, one: total + one).alias("amount_sum"),
            F.explode(F.expr(judged.format("event_ids"))).alias("event_id"),
        )
    )


def _things(context: JobContext, units: DataFrame) -> DataFrame:
    """What the judged events of flagged units use: unit_id, user_id, kind, value."""
    events = context.read(EVENTS).select("event_id", *_THINGS.values())
    judged = units.select("unit_id", "user_id", "event_id")
    return (
        events.join(F.broadcast(judged), "event_id")
        .select("unit_id", "user_id", used_things())
        .where("value is not null")
        .distinct()
    )


def _links(context: JobContext, things: DataFrame) -> DataFrame:
    """What flags of several users share and few others use: unit_id, kind, value, and counts."""
    flagged = things.groupBy(*_THING).agg(F.count_distinct("user_id").alias("flagged_users"))
    flagged = flagged.where("flagged_users > 1")
    users = (
        context.read(EVENTS)
        .select("user_id", used_things())
        .join(F.broadcast(flagged), _THING)
        .groupBy(*_THING, "flagged_users")
        .agg(F.count_distinct("user_id").alias("users"))
    )
    few = F.col("flagged_users") >= F.lit(context.settings.cases.least_share) * F.col("users")
    return things.join(F.broadcast(users.where(few)), _THING).select(
        "unit_id", *_THING, "users", "flagged_users"
    )


def used_things() -> Column:
    """Rows of kind and value: each thing that an event uses."""
    things = (
        F.struct(F.lit(kind).alias("kind"), F.col(column).alias("value"))
        for kind, column in _THINGS.items()
    )
    return F.inline(F.array(*things))


def _write(context: JobContext, model_id: str, found: list[dict[str, object]]) -> None:
    given = {"model_id": model_id, "status": "open", "run_id": context.run_id}
    rows = [
        {**case, **given, "event_date": case["started_at"].date(), "made_at": context.started_at}  # type: ignore[attr-defined]
        for case in found
    ]
    frame = context.spark.createDataFrame(rows, CASES.schema())
    here = context.read_or_empty(CASES).where(F.col("model_id") == model_id)
    # What an analyst has begun with stays, whatever became of its flags.
    gone = (
        here.where("status = 'open'").select(*CASES.key).join(frame, list(CASES.key), "left_anti")
    )
    marked = frame.withColumn("gone", F.lit(False)).unionByName(
        gone.withColumn("gone", F.lit(True)), allowMissingColumns=True
    )
    stays = {*CASES.key, "status", "run_id", "made_at", "gone"}
    context.merge(
        CASES,
        marked.select(*CASES.names, "gone"),
        update=tuple(name for name in CASES.names if name not in stays),
        stamp=("run_id", "made_at"),
    )
    rings = [case for case in found if case["n_users"] != 1]
    context.reporter.say(f"{len(found):,} cases, {len(rings):,} of them of several users")
