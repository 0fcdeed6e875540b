"""Which units' features new events change.

A unit's features change with the events of its entities that are new and before it, within the
longest window; and with labels that became known then. All other units keep theirs.
"""

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.features import (
    by_entity,
    entity_columns,
    event_rows,
    label_rows,
    needs_labels,
    unit_rows,
    with_keys,
)
from habitus.domain.sessions import micros
from habitus.setting_types import UnitKind
from habitus.unit_settings import FeatureSettings


def longest_window(features: Sequence[FeatureSettings]) -> timedelta:
    """How far back features look at most."""
    return max((window for one in features for window in one.windows), default=timedelta(0))


def units_before_and_after(changes: DataFrame, unit_kind: UnitKind) -> DataFrame:
    """The units of sessions that changed.

    Args:
        changes: Rows of `sessions` as they were and as they are, and whether it `is_now`.
        unit_kind: What the units are.

    Returns:
        Columns unit_id, user_id, and whether the unit is `gone`.
    """
    units = [
        unit_rows(changes.where(F.col("is_now") == is_now), unit_kind)
        .select("unit_id", "user_id")
        .withColumn("is_now", F.lit(is_now))
        for is_now in (True, False)
    ]
    return (
        units[0]
        .unionByName(units[1])
        .groupBy("unit_id")
        .agg(
            F.max("user_id").alias("user_id"),
            (~F.bool_or("is_now")).alias("gone"),
        )
    )


def units_to_compute(
    changes: DataFrame,
    sessions: DataFrame,
    labels: DataFrame,
    new_labels: DataFrame,
    features: Sequence[FeatureSettings],
    unit_kind: UnitKind,
) -> DataFrame:
    """The units whose features may have changed.

    Args:
        changes: Rows of `sessions` as they were and as they are, and whether it `is_now`.
        sessions: Rows of `sessions`; where no labels count, those that end before what changed
            first may be left out.
        labels: Rows of `labels`.
        new_labels: Those of them that are new.
        features: What is computed.
        unit_kind: What the units are.

    Returns:
        Column unit_id.
    """
    told = event_rows(changes.where("not is_now"), unit_kind).select("event_id")
    new = event_rows(changes.where("is_now"), unit_kind).join(told, "event_id", "left_anti")
    units = unit_rows(sessions, unit_kind)
    touched = units_before_and_after(changes, unit_kind).where("not gone").select("unit_id")
    for entities, declared in by_entity(features).items():
        keys = entity_columns(entities)
        rows = with_keys(new, entities).select(*keys, "at")
        if needs_labels(declared):
            events = with_keys(event_rows(sessions, unit_kind), entities)
            late = label_rows(events, new_labels).select(*keys, "at")
            known = label_rows(with_keys(new, entities), labels).select(*keys, "at")
            rows = rows.unionByName(late).unionByName(known)
        reach = micros(longest_window(declared))
        span = rows.groupBy(*keys).agg(F.min("at").alias("first"), F.max("at").alias("last"))
        near = with_keys(units, entities).join(span, keys)
        near = near.where((F.col("at") >= F.col("first")) & (F.col("at") <= F.col("last") + reach))
        touched = touched.unionByName(near.select("unit_id"))
    return touched.distinct()
