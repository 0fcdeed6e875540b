"""The fields of an event that tokens are made of, and the gap between two events."""

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

# Fields that are numbers, and their units.
NUMBERS = {"gap": "s", "amount": ""}
# What is new to the user at an event, and the column that tells with what it was done.
NOVEL = {
    "new_device": "device_id",
    "new_network": "network",
    "new_counterparty": "counterparty_id",
}


def of_user() -> WindowSpec:
    """A user's events in their order."""
    return Window.partitionBy("user_id").orderBy("event.event_time", "event.event_id")


def user_events(sessions: DataFrame) -> DataFrame:
    """All events of each user, with the gap to the user's event before, whatever its session."""
    events = sessions.select("user_id", F.explode("events").alias("event"))
    time = F.col("event.event_time")
    gap = _seconds(F.lag(time).over(of_user()), time)
    return events.withColumn("event", F.col("event").withField("gap", gap))


def with_gaps(events: str) -> Column:
    """The array of events, each with the gap to the one before it in the array."""

    def with_gap(event: Column, index: Column) -> Column:
        before = F.get(events, index - 1)
        return event.withField("gap", _seconds(before["event_time"], event["event_time"]))

    return F.transform(events, with_gap)


def _seconds(start: Column, end: Column) -> Column:
    return (F.unix_micros(end) - F.unix_micros(start)) / 1_000_000


def text(name: str, event: Column) -> Column:
    """What is counted of a field: its value, or its number rounded down to two digits.

    Down, so that a bin's lower bound is not above the values it was made for, 10 above 9.99.
    """
    if name in NOVEL:
        known = event[NOVEL[name]].isNotNull()
        return F.when(known & event[name], "yes").when(known & ~event[name], "no")
    if name not in NUMBERS:
        return event[name]
    exponent = F.coalesce(F.floor(F.log10(F.abs(event[name]))) - 1, F.lit(0))
    # 0.3 / 0.01 is a little less than 30.
    digits = F.floor(event[name] / F.pow(F.lit(10.0), exponent) + 1e-9)
    return F.concat(digits.cast("string"), F.lit("e"), exponent.cast("string"))
