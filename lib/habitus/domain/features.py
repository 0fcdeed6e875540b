"""Point-in-time features: what was known about a unit's entities just before it.

An entity is a user, counterparty, device, network or item, or a pair of two, e.g. a user with a
device. An event unit is asked about at its own place in the order by (event_time, event_id), a
session at that of its first event. The window w before a place at time t holds the entity's events
before that place with t - w <= event_time, of those that `where` describes; and the labels, of such
events at any earlier time, that were known at t - w <= known_at < t (a label dated before its event
counts as known at the event's time).

===================  ======================================================  =====================
measure              of the window's N events                                for no history
===================  ======================================================  =====================
count                N                                                       0
sum                  sum of the amounts, each to a millionth                 0
mean                 sum / how many have an amount                           none
max                  largest amount, as it is                                none
median               median of the amounts                                   none
peak                 max / median                                            none, as where the
                                                                             median is 0
distinct             how many distinct values `of` has, exactly              0
entropy              log2(N) - sum(n log2 n) / N in bits, n events with each  none
                     value of `of`, of the N that have one
share                N / how many events there are without `where`           none
since_last           seconds since the last event                            none
new                  1 where N = 0, else 0                                   1
ratio                the unit's amount / mean                                none
multiple             the unit's amount / median                              none
zscore               (the unit's amount - mean) / standard deviation of the  none, as where that
                     amounts                                                 is < 1e-7 of the mean
risk                 labels that say anomalous / labels                      none
anomalies            labels that say anomalous                               0
anomalous_mean       mean of the amounts of their events                     none
since_anomaly        seconds since the last of them became known             none
since_first_anomaly  seconds since the first of them became known            none
===================  ======================================================  =====================

The unit's amount is the event's, or the largest of the session's. All features of an entity that
is missing (no device) are none. A session may have several counterparties, or devices: the largest
value over them stands for the session, so that one bad seller is not diluted by many good ones.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from habitus.domain.feature_pass import UNIT, Feature, with_features
from habitus.domain.histories import AMOUNT, HAPPENED, LABEL
from habitus.domain.sessions import micros
from habitus.errors import SettingsError
from habitus.setting_types import UnitKind
from habitus.unit_settings import FeatureSettings

_COLUMN_OF = {
    "user": "user_id",
    "counterparty": "counterparty_id",
    "device": "device_id",
    "item": "item_id",
}
# What is computed from labels.
LABEL_MEASURES = frozenset(
    {"risk", "anomalies", "anomalous_mean", "since_anomaly", "since_first_anomaly"}
)
_OF_AMOUNTS = (
    "sum",
    "mean",
    "median",
    "max",
    "peak",
    "zscore",
    "ratio",
    "multiple",
    "anomalous_mean",
)
_MEASURE_NAMES = {name: f"amount_{name}" for name in _OF_AMOUNTS}


def feature_names(features: Sequence[FeatureSettings]) -> list[str]:
    """Names of the features in order, e.g. user_count_1h, counterparty_risk_30d.

    Raises:
        SettingsError: A feature is declared twice.
    """
    names = [feature.name for declared in features for feature in _declared(declared)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError("features", f"{twice[0]!r} is declared twice", "Drop one of the two.")
    return names


def needs_labels(features: Sequence[FeatureSettings]) -> bool:
    """Whether a feature is computed from labels."""
    return any(not LABEL_MEASURES.isdisjoint(declared.measures) for declared in features)


def compute_features(
    sessions: DataFrame,
    labels: DataFrame,
    features: Sequence[FeatureSettings],
    unit_kind: UnitKind,
    chosen: DataFrame | None = None,
) -> DataFrame:
    """All features of units; columns as in `tables.features(feature_names(features))`.

    One shuffle by each entity, and one by unit that brings them together.

    Args:
        sessions: As in `tables.SESSIONS`.
        labels: As in `tables.LABELS`; only labels of events count.
        features: What to compute.
        unit_kind: Whether the units are the sessions or their events.
        chosen: The unit_id of those wanted; None for all.

    Raises:
        SettingsError: A feature is declared twice.
    """
    names = feature_names(features)
    events = event_rows(sessions, unit_kind)
    units = unit_rows(sessions, unit_kind)
    if chosen is not None:
        units = units.join(chosen, "unit_id", "left_semi")
    # Where all events are units, they ask for themselves.
    asking = None if unit_kind == "event" and chosen is None else units
    declared_of = by_entity(features)
    parts = [
        _of_entity(events, asking, labels, of_entity, all_asked=chosen is None)
        for of_entity in declared_of.values()
    ]
    if ("user",) not in declared_of:
        # Every unit has a user; it may have no other entity.
        parts.append(units.select(*UNIT))
    combined = parts[0]
    for part in parts[1:]:
        combined = combined.unionByName(part, allowMissingColumns=True)
    if len(parts) > 1 or (names and unit_kind == "session"):
        combined = combined.groupBy(*UNIT).agg(*(F.max(name).alias(name) for name in names))
    return combined.select(
        F.lit(unit_kind).alias("unit_kind"),
        "unit_id",
        "user_id",
        F.timestamp_micros("at").alias("as_of"),
        *names,
    )


def _declared(declared: FeatureSettings) -> list[Feature]:
    where = "_".join(re.sub(r"\W+", "_", value) for value in declared.where.values())
    features = []
    for window in declared.windows:
        for measure in declared.measures:
            of = declared.of if measure in ("distinct", "entropy") else None
            words = [*declared.entities, _MEASURE_NAMES.get(measure, measure), of, where]
            name = "_".join([*(word for word in words if word), _short(window)])
            column = None if of is None else _column(of)
            features.append(Feature(name, measure, micros(window), column, _where_name(declared)))
    return features


def _where_name(declared: FeatureSettings) -> str | None:
    return " and ".join(f"{name} = {value}" for name, value in declared.where.items()) or None


def _column(name: str) -> str:
    return _COLUMN_OF.get(name, name)


def _short(duration: timedelta) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if duration % timedelta(seconds=unit) == timedelta(0):
            return f"{duration // timedelta(seconds=unit)}{name}"
    return f"{micros(duration)}us"


def by_entity(
    features: Sequence[FeatureSettings],
) -> dict[tuple[str, ...], list[FeatureSettings]]:
    """The declarations of each entity, or pair."""
    declared_of: dict[tuple[str, ...], list[FeatureSettings]] = {}
    for declared in features:
        declared_of.setdefault(declared.entities, []).append(declared)
    return declared_of


def event_rows(sessions: DataFrame, unit_kind: UnitKind) -> DataFrame:
    """Rows of events' histories; an event that is a unit asks for itself."""
    unit = F.col("event.event_id") if unit_kind == "event" else F.lit(None).cast("string")
    return sessions.select("user_id", F.explode("events").alias("event")).select(
        unit.alias("unit_id"),
        "user_id",
        F.unix_micros("event.event_time").alias("at"),
        F.lit(True).alias(HAPPENED),
        "event.*",
    )


def unit_rows(sessions: DataFrame, unit_kind: UnitKind) -> DataFrame:
    """Rows that only ask for a unit, at the place of its first event."""
    if unit_kind == "event":
        return event_rows(sessions, unit_kind).withColumn(HAPPENED, F.lit(False))
    return sessions.select(
        F.col("session_id").alias("unit_id"),
        "user_id",
        F.unix_micros("started_at").alias("at"),
        F.lit(False).alias(HAPPENED),
        F.col("event_ids")[0].alias("event_id"),
        F.array_max("events.amount").alias(AMOUNT),
        "events",
    )


def with_keys(rows: DataFrame, entities: Sequence[str]) -> DataFrame:
    """Rows that have an entity; of a session with several, a row for each."""
    keys = entity_columns(entities)
    inside = [key for key in keys if key != "user_id"]
    if "events" in rows.columns:
        if inside:
            told = F.transform("events", lambda event: F.struct(*(event[key] for key in inside)))
            rows = rows.withColumn("entity", F.explode(F.array_distinct(told)))
            rows = rows.select("*", *(F.col("entity")[key].alias(key) for key in inside))
        rows = rows.drop("events", "entity")
    for key in keys:
        rows = rows.where(F.col(key).isNotNull())
    return rows


def entity_columns(entities: Sequence[str]) -> list[str]:
    """The columns that tell entities apart."""
    return [_column(entity) for entity in entities]


def label_rows(events: DataFrame, labels: DataFrame) -> DataFrame:
    """Rows of events' labels, at the time they became known."""
    known = labels.where("unit_kind = 'event'").select(
        F.col("unit_id").alias("event_id"),
        F.col("label").alias("_label"),
        F.unix_micros("known_at").alias("_known_at"),
    )
    joined = events.join(known, "event_id").withColumns(
        {
            "unit_id": F.lit(None).cast("string"),
            HAPPENED: F.lit(False),
            LABEL: F.col("_label"),
            # A label dated before its event must not tell of the event early.
            "at": F.greatest("at", "_known_at"),
        }
    )
    return joined.drop("_label", "_known_at")


def _of_entity(
    events: DataFrame,
    units: DataFrame | None,
    labels: DataFrame,
    declared: Sequence[FeatureSettings],
    *,
    all_asked: bool,
) -> DataFrame:
    """`UNIT` and the features of one kind of entity; a row for each unit and entity of its."""
    entities = declared[0].entities
    keys = entity_columns(entities)
    features = [feature for one in declared for feature in _declared(one)]
    rows = with_keys(events, entities)
    if units is not None:
        asking = with_keys(units, entities)
        if not all_asked:
            rows = rows.join(asking.select(*keys).distinct(), keys, "left_semi")
        rows = rows.withColumn("unit_id", F.lit(None).cast("string"))
        rows = rows.unionByName(asking, allowMissingColumns=True)
    rows = rows.withColumns(_where_columns(declared)).withColumn(LABEL, F.lit(None).cast("boolean"))
    if needs_labels(declared):
        rows = rows.unionByName(label_rows(rows.where(HAPPENED), labels))
    told = {name for feature in features for name in (feature.of, feature.where) if name}
    read = dict.fromkeys([*UNIT, HAPPENED, AMOUNT, LABEL, *keys, *sorted(told)])
    in_order = rows.repartition(*keys).sortWithinPartitions(*keys, "at", "event_id", HAPPENED)
    return in_order.select(*(F.col(f"`{name}`") for name in read)).mapInArrow(
        partial(with_features, keys=keys, features=features), _schema(features)
    )


def _where_columns(declared: Sequence[FeatureSettings]) -> dict[str, Column]:
    columns = {}
    for one in declared:
        if name := _where_name(one):
            columns[name] = F.lit(True)
            for column, value in one.where.items():
                columns[name] &= F.col(column) == value
    return columns


def _schema(features: Sequence[Feature]) -> T.StructType:
    types = {"unit_id": T.StringType(), "user_id": T.StringType(), "at": T.LongType()}
    types |= {feature.name: T.DoubleType() for feature in features}
    return T.StructType([T.StructField(name, kind) for name, kind in types.items()])
