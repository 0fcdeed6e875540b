"""From `scores` to `anomalies`: the strangest units of the scoring period, with their reasons."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.edges.spark import local_frame
from habitus.jobs.deciding import DECIDED, WITHDRAWN, decided_beside, flag_candidates
from habitus.jobs.flag_days import count_days, until_all_ended
from habitus.jobs.frame import JobContext
from habitus.jobs.placing import place_flags
from habitus.jobs.reviewing import judged_flags, precise_p_value, status_verdicts
from habitus.tables import ANOMALIES, SCORES
from habitus.unit_columns import UNIT_KEY

_UPDATED = ("score", "p_value", "severity", "segment", "summary", *DECIDED)
_NOT_STRANGEST = f"{WITHDRAWN}: it is not among the strangest any more"
_GONE = f"{WITHDRAWN}: its unit is no more"


def flag(context: JobContext, units: DataFrame, start: datetime, model_id: str) -> None:
    """Write the flags that the budget admits, each with its reasons, and what became of each day.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        start: When that begins.
        model_id: The model whose scores decide.
    """
    precise_until = precise_p_value(context, model_id)
    # Each of these is read by many others, whose plans would hold its own again and again.
    judged = judged_flags(context).localCheckpoint()
    found = flag_candidates(context, units, model_id, precise_until, judged).localCheckpoint()
    candidates, flags = place_flags(context, units, found, judged, model_id)
    here = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
    others = here.join(flags, UNIT_KEY, "left_anti")
    withdrawn = _withdrawn(context, units, others, start, model_id).localCheckpoint()
    others = others.join(withdrawn, UNIT_KEY, "left_anti")
    _write_flags(context, decided_beside(context, flags, others), withdrawn)
    free = candidates.where("suppressed_by is null").select(*ANOMALIES.key)
    written = context.read_now(ANOMALIES).join(free, list(ANOMALIES.key), "semi")
    context.rows_out["cut by budget"] = cut = count_days(
        context,
        units,
        candidates,
        written,
        model_id=model_id,
        start=start,
        precise_until=precise_until,
    )
    context.reporter.say(
        f"{cut:,} more units were strange enough to flag, but cut by the budget of "
        f"{context.settings.alerts.budget_per_day} a day"
    )


def _write_flags(context: JobContext, decided: DataFrame, withdrawn: DataFrame) -> None:
    given = {
        "status": F.lit("open"),
        "run_id": F.lit(context.run_id),
        "scored_at": F.lit(context.started_at),
    }
    rows = decided.withColumns(given).select(*ANOMALIES.names)
    # What an analyst made of a flag, its status, is never overwritten.
    context.merge(
        ANOMALIES,
        rows.unionByName(withdrawn.select(*ANOMALIES.names)),
        update=_UPDATED,
        stamp=("reasons", "run_id", "scored_at"),
        # What an analyst has said meanwhile was not looked at.
        made_from=context.inputs.get(ANOMALIES.name),
    )


def _withdrawn(
    context: JobContext,
    units: DataFrame,
    others: DataFrame,
    start: datetime,
    model_id: str,
) -> DataFrame:
    """Open flags of the period that are not chosen any more, and what is said of them.

    Their units are scored as less strange now, or stranger ones have come that day; so the flags
    of a day do not depend on how often it was scored. They stay, to tell why something was done,
    and are not shown. What an analyst has looked at is left as it is.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        others: Rows of `anomalies` of the model that were not chosen now.
        start: When the period begins.
        model_id: The model that flags.
    """
    until = context.settings.score.until
    # A unit that ends in the period began no longer before than a session may last.
    first = F.lit(start - until_all_ended(context.settings))
    late = others.where((F.col("status") == "open") & (F.col("event_time") >= first))
    if until is not None:
        late = late.where(F.col("event_time") < F.lit(until))
    late = late.where(F.col("unit_kind") == context.settings.unit)
    doubtful = late.join(status_verdicts(context), UNIT_KEY, "left_anti")
    if doubtful.isEmpty():
        return local_frame(context.spark, ANOMALIES.schema())
    few = F.broadcast(doubtful.select(*UNIT_KEY))
    scored = context.read_now(SCORES).where(F.col("model_id") == model_id)
    scored = scored.select(*UNIT_KEY).join(few, UNIT_KEY)
    judged_now = units.select(*UNIT_KEY).join(few, UNIT_KEY)
    gone = doubtful.join(scored, UNIT_KEY, "left_anti").withColumn("suppressed_by", F.lit(_GONE))
    again = doubtful.join(judged_now, UNIT_KEY, "left_semi")
    return gone.unionByName(again.withColumn("suppressed_by", F.lit(_NOT_STRANGEST)))
