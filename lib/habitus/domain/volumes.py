"""How much happens per segment and period: a seller, a category, a country; an hour or a day.

Events are read once, by one aggregation; all else works on its small result.
"""

from datetime import datetime
from itertools import chain

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.vocabulary import Split
from habitus.volume_settings import VolumeSettings

EVENTS = "events"
OTHERS = "(others)"
_KNOWN = "events of segments that training knew"
_SERIES = ["segment_kind", "segment"]


def count_volumes(events: DataFrame, settings: VolumeSettings) -> DataFrame:
    """Count events and sum measures by segment and period.

    Args:
        events: Rows of `events`.
        settings: The kinds of segment, the measures and the period.

    Returns:
        `segment_kind, segment` (none for events that have none of this kind), `period_start`,
        `events` and one column per measure, all double; only what has events has a row.
    """
    kinds = {kind: sql for kind, sql in settings.segments.items() if sql is not None}
    columns = chain.from_iterable(
        (F.lit(kind), F.expr(sql).cast("string")) for kind, sql in kinds.items()
    )
    measures = [
        F.coalesce(F.expr(sql).cast("double"), F.lit(0.0)).alias(name)
        for name, sql in settings.judged.items()
    ]
    named = events.select(
        F.date_trunc(settings.period, "event_time").alias("period_start"),
        F.create_map(*columns).alias("segments"),
        *measures,
    ).select("period_start", F.explode("segments").alias(*_SERIES), *settings.judged)
    sums = [F.sum(name).alias(name) for name in settings.judged]
    counts = [F.count(F.lit(1)).cast("double").alias(EVENTS), *sums]
    return named.groupBy(*_SERIES, "period_start").agg(*counts)


def name_segments(volumes: DataFrame, settings: VolumeSettings, split: Split) -> DataFrame:
    """Choose the segments that get a model of their own; the rest of a kind is one segment.

    Args:
        volumes: See `count_volumes`.
        settings: How much a segment must have in training, and how many are modelled.
        split: The time split.

    Returns:
        `segment_kind, segment, name` (the segment, or OTHERS), `trained`: the periods of the
        training period in which it has events.
    """
    training = (F.col("period_start") >= F.lit(split.train_from)) & (
        F.col("period_start") < F.lit(split.train_until)
    )
    known = (
        volumes.where(F.col("segment").isNotNull())
        .groupBy(*_SERIES)
        .agg(
            F.sum(F.when(training, F.col(EVENTS)).otherwise(0)).alias("events"),
            F.count(F.when(training, 1)).alias("trained"),
        )
    )
    largest = Window.partitionBy("segment_kind").orderBy(F.desc("events"), "segment")
    modelled = (F.col("trained") >= settings.minimum_periods) & (
        F.row_number().over(largest) <= settings.most_segments
    )
    name = F.when(modelled, F.col("segment")).otherwise(OTHERS)
    return known.select(*_SERIES, name.alias("name"), "trained")


def complete_series(
    volumes: DataFrame,
    names: DataFrame,
    settings: VolumeSettings,
    first: datetime,
    last: datetime,
) -> DataFrame:
    """Give every segment a row for every period, 0 where nothing happened.

    Args:
        volumes: See `count_volumes`.
        names: See `name_segments`.
        settings: The period and the measures.
        first: Time within the first period.
        last: Time within the first period that is left out: it may not be over yet.

    Returns:
        `segment_kind, segment, period_start, events`, the measures, and `elsewhere`: the events of
        all other segments of the kind in the period, but of those that training did not know: a
        large new one is no fall of all others.
    """
    start, end = (F.date_trunc(settings.period, F.lit(time)) for time in (first, last))
    step = F.expr(f"interval 1 {settings.period}")
    periods = F.explode(F.sequence(start, end, step)).alias("period_start")
    own = F.col("name").alias("segment")
    grid = names.select("segment_kind", own).distinct().select(*_SERIES, periods)
    known = F.when(F.col("trained") > 0, F.col(EVENTS)).otherwise(0)
    values = {EVENTS: F.col(EVENTS), _KNOWN: known}
    values |= {name: F.col(name) for name in settings.judged}
    there = (
        volumes.join(names, _SERIES)
        .groupBy("segment_kind", own, "period_start")
        .agg(*(F.sum(value).alias(name) for name, value in values.items()))
    )
    full = (
        grid.where(F.col("period_start") < end)
        .join(there, [*_SERIES, "period_start"], "left")
        .fillna(0.0, list(values))
    )
    everywhere = F.sum(_KNOWN).over(Window.partitionBy("segment_kind", "period_start"))
    return full.withColumn("elsewhere", everywhere - F.col(_KNOWN)).drop(_KNOWN)
