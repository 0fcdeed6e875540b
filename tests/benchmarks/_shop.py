"""Events of the simulated shop in canonical columns, kept for benchmarks."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from _kept import kept
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.domain.events import judge, valid_events
from habitus.domain.mapping import load_mapping
from habitus.jobs.simulate import simulate
from habitus.loading import configuration_folder, load_settings

HOT = "hot"
_EVENTS = kept("events")
_RAW = f"{_EVENTS}/raw"
# Shoppers for a million events, at the settings' defaults.
_USERS_A_MILLION = 13_130


def shop_events(spark: SparkSession, millions: int, hot_share: float) -> str:
    """The folder of Parquet files, in the order of time, with about so many million events.

    Args:
        spark: The running session.
        millions: How many; above 20 they are copies of the first 20, of other users.
        hot_share: The share of all events that one user, HOT, is given.
    """
    target = Path(f"{_EVENTS}/{millions}M-hot{hot_share:g}")
    if (target / "_SUCCESS").exists():
        return str(target)
    if millions > 20:
        events = _copies(spark.read.parquet(shop_events(spark, 20, hot_share)), millions // 20)
    elif hot_share:
        events = _with_hot_user(spark.read.parquet(shop_events(spark, millions, 0)), hot_share)
    else:
        events = _simulated(spark, millions)
    events.write.mode("overwrite").parquet(str(target))
    shutil.rmtree(_RAW, ignore_errors=True)
    return str(target)


def _simulated(spark: SparkSession, millions: int) -> DataFrame:
    users = millions * _USERS_A_MILLION
    settings = load_settings(overrides=[f"simulate.output={_RAW}", f"simulate.users={users}"])
    simulate(spark, settings.simulate, settings.seed)
    mapping = load_mapping(str(configuration_folder() / "sources" / "shop.yaml"))
    assert mapping.columns_in is not None
    raw = spark.read.csv(f"{_RAW}/{mapping.path}", mapping.columns_in, header=True)
    events = valid_events(judge(raw, mapping, datetime(2026, 1, 1, tzinfo=UTC)))
    return events.repartitionByRange(2 * millions, "event_time")


def _with_hot_user(events: DataFrame, share: float) -> DataFrame:
    is_hot = F.pmod(F.xxhash64("event_id"), F.lit(1000)) < share * 1000
    return events.withColumn("user_id", F.when(is_hot, HOT).otherwise(F.col("user_id")))


def _copies(events: DataFrame, copies: int) -> DataFrame:
    """So many times the events, each copy's users and events with ids of their own."""
    copy = F.explode(F.sequence(F.lit(1), F.lit(copies)))
    other = {name: F.concat(name, F.lit("-"), "copy") for name in ("user_id", "event_id")}
    other["user_id"] = F.when(F.col("user_id") == HOT, HOT).otherwise(other["user_id"])
    return events.withColumn("copy", copy).withColumns(other).drop("copy")
