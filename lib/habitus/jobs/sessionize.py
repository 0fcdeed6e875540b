"""From `events` to `sessions`."""

from datetime import date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.session_changes import changed_sessions, concerned_since, touched_by
from habitus.domain.sessions import sessionize
from habitus.domain.totals import totals
from habitus.errors import InputError
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.increments import Made, changes_since, made_before, source
from habitus.tables import EVENTS, SESSIONS

# To be raised when the code makes other sessions of the same events by the same rule.
_PASS = 2


def run(context: JobContext) -> None:
    """Bring the sessions up to date with new events, or make them all."""
    context.read(EVENTS)
    # Before the note is: what another run writes in between is then seen.
    version = context.lake.version(SESSIONS) if context.lake.exists(SESSIONS) else None
    before = made_before(context, SESSIONS, _rule(context))
    added = changes_since(context, before, EVENTS, only_added=True)
    if version is None or before is None or before.now is None or added is None:
        _make_all(context)
        return
    span = totals(
        added,
        F.count(F.lit(1)).alias("rows"),
        F.min("event_time").alias("first"),
        F.max("event_time").alias("last"),
    )
    context.rows_in[EVENTS.name] = span["rows"]
    context.reporter.say(f"events: {span['rows']:,} new")
    if span["rows"]:
        now = max(before.now, span["last"])
        _bring_up_to_date(context, version, added, span["first"], now)


def _make_all(context: JobContext) -> None:
    events = context.read(EVENTS)
    span = totals(events, F.count(F.lit(1)).alias("rows"), F.max("event_time").alias("now"))
    if span["now"] is None:
        raise InputError(
            context.lake.name(EVENTS), "the table has no row", "Ingest a source first."
        )
    context.rows_in[EVENTS.name] = span["rows"]
    now = span["now"]
    with context.reporter.step("group events into sessions"):
        made = sessionize(events, context.settings.sessions, now)
        # In order of days a file's pages have few days each: readers of some skip the others.
        by_day = made.sortWithinPartitions("session_date")
        context.overwrite(SESSIONS, by_day, _note(context, now, None))


def _bring_up_to_date(
    context: JobContext, version: int, added: DataFrame, first: datetime, now: datetime
) -> None:
    settings = context.settings.sessions
    sessions = context.lake.read(SESSIONS, version)
    oldest = totals(sessions.where("not closed"), F.min("started_at").alias("start"))
    oldest_open = oldest["start"] or first
    since = concerned_since(min(first, oldest_open), settings)
    with context.reporter.step("bring the sessions near new events up to date"):
        touched = touched_by(added, sessions, settings, since)
        # In this order: the first is part of the second.
        with persisted(touched.firsts), persisted(touched.kept):
            # Most days that could be concerned are not, and their arrays need not be read.
            kept = totals(touched.kept, F.min("started_at").alias("start"))
            oldest_kept = kept["start"] or oldest_open
            day = min(oldest_kept, oldest_open).date()
            changes = changed_sessions(touched, added, sessions, settings, now, day)
            _merge(context, changes, day, version, now)


def _merge(
    context: JobContext, changes: DataFrame, since: date, version: int, now: datetime
) -> None:
    differing = ("end_reason", "heavy", "events")
    context.merge(
        SESSIONS,
        changes,
        update=differing,
        stamp=tuple(name for name in SESSIONS.names if name not in differing),
        where=f"old.session_date >= DATE'{since.isoformat()}'",
        note=_note(context, now, version),
        made_from=version,
    )


def _note(context: JobContext, now: datetime, based_on: int | None) -> str:
    return Made(
        sources={EVENTS.name: source(context, EVENTS)},
        rule=_rule(context),
        now=now,
        run=context.run_id,
        based_on=based_on,
    ).model_dump_json()


def _rule(context: JobContext) -> str:
    rule = context.settings.sessions.model_dump_json()
    # Sessions of another layout are made anew, too.
    layout = ", ".join(f"{column.name} {column.type}" for column in SESSIONS.columns)
    return f"{rule} {_PASS} {layout}"
