"""From `events` to `volume_shifts`: segments whose volume suddenly is not what it should be."""

from datetime import datetime, timedelta

import pandas as pd
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.calibration import FEWEST
from habitus.domain.reporting.console import shifts_table
from habitus.domain.shifts import SHIFTS, find_shifts
from habitus.domain.split import resolve_split
from habitus.domain.totals import last_until, totals
from habitus.domain.vocabulary import Split
from habitus.domain.volume_models import RESIDUALS, naive, segment_residuals
from habitus.domain.volumes import EVENTS as COUNT
from habitus.domain.volumes import OTHERS, complete_series, count_volumes, name_segments
from habitus.errors import InputError, SettingsError
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.shifts import strangest_shifts
from habitus.tables import EVENTS, VOLUME_SHIFTS
from habitus.volume_settings import VolumeSettings

_SHOWN = 10
# Each period of this has a row: a single event of 1970 would make half a million of each segment.
_LONGEST = timedelta(days=3652)


def run(context: JobContext) -> None:
    """Count events per segment and period, model each segment, and write the shifts found."""
    settings = context.settings.volumes
    first, last = _span(context)
    split = resolve_split(context.settings.split, first, last)
    with persisted(_volumes(context)) as volumes:
        with context.reporter.step("count events per segment"):
            names = name_segments(volumes, settings, split)
            _tell_segments(context, volumes, names)
        series = complete_series(volumes, names, settings, first, last)
        residuals = series.groupBy("segment_kind", "segment").applyInPandas(
            lambda frame: segment_residuals(frame, settings, split), RESIDUALS
        )
        with persisted(residuals):
            with context.reporter.step("fit a model to each segment"):
                _tell_models(context, residuals, split)
            with context.reporter.step("find shifts"):
                context.overwrite(VOLUME_SHIFTS, _shifts(context, residuals, split))
    if shifts := strangest_shifts(context.lake.read(VOLUME_SHIFTS), _SHOWN):
        context.reporter.show(shifts_table(shifts))


def _span(context: JobContext) -> tuple[datetime, datetime]:
    """Times of the first and the last event, UTC, but for those that are perhaps no times."""
    events = context.read(EVENTS)
    span = totals(
        events,
        F.count(F.lit(1)).alias("rows"),
        last_until("event_time", context.started_at).alias("last"),
    )
    if not span["rows"]:
        raise InputError(
            context.lake.name(EVENTS), "the table has no row", "Ingest a source first."
        )
    context.rows_in[EVENTS.name] = span["rows"]
    train_until = context.settings.split.train_until
    since = (train_until if isinstance(train_until, datetime) else span["last"]) - _LONGEST
    time = F.col("event_time")
    found = totals(
        events,
        F.min(F.when(time >= F.lit(since), time)).alias("first"),
        F.count_if(time < F.lit(since)).alias("earlier"),
    )
    if found["earlier"]:
        context.rows_in["events left out"] = found["earlier"]
        context.reporter.say(
            f"{found['earlier']:,} events before {since:%Y-%m-%d} are left out, as volumes looks "
            "back ten years from the end of training if that is a date, else from the last event"
        )
    return found["first"] or span["last"], span["last"]


def _volumes(context: JobContext) -> DataFrame:
    try:
        return count_volumes(context.read(EVENTS), context.settings.volumes)
    except AnalysisException as error:
        raise SettingsError(
            "volumes.segments or volumes.measures",
            f"an expression cannot be used: {str(error).splitlines()[0]}".rstrip("."),
            f"Use the columns of events: {', '.join(EVENTS.names)}.",
        ) from error


def _tell_segments(context: JobContext, volumes: DataFrame, names: DataFrame) -> None:
    """Count what has a model of its own, what falls together, and what has no segment."""
    other = F.col("name") == OTHERS
    segments = names.groupBy("segment_kind").agg(
        F.count_if(~other).alias("modelled"),
        F.count_if(other).alias("others"),
        F.count_if(F.col("trained") == 0).alias("unknown"),
    )
    without = F.sum(F.when(F.col("segment").isNull(), F.col(COUNT)).otherwise(0))
    events = volumes.groupBy("segment_kind").agg(without.cast("bigint").alias("without"))
    counted = events.join(segments, "segment_kind", "left").fillna(0)
    for row in counted.orderBy("segment_kind").collect():
        kind = row["segment_kind"]
        for name in ("modelled", "others", "unknown"):
            context.rows_in[f"{kind} segments {name}"] = row[name]
        context.rows_in[f"events without {kind}"] = row["without"]
        context.reporter.say(
            f"{kind}: {row['modelled']:,} segments with a model, {row['others']:,} others taken "
            f"together ({row['unknown']:,} of them unknown in training); {row['without']:,} events "
            "without one"
        )


def _tell_models(context: JobContext, residuals: DataFrame, split: Split) -> None:
    """Count the series that have a model, and say why others are not judged."""
    time = F.col("period_start")
    held = (time >= F.lit(split.calibrate_from)) & (time < F.lit(split.validation_until))
    counted = residuals.groupBy("segment_kind", "measure", "skipped").agg(
        F.count_distinct("segment").alias("series"), F.count_if(held).alias("held")
    )
    context.rows_out |= {"series modelled": 0, "series skipped": 0}
    for row in counted.orderBy("segment_kind", "measure", "skipped").collect():
        why = row["skipped"]
        if why is None and row["held"] < FEWEST:
            why = f"{row['held']} periods to calibrate on, fewer than {FEWEST}"
        context.rows_out["series skipped" if why else "series modelled"] += row["series"]
        if why:
            context.reporter.say(
                f"{row['segment_kind']} {row['measure']}: {row['series']:,} series skipped, {why}"
            )
    context.reporter.say(f"{context.rows_out['series modelled']:,} series have a model")


def _shifts(context: JobContext, residuals: DataFrame, split: Split) -> DataFrame:
    settings: VolumeSettings = context.settings.volumes
    score, language = context.settings.score, context.settings.alerts.language
    since = naive(score.from_time or split.validation_until)
    until = naive(score.until) if score.until else pd.Timestamp.max
    found = (
        residuals.where(F.col("skipped").isNull())
        .groupBy("segment_kind", "measure")
        .applyInPandas(
            lambda frame: find_shifts(frame, settings, split, since, until, language), SHIFTS
        )
    )
    stamped = found.withColumns(
        {
            "run_id": F.lit(context.run_id),
            "scored_at": F.lit(context.started_at),
            "event_date": F.to_date("period_start"),
        }
    )
    return stamped.select(*VOLUME_SHIFTS.names)
