"""What flags of several users share that hardly anybody else uses at that time."""

from datetime import timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.joining import whole_if_few

_THING = ["kind", "value"]
_STRETCH = [*_THING, "stretch"]


def in_stretches(things: DataFrame, window: timedelta) -> DataFrame:
    """Tell the stretches of time apart in which flags have a thing in common.

    Args:
        things: A row per flag and thing: event_time, kind and value.
        window: The longest pause between two flags of one stretch.

    Returns:
        The rows with the number of their `stretch`, from 0 for each thing.
    """
    in_order = Window.partitionBy(*_THING).orderBy("event_time")
    pause = F.col("event_time") - F.lag("event_time").over(in_order)
    begins = F.coalesce((pause > F.lit(window)).cast("int"), F.lit(0))
    return things.withColumn("begins", begins).select(
        *things.columns, F.sum("begins").over(in_order).alias("stretch")
    )


def shared_stretches(things: DataFrame, window: timedelta) -> DataFrame:
    """The stretches in which flags of several users have a thing in common.

    Args:
        things: Rows of `in_stretches`, also with user_id, and used_from and used_until: when the
            flag's first and last event that uses the thing happened.
        window: As for `in_stretches`.

    Returns:
        kind, value, stretch, flagged_users; and `since` and `until`: a window more on either side,
        the time in which others who use the thing count.
    """
    margin = F.lit(window)
    return (
        things.groupBy(*_STRETCH)
        .agg(
            F.count_distinct("user_id").alias("flagged_users"),
            (F.min("used_from") - margin).alias("since"),
            (F.max("used_until") + margin).alias("until"),
        )
        .where("flagged_users > 1")
    )


def links_of(
    things: DataFrame, stretches: DataFrame, uses: DataFrame, least_share: float
) -> DataFrame:
    """Which flags share what few others use.

    Args:
        things: Rows of `in_stretches`, also with unit_id.
        stretches: Rows of `shared_stretches`; they are counted.
        uses: A row per event and thing that it uses, of all users: user_id, event_time, kind,
            value.
        least_share: The least share of a thing's users, in its stretch, that are flagged.

    Returns:
        unit_id, kind, value, users and flagged_users; a row per flag and thing that it shares.
    """
    users = (
        uses.join(whole_if_few(stretches), _THING)
        .where("event_time between since and until")
        .groupBy(*_STRETCH, "flagged_users")
        .agg(F.count_distinct("user_id").alias("users"))
    )
    few = users.where(F.col("flagged_users") >= F.lit(least_share) * F.col("users"))
    return things.join(few, _STRETCH).select("unit_id", *_THING, "users", "flagged_users")


def edges_of(flags: DataFrame, links: DataFrame, window: timedelta) -> DataFrame:
    """Pairs of flags, one after the other, that have a user or a shared thing in common.

    Args:
        flags: unit_id, user_id and event_time.
        links: Rows of `links_of`.
        window: The longest pause between two flags that are joined.

    Returns:
        Columns a and b, their unit ids.
    """
    own = flags.select("unit_id", "event_time", F.lit("user").alias("kind"), F.col("user_id"))
    shared = links.join(flags.select("unit_id", "event_time"), "unit_id")
    had = own.withColumnRenamed("user_id", "value").unionByName(
        shared.select("unit_id", "event_time", *_THING)
    )
    in_order = Window.partitionBy(*_THING).orderBy("event_time", "unit_id")
    pause = F.col("event_time") - F.lag("event_time").over(in_order)
    return (
        had.withColumns({"a": F.lag("unit_id").over(in_order), "pause": pause})
        .where(F.col("pause") <= F.lit(window))
        .select("a", F.col("unit_id").alias("b"))
    )
