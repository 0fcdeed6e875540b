"""How fast events become sessions: `make bench-sessionize`.

Events of the simulated shop, 5 % of them of one user, from Parquet files to session rows with their
arrays: habitus and Spark's own `session_window` write Delta, DuckDB Parquet. Each engine has a
process of its own with the machine to itself; what it takes is the median of three runs, of ten
times the events and of the jobs over what is new one run.
"""

import shutil
import sys
import time
from datetime import UTC

from _engines import measured, per_event, run_engine, session, with_duckdb, with_spark
from _figures import Figure, at_most, publish
from _shop import shop_events
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.sessions import sessionize
from habitus.edges.catalog import Layout
from habitus.edges.lake import Lake
from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import JobContext, Silent, run_job
from habitus.loading import load_settings
from habitus.tables import EVENTS, SESSION_EVENT, SESSIONS

RUNS = 3
DAY = 86_400
LAKE = ".bench/lake"
# What all engines read of an event; what was new to the user only habitus finds out.
EVENT = [column.name for column in SESSION_EVENT if not column.name.startswith("new_")]

DUCKDB = """
    with paused as (
        select *, event_time - lag(event_time) over user_events as pause
        from {events}
        window user_events as (partition by user_id order by event_time, event_id)
    ), numbered as (
        select *, sum(case when pause is null or pause > interval 30 minutes then 1 else 0 end)
            over (partition by user_id order by event_time, event_id rows unbounded preceding) run
        from paused
    )
    select
        user_id,
        md5(user_id || first(event_id order by event_time, event_id)) as session_id,
        min(event_time) as started_at,
        max(event_time) as ended_at,
        count(*) as n_events,
        histogram(action) as n_actions,
        count(distinct item_id) as n_items,
        coalesce(sum(amount), 0) as amount_sum,
        list(event_id order by event_time, event_id) as event_ids,
        list(struct_pack({fields}) order by event_time, event_id) as events
    from numbered
    group by user_id, run
""".replace("{fields}", ", ".join(EVENT))


def with_habitus(events: DataFrame) -> DataFrame:
    """What the job does."""
    last = events.agg(F.max("event_time").alias("now")).first()
    assert last is not None
    return sessionize(events, load_settings().sessions, last["now"].replace(tzinfo=UTC))


def with_session_window(events: DataFrame) -> DataFrame:
    """Spark's own session windows, with the events of each in order."""
    window = F.session_window("event_time", "30 minutes").alias("window")
    order = ["event_time", "event_id"]
    event = F.struct(*order, *(name for name in EVENT if name not in order))
    return events.groupBy("user_id", window).agg(
        F.min("event_time").alias("started_at"),
        F.max("event_time").alias("ended_at"),
        F.count("*").alias("n_events"),
        F.sum("amount").alias("amount_sum"),
        F.sort_array(F.collect_list(event)).alias("events"),
    )


def only_shuffled(events: DataFrame) -> DataFrame:
    """The floor: the same rows brought together by user, and written as they are."""
    return events.select("user_id", *EVENT).repartition("user_id")


ENGINES = {
    # The usual way in SQL: lag, cumulative sum, lists.
    "DuckDB": with_duckdb(DUCKDB),
    "habitus": with_spark(with_habitus),
    "session_window": with_spark(with_session_window),
    "shuffle and write": with_spark(only_shuffled),
}


def up_to_date(events: str) -> tuple[dict[str, float], Layout, Layout]:
    """Seconds of the job over nearly all events, then over the 1 % that is new, and of compaction;
    and how the sessions lie in their files before and after that.

    Nine tenths of the new events are the newest; the others are up to two days late.
    """
    spark = session(events)
    shutil.rmtree(LAKE, ignore_errors=True)
    settings = load_settings(overrides=[f"lake.root={LAKE}"])
    lake = Lake(spark, settings.lake)
    every = spark.read.parquet(events).withColumn("second", F.unix_seconds("event_time"))
    newest = every.approxQuantile("second", [0.991], 0.0001)[0]
    recent = (F.col("second") > newest - 2 * DAY) & (F.col("second") <= newest)
    share = 0.001 * every.count() / every.where(recent).count()
    drawn = F.pmod(F.xxhash64("event_id", F.lit("late")), F.lit(1_000_000)) < share * 1_000_000
    is_new = (F.col("second") > newest) | (recent & drawn)
    seconds = {}
    for name, chosen in (("full", ~is_new), ("new", is_new)):
        lake.append(EVENTS, every.where(chosen).drop("second"))
        before = time.perf_counter()
        run_job(JOBS["sessionize"], JobContext("sessionize", settings, spark, Silent()))
        seconds[name] = time.perf_counter() - before
    scattered = lake.layout(SESSIONS)
    before = time.perf_counter()
    lake.compact(SESSIONS)
    seconds["compact"] = time.perf_counter() - before
    compact = lake.layout(SESSIONS)
    spark.stop()
    shutil.rmtree(LAKE)
    return seconds, scattered, compact


def main() -> None:
    """Print the table; `--small` takes a million events and no set of ten times the size, `--once`
    one run of each instead of 3.
    """
    if run_engine(ENGINES):
        return
    if sys.argv[1:2] == ["--new"]:
        print(*up_to_date(sys.argv[2]), sep="\n")
        return
    small = sys.argv[1:] == ["--small"]
    millions = 1 if small else 20
    spark = session(f"{millions}M")
    hot = shop_events(spark, millions, 0.05)
    even = shop_events(spark, millions, 0.0)
    large = shop_events(spark, 10 * millions, 0.05) if not small else None
    spark.stop()
    runs = RUNS if sys.argv[1:] == [] else 1
    by_engine = {engine: measured(__file__, engine, hot, runs) for engine in ENGINES}
    seconds = {engine: found["seconds"] for engine, found in by_engine.items()}
    ours = seconds["habitus"]
    without = measured(__file__, "habitus", even, runs)["seconds"]
    figures = [Figure(f"seconds, {engine}", round(took, 1)) for engine, took in seconds.items()]
    figures += [
        Figure("events a second, habitus", round(millions * 1e6 / ours)),
        at_most("time against DuckDB", ours / seconds["DuckDB"], 2.0),
        at_most("time against session_window", ours / seconds["session_window"], 0.45),
        at_most("time against shuffle and write", ours / seconds["shuffle and write"], 1.6),
        at_most("a user with 5 % of the events against none, time", ours / without, 1.2),
        Figure("GB of Java, peak", by_engine["habitus"]["java"]),
        Figure("GB of Python workers, peak", by_engine["habitus"]["python"]),
        *per_event(by_engine["habitus"], millions),
    ]
    job, scattered, compact = up_to_date(hot)
    share_of_time = job["new"] / job["full"]
    figures += [
        Figure("seconds, the job over 99 % of the events", round(job["full"], 1)),
        Figure("seconds, the job over 1 % that is new", round(job["new"], 1)),
        at_most("1 % new events against a full run, time", share_of_time, 0.05),
        Figure("seconds to compact", round(job["compact"], 1)),
    ]
    for state, layout in (("before", scattered), ("after", compact)):
        figures.append(Figure(f"files {state} compaction", layout.files))
        figures += [
            Figure(f"files with one {column}, {state} compaction", files)
            for column, files in layout.reads.items()
        ]
    if large is not None:
        found = measured(__file__, "habitus", large, 1)
        figures += [
            at_most("ten times the events, time per event", found["seconds"] / 10 / ours, 1.15),
            Figure("GB of Java, peak, ten times the events", found["java"]),
            Figure("GB of Python workers, peak, ten times the events", found["python"]),
        ]
    publish("sessionize", figures)


if __name__ == "__main__":
    main()
