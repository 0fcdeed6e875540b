"""How fast events get features: `make bench-features`.

Twenty-four features of every event of the simulated shop, 5 % of whose events are one user's:
count, mean and maximum of the amount over an hour, a day, a week and thirty days, of the user and
of the counterparty. habitus and Spark's own window frames write Delta, DuckDB Parquet; habitus
reads `sessions`, as its job does, the others flat events. Each engine has a process of its
own with the machine to itself; what it takes is the median of three runs.

Spark's frames look at each event of a window anew, which for one user with many events never ends:
they run once, on a million events, and are stopped after LIMIT seconds, where the ratio told is
more than what it would be.
"""

import sys
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path

import duckdb
from _engines import (
    OUT,
    Engine,
    clear,
    measured,
    per_event,
    run_engine,
    session,
    with_duckdb,
    with_spark,
)
from _figures import Figure, at_most, publish
from _shop import shop_events
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from habitus.domain.features import compute_features, feature_names
from habitus.domain.sessions import sessionize
from habitus.loading import load_settings
from habitus.tables import LABELS
from habitus.unit_settings import FeatureSettings

RUNS = 3
LIMIT = 300
# Events without a counterparty are each alone, as one history they would slow the rivals down.
ENTITIES = {"user": "user_id", "counterparty": "coalesce(counterparty_id, event_id)"}
WINDOWS = {
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
FEATURES = [
    FeatureSettings(
        entity=entity, windows=tuple(WINDOWS.values()), measures=("count", "mean", "max")
    )
    for entity in ("user", "counterparty")
]
NAMES = feature_names(FEATURES)


def frames_of(entity: str, prefix: str) -> list[str]:
    """The features of an entity in SQL; events of the same microsecond do not see each other."""
    columns = []
    for short, window in WINDOWS.items():
        frame = (
            f"over (partition by {ENTITIES[entity]} order by event_time range between "
            f"interval {int(window.total_seconds())} seconds preceding "
            "and interval 1 microsecond preceding)"
        )
        columns += [
            f"{prefix}count(*) {frame} as {entity}_count_{short}",
            f"{prefix}avg(amount) {frame} as {entity}_amount_mean_{short}",
            f"{prefix}max(amount) {frame} as {entity}_amount_max_{short}",
        ]
    return columns


COLUMNS = ", ".join([*frames_of("user", ""), *frames_of("counterparty", "")])
DUCKDB = f"select event_id as unit_id, user_id, event_time as as_of, {COLUMNS} from {{events}}"


def with_window_frames(events: DataFrame) -> DataFrame:
    """The usual way in Spark: a range frame for each window."""
    at = events.withColumn("at", F.unix_micros("event_time"))
    columns = {}
    for entity, key in ENTITIES.items():
        for short, window in WINDOWS.items():
            frame = (
                Window.partitionBy(F.expr(key))
                .orderBy("at")
                .rangeBetween(-(window // timedelta(microseconds=1)), -1)
            )
            columns[f"{entity}_count_{short}"] = F.count("*").over(frame)
            columns[f"{entity}_amount_mean_{short}"] = F.avg("amount").over(frame)
            columns[f"{entity}_amount_max_{short}"] = F.max("amount").over(frame)
    return at.select(
        "event_id", "user_id", "event_time", *(columns[name].alias(name) for name in NAMES)
    )


def sessions_of(spark: SparkSession, events: str) -> str:
    """The folder of the events' sessions, made once."""
    target = Path(f"{events}-sessions")
    if not (target / "_SUCCESS").exists():
        read = spark.read.parquet(events)
        last = read.agg(F.max("event_time").alias("now")).first()
        assert last is not None
        made = sessionize(read, load_settings().sessions, last["now"].replace(tzinfo=UTC))
        made.write.mode("overwrite").parquet(str(target))
    return str(target)


def prepared_habitus(events: str) -> Callable[[], object]:
    """What the job does."""
    spark = session(events)
    sessions = spark.read.parquet(sessions_of(spark, events))
    labels = spark.createDataFrame([], LABELS.schema())
    return lambda: (
        compute_features(sessions, labels, FEATURES, "event").write.format("delta").save(OUT)
    )


ENGINES: dict[str, Engine] = {
    "DuckDB": with_duckdb(DUCKDB),
    "habitus": prepared_habitus,
    "window frames": with_spark(with_window_frames),
}


def units_that_differ(events: str) -> int:
    """Events whose features by habitus are others than by DuckDB.

    Of those that have a counterparty, and share their microsecond with no other of the entity:
    habitus takes such in the order of their ids.
    """
    clear()
    prepared_habitus(events)()
    alone = " and ".join(
        f"count(*) over (partition by {key}, event_time) = 1" for key in ENTITIES.values()
    )
    unequal = " or ".join(
        f"(h.{name} is null) <> (d.{name} is null) or abs(h.{name} - d.{name}) > 1e-6"
        for name in NAMES
    )
    source = f"read_parquet('{events}/*.parquet')"
    found = duckdb.execute(
        f"""
        with d as ({DUCKDB.format(events=source)}),
        a as (select event_id as unit_id from {source}
              where counterparty_id is not null qualify {alone})
        select count(*) from a
        left join d using (unit_id) left join read_parquet('{OUT}/*.parquet') h using (unit_id)
        where h.unit_id is null or {unequal}
        """
    ).fetchone()
    assert found is not None
    clear()
    return int(found[0])


def main() -> None:
    """Print the table; `--small` takes a million events, `--once` one run of each instead of 3."""
    if run_engine(ENGINES):
        return
    small = sys.argv[1:] == ["--small"]
    millions = 1 if small else 20
    spark = session(f"{millions}M")
    hot, even, few = (
        shop_events(spark, millions, 0.05),
        shop_events(spark, millions, 0.0),
        shop_events(spark, 1, 0.05),
    )
    for events in (hot, even, few):
        sessions_of(spark, events)
    differing = units_that_differ(few)
    spark.stop()
    runs = RUNS if sys.argv[1:] == [] else 1
    found = {name: measured(__file__, name, hot, runs) for name in ("DuckDB", "habitus")}
    ours, duck = found["habitus"]["seconds"], found["DuckDB"]["seconds"]
    without = measured(__file__, "habitus", even, runs)["seconds"]
    frames = measured(__file__, "window frames", few, 1, LIMIT)["seconds"]
    ours_few = measured(__file__, "habitus", few, runs)["seconds"]
    publish(
        "features",
        [
            Figure("seconds, DuckDB", round(duck, 1)),
            Figure("seconds, habitus", round(ours, 1)),
            Figure("events a second, habitus", round(millions * 1e6 / ours)),
            at_most("time against DuckDB", ours / duck, 2.0),
            at_most("a user with 5 % of the events against none, time", ours / without, 1.2),
            Figure(f"seconds (at most {LIMIT}), window frames, a million events", round(frames, 1)),
            at_most("time against window frames, a million events", ours_few / frames, 0.2),
            at_most("units that differ from DuckDB's, of a million events", differing, 0),
            Figure("GB of Java, peak", found["habitus"]["java"]),
            Figure("GB of Python workers, peak", found["habitus"]["python"]),
            *per_event(found["habitus"], millions),
        ],
    )


if __name__ == "__main__":
    main()
