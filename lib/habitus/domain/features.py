"""Point-in-time features: what was known about a unit's entities just before it.

The value at time t of a window w uses events with t - w <= event_time < t, and labels that
became known in [t - w, t); events at the very same microsecond do not see each other. An event
unit is asked about at its own time, a session when it starts: its user, and the device and
network of its first event. A session may have several counterparties; the largest value over
them stands for the session, so that one bad seller is not diluted by many good ones.

===========  ===============================================================  ==========
measure      of the entity's events in the window                             no history
===========  ===============================================================  ==========
count        how many                                                         0
failures     how many had the outcome `failure`                               0
sum          sum of the amounts, to a millionth                               0
mean         mean of the amounts that are there                               none
max          largest amount                                                   none
users        how many distinct users                                          0
risk         labels that say anomalous / labels, by the time they were known  none
===========  ===============================================================  ==========

All features of an entity that is missing (no device, no counterparty) are none.

Everything but `max` is a difference of two running sums, S(t) - S(t - w), so the cost is linear
in the events however many fall into a window. Sums are of whole millionths, which makes them
exact and independent of the order of rows. `max` looks at all events of the window.
"""

from collections.abc import Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.config import FeatureSettings, UnitKind
from habitus.errors import SettingsError

_COLUMN_OF = {
    "user": "user_id",
    "counterparty": "counterparty_id",
    "device": "device_id",
    "network": "network",
}
_MEASURE_NAMES = {"sum": "amount_sum", "mean": "amount_mean", "max": "amount_max"}
_UNIT = ("unit_id", "user_id", "at")
_SUMMED = ("events", "failures", "amounts", "millionths", "labels", "anomalous")
_MILLION = 1_000_000


def feature_names(features: Sequence[FeatureSettings]) -> list[str]:
    """Names of the features in order, e.g. user_count_1h, counterparty_risk_30d.

    Raises:
        SettingsError: A feature is declared twice.
    """
    names = [name for declared in features for name, _, _ in _declared(declared)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError("features", f"{twice[0]!r} is declared twice", "Drop one of the two.")
    return names


def needs_labels(features: Sequence[FeatureSettings]) -> bool:
    """Whether a feature is computed from labels."""
    return any("risk" in declared.measures for declared in features)


def compute_features(
    sessions: DataFrame,
    labels: DataFrame,
    features: Sequence[FeatureSettings],
    unit_kind: UnitKind,
) -> DataFrame:
    """All features of all units; columns as in `tables.features(feature_names(features))`.

    One shuffle by each entity, and one by unit that brings them together.

    Args:
        sessions: As in `tables.SESSIONS`.
        labels: As in `tables.LABELS`; only labels of events count.
        features: What to compute.
        unit_kind: Whether the units are the sessions or their events.

    Raises:
        SettingsError: A feature is declared twice.
    """
    names = feature_names(features)
    events = _events(sessions, unit_kind)
    combined = events.where("unit_id is not null").select(*_UNIT)
    for entity in dict.fromkeys(declared.entity for declared in features):
        of_entity = [declared for declared in features if declared.entity == entity]
        rows = _event_rows(events, _COLUMN_OF[entity])
        if entity == "counterparty" and unit_kind == "session":
            rows = rows.drop("unit_id").unionByName(
                _counterparty_queries(sessions), allowMissingColumns=True
            )
        if needs_labels(of_entity):
            rows = rows.unionByName(
                _label_rows(events, labels, _COLUMN_OF[entity]), allowMissingColumns=True
            )
        combined = combined.unionByName(_history(rows, of_entity), allowMissingColumns=True)
    return (
        combined.groupBy(*_UNIT)
        .agg(F.lit(unit_kind).alias("unit_kind"), *(F.max(name).alias(name) for name in names))
        .select(
            "unit_kind",
            "unit_id",
            "user_id",
            F.timestamp_micros("at").alias("as_of"),
            *names,
        )
    )


def _declared(declared: FeatureSettings) -> list[tuple[str, timedelta, str]]:
    return [
        (
            f"{declared.entity}_{_MEASURE_NAMES.get(measure, measure)}_{_short(window)}",
            window,
            measure,
        )
        for window in declared.windows
        for measure in declared.measures
    ]


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _short(duration: timedelta) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if duration % timedelta(seconds=unit) == timedelta(0):
            return f"{duration // timedelta(seconds=unit)}{name}"
    return f"{_micros(duration)}us"


def _events(sessions: DataFrame, unit_kind: UnitKind) -> DataFrame:
    """One row per event; `unit_id` where the event is what a unit is asked about by."""
    exploded = sessions.select(
        "session_id", "user_id", F.posexplode("events").alias("position", "event")
    )
    unit = (
        F.col("event.event_id")
        if unit_kind == "event"
        # The session starts with its first event, which therefore asks for the session.
        else F.when(F.col("position") == 0, F.col("session_id"))
    )
    return exploded.select(
        unit.alias("unit_id"),
        "user_id",
        F.unix_micros("event.event_time").alias("at"),
        *(f"event.{name}" for name in ("event_id", "counterparty_id", "device_id", "network")),
        *(f"event.{name}" for name in ("amount", "outcome")),
    )


def _event_rows(events: DataFrame, column: str) -> DataFrame:
    """Events of entities, with what each adds to the running sums."""
    return events.where(F.col(column).isNotNull()).select(
        F.col(column).alias("entity"),
        *_UNIT,
        F.lit(1).alias("events"),
        F.coalesce((F.col("outcome") == "failure").cast("int"), F.lit(0)).alias("failures"),
        F.col("amount").isNotNull().cast("int").alias("amounts"),
        F.coalesce(F.rint(F.col("amount") * _MILLION).cast("bigint"), F.lit(0)).alias("millionths"),
        "amount",
        *(F.lit(None).cast("int").alias(name) for name in ("labels", "anomalous")),
    )


def _counterparty_queries(sessions: DataFrame) -> DataFrame:
    """Each counterparty of a session, asked about when the session starts."""
    return sessions.select(
        F.explode(F.array_distinct("events.counterparty_id")).alias("entity"),
        F.col("session_id").alias("unit_id"),
        "user_id",
        F.unix_micros("started_at").alias("at"),
    ).where("entity is not null")


def _label_rows(events: DataFrame, labels: DataFrame, column: str) -> DataFrame:
    """Labels of the entity's events, at the time they became known."""
    known = labels.where("unit_kind = 'event'").select(
        F.col("unit_id").alias("event_id"), "label", F.unix_micros("known_at").alias("known_at")
    )
    labelled = events.select("event_id", F.col(column).alias("entity"), "user_id", "at")
    return (
        labelled.where("entity is not null")
        .join(known, "event_id")
        .select(
            "entity",
            "user_id",
            # A label dated before its event must not tell of the event early.
            F.greatest("at", "known_at").alias("at"),
            F.lit(1).alias("labels"),
            F.col("label").cast("int").alias("anomalous"),
        )
    )


def _history(rows: DataFrame, features: Sequence[FeatureSettings]) -> DataFrame:
    """The features of one entity kind, for the rows that ask for a unit."""
    windows = sorted({_micros(window) for declared in features for window in declared.windows})
    # By the entity alone: it serves both the windows by entity and those by entity and user.
    present = _with_presence(rows.repartition("entity"), windows)
    return (
        present.withColumns(_running(windows))
        .where("unit_id is not null")
        .select(
            *_UNIT,
            *(
                _measure(measure, _micros(window)).cast("double").alias(name)
                for declared in features
                for name, window, measure in _declared(declared)
            ),
        )
    )


def _with_presence(rows: DataFrame, windows: Sequence[int]) -> DataFrame:
    """Mark where a user's presence at the entity begins and ends, for each window.

    A user counts at t when one of their events has s < t <= s + window. These intervals merge
    into stretches; the users at t are the stretches begun before t less those ended before t.
    """
    by_user = Window.partitionBy("entity", "user_id", "events").orderBy("at")
    marked = rows.withColumns(
        {
            "since": F.col("at") - F.lag("at").over(by_user),
            "until": F.lead("at").over(by_user) - F.col("at"),
        }
    )
    flags = {}
    for window in windows:
        for flag, pause in ((f"begins_{window}", "since"), (f"ends_{window}", "until")):
            alone = F.col(pause).isNull() | (F.col(pause) > window)
            flags[flag] = (F.col("events").isNotNull() & alone).cast("int")
    return marked.withColumns(flags)


def _running(windows: Sequence[int]) -> dict[str, Column]:
    """Running sums until just before t and t - window. Spark computes those that are used."""
    by_time = Window.partitionBy("entity").orderBy("at")

    def summed(column: str, end: int) -> Column:
        frame = by_time.rangeBetween(Window.unboundedPreceding, end)
        return F.coalesce(F.sum(column).over(frame), F.lit(0))

    running = {f"{column}_before": summed(column, -1) for column in _SUMMED}
    for window in windows:
        running |= {f"{column}_{window}": summed(column, -window - 1) for column in _SUMMED}
        running[f"users_{window}"] = summed(f"begins_{window}", -1) - summed(
            f"ends_{window}", -window - 1
        )
        running[f"max_{window}"] = F.max("amount").over(by_time.rangeBetween(-window, -1))
    return running


def _measure(measure: str, window: int) -> Column:
    def total(column: str) -> Column:
        return F.col(f"{column}_before") - F.col(f"{column}_{window}")

    match measure:
        case "count":
            return total("events")
        case "failures":
            return total("failures")
        case "sum":
            return total("millionths") / _MILLION
        case "mean":
            return total("millionths") / total("amounts") / _MILLION
        case "risk":
            return total("anomalous") / total("labels")
        case _:
            return F.col(f"{measure}_{window}")
