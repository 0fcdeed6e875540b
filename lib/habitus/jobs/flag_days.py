"""What became of each day's units, as rows of `flag_days`."""

from datetime import UTC, datetime, time
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.alerts import cost_threshold, cut_by_budget
from habitus.edges.models import load_model
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import period_start
from habitus.tables import FLAG_DAYS


def count_days(context: JobContext, units: DataFrame, candidates: DataFrame, model_id: str) -> int:
    """Write how many units of each day were judged, rare, suppressed, flagged and cut.

    Days of the period without a unit have no row. A day that began before the period keeps the row
    of a run that saw more of it.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        candidates: As for `alerts.choose`.
        model_id: The model that flags.

    Returns:
        How many units the budget cut, of all days together.
    """
    start = period_start(context, load_model(context.artefacts.root, model_id).vocabulary)
    budget = context.settings.alerts.budget_per_day
    counts = (
        units.groupBy("event_date")
        .agg(F.count(F.lit(1)).alias("units"))
        .join(F.broadcast(cut_by_budget(candidates, budget)), "event_date", "left")
        .fillna(0)
        .collect()
    )
    rows = [_row(context, row.asDict(), model_id, start) for row in counts]
    days = context.spark.createDataFrame(rows, FLAG_DAYS.schema())
    key = list(FLAG_DAYS.key)
    here = context.read_or_empty(FLAG_DAYS).where(
        (F.col("model_id") == model_id) & (F.col("unit_kind") == context.settings.unit)
    )
    sees_less = F.col("counted_from") < F.greatest(
        F.lit(start), F.col("event_date").cast("timestamp")
    )
    gone = here.where(~sees_less & _begins_before_end(context)).join(days, key, "left_anti")
    marked = days.join(here.where(sees_less), key, "left_anti").withColumn("gone", F.lit(False))
    stamp = ("run_id", "scored_at")
    context.merge(
        FLAG_DAYS,
        marked.unionByName(gone.withColumn("gone", F.lit(True))),
        update=tuple(name for name in FLAG_DAYS.names if name not in {*key, *stamp}),
        stamp=stamp,
    )
    return sum(row["cut"] for row in counts)


def _begins_before_end(context: JobContext) -> Column:
    until = context.settings.score.until
    return F.lit(True) if until is None else F.col("event_date") < F.lit(until)


def _row(
    context: JobContext, counts: dict[str, Any], model_id: str, start: datetime
) -> dict[str, Any]:
    alerts = context.settings.alerts
    day = datetime.combine(counts["event_date"], time(), UTC)
    return {
        **counts,
        "flagged": counts["rare"] - counts["suppressed"] - counts["cut"],
        "model_id": model_id,
        "unit_kind": context.settings.unit,
        "budget_per_day": alerts.budget_per_day,
        "false_positive_rate": alerts.false_positive_rate,
        "false_discovery_rate": alerts.false_discovery_rate,
        "cost_threshold": None if alerts.costs is None else cost_threshold(alerts.costs),
        "precision": alerts.precision,
        "counted_from": max(start, day),
        "run_id": context.run_id,
        "scored_at": context.started_at,
    }
