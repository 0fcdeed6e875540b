"""From `anomalies` to `cases`: flags that belong together, as one thing to look at."""

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.joining import whole_if_few
from habitus.domain.linking import cases_of, keep_ids, with_components
from habitus.domain.sessions import micros
from habitus.domain.sharing import edges_of, in_stretches, links_of, shared_stretches
from habitus.domain.stars import components
from habitus.domain.totals import last_until, totals
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import flagging_model
from habitus.jobs.reviewing import is_decided, is_shown
from habitus.tables import ANOMALIES, CASES, EVENTS, sequences
from habitus.unit_columns import UNIT_KEY

# What flags may share, and the column of `events` that holds it.
_THINGS = {"device": "device_id", "network": "network", "counterparty": "counterparty_id"}


def run(context: JobContext) -> None:
    """Put the flags that are shown together into cases; what an analyst made of one stays.

    A verdict holds for the flags that it was given on: what comes later makes a case of its own.
    """
    model_id = flagging_model(context)
    flags = context.read(ANOMALIES).where(F.col("model_id") == model_id).where(is_shown())
    cases = context.read_or_empty(CASES).where(F.col("model_id") == model_id)
    is_over = is_decided() | _is_settled(context, flags)
    over = cases.where(is_over).select(F.explode("unit_ids").alias("unit_id"))
    flags = flags.join(over, "unit_id", "anti")
    with context.reporter.step("put flags together into cases"):
        # Each is read several times by the next, whose plan would hold its own as often.
        flags = flags.localCheckpoint()
        units = _units(context, flags).localCheckpoint()
        things = _things(context, units).localCheckpoint()
        links = _links(context, things).localCheckpoint()
        # A budget of flags a day is small beside the units, and so is what they share.
        amounts = units.groupBy("unit_id").agg(F.max("amount_sum").alias("amount_sum"))
        told = flags.select("unit_id", "user_id", "event_time", "p_value", "summary")
        found = _cases(context, told.join(amounts, "unit_id"), links)
    _write(context, model_id, cases.where(~is_over), found)


def _is_settled(context: JobContext, flags: DataFrame) -> Column:
    """Whether a case ended so long before the last flag that none can join it.

    Without that each run would read the events of all days on which something was ever flagged. A
    flag of a time to come, by a clock that is wrong, settles nothing.
    """
    last = totals(flags, last_until("event_time", context.started_at).alias("last"))["last"]
    if last is None:
        return F.lit(False)
    after = last - context.settings.cases.settled_after
    return F.coalesce(F.col("ended_at") < F.lit(after), F.lit(False))


def _cases(context: JobContext, flags: DataFrame, links: DataFrame) -> list[dict[str, Any]]:
    settings, language = context.settings.cases, context.settings.alerts.language
    if links.count() <= settings.on_driver:
        window = micros(settings.window)
        linked = links.toArrow()
        return cases_of(with_components(flags.toArrow(), linked, window), linked, language)
    joined = components(edges_of(flags, links, settings.window))
    joined = joined.withColumnRenamed("node", "unit_id")
    component = F.coalesce("component", "unit_id").alias("component")
    labelled = flags.join(joined, "unit_id", "left").select(*flags.columns, component)
    # Of a thing that many flags of a case share one row is enough.
    of_case = links.join(labelled.select("unit_id", "component"), "unit_id")
    things = [name for name in links.columns if name != "unit_id"]
    once = of_case.groupBy("component", *things).agg(F.min("unit_id").alias("unit_id"))
    return cases_of(labelled.toArrow(), once.drop("component").toArrow(), language)


def _units(context: JobContext, flags: DataFrame) -> DataFrame:
    """The judged events of flagged units: unit_id, user_id, event_time, amount_sum and event_id.

    `event_time` is the flag's, `event_date` the day of the event.
    """
    judged = "slice({}, scored_from + 1, n_events)"
    amounts = F.expr(judged.format("amounts"))
    events = F.arrays_zip(
        F.expr(judged.format("event_ids")).alias("event_id"),
        F.expr(judged.format("event_times")).alias("time"),
    )
    return (
        context.read(sequences(context.settings.sequences.fields))
        .join(whole_if_few(flags.select(*UNIT_KEY, "event_time")), UNIT_KEY)
        .select(
            "unit_id",
            "user_id",
            "event_time",
            F.aggregate(amounts, F.lit(0.0), lambda total, one: total + one).alias("amount_sum"),
            F.inline(events),
        )
        .withColumn("event_date", F.to_date("time"))
        .drop("time")
    )


def _things(context: JobContext, units: DataFrame) -> DataFrame:
    """What the judged events of flagged units use, see `sharing.in_stretches`."""
    judged = units.select("unit_id", "user_id", "event_time", "event_id")
    days = [row["event_date"] for row in units.select("event_date").distinct().collect()]
    uses = (
        context.read(EVENTS)
        .where(F.col("event_date").isin(days))
        .select("event_id", F.col("event_time").alias("time"), *_THINGS.values())
        .join(whole_if_few(judged), "event_id")
        .select("unit_id", "user_id", "event_time", "time", used_things())
        .where("value is not null")
    )
    things = uses.groupBy("unit_id", "user_id", "event_time", "kind", "value").agg(
        F.min("time").alias("used_from"), F.max("time").alias("used_until")
    )
    return in_stretches(things, context.settings.cases.window)


def _links(context: JobContext, things: DataFrame) -> DataFrame:
    """What flags share, see `sharing.links_of`; of the events only their days are read."""
    settings = context.settings.cases
    stretches = shared_stretches(things, settings.window).localCheckpoint()
    time = F.sequence(F.to_date("since"), F.to_date("until"))
    days = stretches.select(F.explode(time).alias("day")).distinct().collect()
    events = context.read(EVENTS).where(F.col("event_date").isin([row["day"] for row in days]))
    uses = events.select("user_id", "event_time", used_things())
    return links_of(things, stretches, uses, settings.least_share)


def used_things() -> Column:
    """Rows of kind and value: each thing that an event uses."""
    things = (
        F.struct(F.lit(kind).alias("kind"), F.col(column).alias("value"))
        for kind, column in _THINGS.items()
    )
    return F.inline(F.array(*things))


def _write(
    context: JobContext, model_id: str, here: DataFrame, found: list[dict[str, Any]]
) -> None:
    """Write the cases that were found, and remove those `here`, not over yet, that are no more."""
    is_open = F.col("status") == "open"
    # What an analyst has begun with stays, whatever became of its flags, and goes on by its id.
    begun = here.where(~is_open).orderBy("started_at", "case_id")
    rows_begun = [row.asDict() for row in begun.select("case_id", "unit_ids").collect()]
    found, gone_ids = keep_ids(found, rows_begun)
    given = {"model_id": model_id, "status": "open", "run_id": context.run_id}
    rows = [
        {**case, **given, "event_date": case["started_at"].date(), "made_at": context.started_at}
        for case in found
    ]
    frame = local_frame(context.spark, CASES.schema(), rows)
    may_go = here.where(is_open | F.col("case_id").isin(gone_ids)).select(*CASES.key)
    gone = may_go.join(frame, list(CASES.key), "left_anti")
    marked = frame.withColumn("gone", F.lit(False)).unionByName(
        gone.withColumn("gone", F.lit(True)), allowMissingColumns=True
    )
    stays = {*CASES.key, "status", "run_id", "made_at", "gone"}
    context.merge(
        CASES,
        marked.select(*CASES.names, "gone"),
        update=tuple(name for name in CASES.names if name not in stays),
        stamp=("run_id", "made_at"),
        # What an analyst has found meanwhile was not looked at.
        made_from=context.inputs.get(CASES.name),
    )
    rings = [case for case in found if case["n_users"] != 1]
    context.reporter.say(f"{len(found):,} cases, {len(rings):,} of them of several users")
