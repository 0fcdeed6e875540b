"""The segments that units are calibrated within, from expressions in the settings."""

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.totals import totals
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import SettingsError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS

_FIRST = "first"
_BETWEEN = " / "


def with_segments(context: JobContext, units: DataFrame, vocabulary: Vocabulary) -> DataFrame:
    """Units with `segment`: the names of the segments of each, every one within the one before.

    Args:
        context: The job.
        units: Rows of `sequences`, in any order; it is not kept.
        vocabulary: What their context holds.

    Raises:
        SettingsError: An expression cannot be read, or speaks of what is not there.
    """
    expressions = context.settings.segments
    known = units
    if expressions:
        known = known.withColumns(
            {
                name: F.nanvl(F.get("context", F.lit(index)), F.lit(None).cast("float"))
                for index, name in enumerate(vocabulary.context)
            }
        )
    if any(f"{_FIRST}." in one for one in expressions):
        events = context.read(EVENTS)
        first = F.struct(*(name for name in events.columns if name != "event_id")).alias(_FIRST)
        # The events before those that are judged are the user's history.
        asked = F.get("event_ids", F.col("scored_from")).alias("event_id")
        events = events.where(_on_days_of(units)).select("event_id", first)
        known = known.select("*", asked).join(events, "event_id", "left").drop("event_id")
    names: list[str] = []
    for expression in expressions:
        place = f"segments[{len(names)}]"
        try:
            value = F.expr(expression).cast("string")
            # Without a value on the way there is no segment: text with nothing is nothing.
            known = known.withColumn(
                place, F.concat(F.col(f"`{names[-1]}`"), F.lit(_BETWEEN), value) if names else value
            )
        except AnalysisException as error:
            raise SettingsError(
                place,
                f"{expression!r} is no expression over units",
                f"Use columns of `sequences`, {_FIRST}.NAME for a column NAME of the unit's first "
                f"event, and the features {', '.join(vocabulary.context) or '(there are none)'}.",
            ) from error
        names.append(place)
    segment = F.array(*(F.col(f"`{name}`") for name in names)).cast("array<string>")
    return known.select(*units.columns, segment.alias("segment"))


def _on_days_of(units: DataFrame) -> Column:
    """Whether an event may be the first of one of the units, by its day: others are not read."""
    days = totals(units, F.min("event_date").alias("first"), F.max("event_date").alias("last"))
    return F.col("event_date").between(F.lit(days["first"]), F.lit(days["last"]))
