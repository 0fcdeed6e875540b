"""From `events` to `sessions`."""

from pyspark.sql import functions as F

from habitus.domain.sessions import sessionize
from habitus.errors import InputError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS, SESSIONS


def run(context: JobContext) -> None:
    """Group all events into sessions."""
    events = context.read(EVENTS)
    span = events.agg(F.count(F.lit(1)).alias("rows"), F.max("event_time").alias("now")).first()
    assert span is not None, "an aggregate without groups has one row"
    if span["now"] is None:
        raise InputError(
            context.lake.name(EVENTS), "the table has no row", "Ingest a source first."
        )
    context.rows_in[EVENTS.name] = span["rows"]
    with context.reporter.step("group events into sessions"):
        context.overwrite(SESSIONS, sessionize(events, context.settings.sessions, span["now"]))
