"""What became of each day's units, as rows of `flag_days`."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.domain.alerts import DayCount, cost_threshold, crowded_days, rare_by_day
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import is_shown
from habitus.tables import FLAG_DAYS

_TOLD = 3  # crowded days by name


def count_days(
    context: JobContext,
    units: DataFrame,
    candidates: DataFrame,
    flags: DataFrame,
    *,
    model_id: str,
    start: datetime,
    precise_until: float | None,
) -> int:
    """Write how many units of each day were judged, rare, suppressed, flagged and cut.

    Days of the period without a unit have no row. A day that the period has a part of keeps the row
    of a run that saw more of it.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        candidates: As for `alerts.choose`, with all that suppresses them.
        flags: Rows of `anomalies` of candidates that nothing suppresses.
        model_id: The model that flags.
        start: When the scoring period begins.
        precise_until: The largest p-value that was rare by reviews; none: any.

    Returns:
        How many units the budget cut, of all days together.
    """
    shown = flags.where(is_shown()).groupBy("event_date")
    counts = (
        units.groupBy("event_date")
        .agg(F.count(F.lit(1)).alias("units"))
        .join(F.broadcast(rare_by_day(candidates)), "event_date", "left")
        .join(F.broadcast(shown.agg(F.count(F.lit(1)).alias("flagged"))), "event_date", "left")
        .fillna(0)
        .collect()
    )
    of_all = {"model_id": model_id, "precision_threshold": precise_until}
    rows = [_row(context, row.asDict() | of_all, start) for row in counts]
    days = local_frame(context.spark, FLAG_DAYS.schema(), rows)
    key = list(FLAG_DAYS.key)
    here = context.read_or_empty(FLAG_DAYS).where(
        (F.col("model_id") == model_id) & (F.col("unit_kind") == context.settings.unit)
    )
    sees_less = _sees_less(context.settings, start)
    gone = here.where(~sees_less).join(days, key, "left_anti")
    marked = days.join(here.where(sees_less), key, "left_anti").withColumn("gone", F.lit(False))
    stamp = ("run_id", "scored_at")
    context.merge(
        FLAG_DAYS,
        marked.unionByName(gone.withColumn("gone", F.lit(True))),
        update=tuple(name for name in FLAG_DAYS.names if name not in {*key, *stamp}),
        stamp=stamp,
    )
    _tell_crowded(context, [DayCount(r["event_date"], r["units"], r["rare"]) for r in rows])
    return sum(row["cut"] for row in rows)


def _tell_crowded(context: JobContext, days: list[DayCount]) -> None:
    """Say which days' units are rare together, as those of a promotion or a holiday are."""
    rate, unit = context.settings.alerts.false_positive_rate, context.settings.unit
    crowded = crowded_days(days, rate)
    if not crowded:
        return
    worst = ", ".join(f"{one.day} ({one.rare:,} of {one.units:,})" for one in crowded[:_TOLD])
    more = f" and {len(crowded) - _TOLD} more days" if len(crowded) > _TOLD else ""
    context.reporter.say(
        f"far more {unit}s are rare than the {rate:g} of alerts.false_positive_rate on {worst}"
        f"{more}: if a promotion or a holiday made them so, let `segments` name such days and train"
    )


def _sees_less(settings: Settings, start: datetime) -> Column:
    """Whether this run's period has less time of a row's day than the row is of, or none."""
    day = F.col("event_date").cast("timestamp")
    over = day + F.lit(until_all_ended(settings))
    end = F.least(F.lit(settings.score.until).cast("timestamp"), over)
    mine = F.unix_micros(end) - F.unix_micros(F.greatest(F.lit(start), day))
    counted_until = F.unix_micros(F.coalesce("counted_until", over))
    return mine < counted_until - F.unix_micros("counted_from")


def until_all_ended(settings: Settings) -> timedelta:
    """How long after a day's begin each unit that started on it has ended."""
    longest = timedelta(0) if settings.unit == "event" else settings.sessions.max_duration
    return timedelta(days=1) + longest


def _row(context: JobContext, counts: dict[str, Any], start: datetime) -> dict[str, Any]:
    alerts, until = context.settings.alerts, context.settings.score.until
    day = datetime.combine(counts["event_date"], time(), UTC)
    is_whole = until is None or until >= day + until_all_ended(context.settings)
    return {
        **counts,
        "cut": counts["rare"] - counts["suppressed"] - counts["flagged"],
        "unit_kind": context.settings.unit,
        "budget_per_day": alerts.budget_per_day,
        "false_positive_rate": alerts.false_positive_rate,
        "false_discovery_rate": alerts.false_discovery_rate,
        "cost_threshold": None if alerts.costs is None else cost_threshold(alerts.costs),
        "counted_from": max(start, day),
        "counted_until": None if is_whole else until,
        "run_id": context.run_id,
        "scored_at": context.started_at,
    }
