"""From `events` to `sessions`."""

from datetime import UTC, date, datetime

from pydantic import ValidationError
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.config import Frozen
from habitus.domain.session_changes import changed_sessions, concerned_since, touched_by
from habitus.domain.sessions import sessionize
from habitus.errors import InputError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS, SESSIONS

# To be raised when the code makes other sessions of the same events by the same rule.
_PASS = 1


class _Made(Frozen):
    """What `sessions` was made from; each of its commits says so.

    Attributes:
        table: The identity of `events`.
        version: Its version.
        now: Time up to which events were known.
        rule: What a session was.
    """

    table: str
    version: int
    now: datetime
    rule: str


def run(context: JobContext) -> None:
    """Bring the sessions up to date with new events, or make them all."""
    context.read(EVENTS)
    before = _made_before(context)
    added = _added(context, before)
    if before is None or added is None:
        _make_all(context)
        return
    span = added.agg(
        F.count(F.lit(1)).alias("rows"),
        F.min("event_time").alias("first"),
        F.max("event_time").alias("last"),
    ).first()
    assert span is not None, "an aggregate without groups has one row"
    context.rows_in[EVENTS.name] = span["rows"]
    context.reporter.say(f"events: {span['rows']:,} new since version {before.version}")
    if span["rows"]:
        now = max(before.now, _utc(span["last"]))
        _bring_up_to_date(context, added, _utc(span["first"]), now)


def _make_all(context: JobContext) -> None:
    events = context.read(EVENTS)
    span = events.agg(F.count(F.lit(1)).alias("rows"), F.max("event_time").alias("now")).first()
    assert span is not None, "an aggregate without groups has one row"
    if span["now"] is None:
        raise InputError(
            context.lake.name(EVENTS), "the table has no row", "Ingest a source first."
        )
    context.rows_in[EVENTS.name] = span["rows"]
    now = _utc(span["now"])
    with context.reporter.step("group events into sessions"):
        made = sessionize(events, context.settings.sessions, now)
        context.overwrite(SESSIONS, made, _note(context, now))


def _bring_up_to_date(
    context: JobContext, added: DataFrame, first: datetime, now: datetime
) -> None:
    settings = context.settings.sessions
    version = context.lake.version(SESSIONS)
    sessions = context.lake.read(SESSIONS, version)
    oldest = sessions.where("not closed").agg(F.min("started_at").alias("start")).first()
    assert oldest is not None, "an aggregate without groups has one row"
    oldest_open = _utc(oldest["start"]) if oldest["start"] else first
    since = concerned_since(min(first, oldest_open), settings)
    with context.reporter.step("bring the sessions near new events up to date"):
        touched = touched_by(added, sessions, settings, since)
        kept, firsts = touched.kept.persist(), touched.firsts.persist()
        try:
            changes = changed_sessions(touched, added, sessions, settings, now, since)
            _merge(context, changes, since, version, now)
        finally:
            kept.unpersist()
            firsts.unpersist()


def _merge(
    context: JobContext, changes: DataFrame, since: date, version: int, now: datetime
) -> None:
    if context.lake.version(SESSIONS) != version:
        raise InputError(
            context.lake.name(SESSIONS),
            f"another run has written the table since version {version} was read",
            "Run this one again.",
        )
    differing = ("end_reason", "events")
    context.merge(
        SESSIONS,
        changes,
        update=differing,
        stamp=tuple(name for name in SESSIONS.names if name not in differing),
        where=f"old.session_date >= DATE'{since.isoformat()}'",
        note=_note(context, now),
    )


def _made_before(context: JobContext) -> _Made | None:
    """What the sessions that are there were made from; None where they are to be made anew."""
    if context.settings.sessions.rebuild or not context.lake.exists(SESSIONS):
        return None
    note = context.lake.note(SESSIONS)
    try:
        made = None if note is None else _Made.model_validate_json(note)
    except ValidationError:
        return None
    return made if made is not None and made.rule == _rule(context) else None


def _added(context: JobContext, before: _Made | None) -> DataFrame | None:
    """The events that no session was made from yet; None where `events` cannot tell."""
    if before is None:
        return None
    until = context.inputs[EVENTS.name]
    added = None
    if before.table == context.lake.identity(EVENTS) and before.version <= until:
        added = context.lake.added(EVENTS, before.version, until)
    if added is None:
        problem = f"the table cannot tell what was added since version {before.version}"
        if context.settings.sessions.lost_history == "refuse":
            raise InputError(
                context.lake.name(EVENTS),
                problem,
                "Set sessions.rebuild=true to make all sessions anew.",
            )
        context.reporter.say(f"events: {problem}; all sessions are made anew")
    return added


def _note(context: JobContext, now: datetime) -> str:
    return _Made(
        table=context.lake.identity(EVENTS),
        version=context.inputs[EVENTS.name],
        now=now,
        rule=_rule(context),
    ).model_dump_json()


def _rule(context: JobContext) -> str:
    rule = context.settings.sessions.model_dump_json(
        include={"gap", "by", "max_events", "max_duration"}
    )
    # Sessions of another layout are made anew, too.
    layout = ", ".join(f"{column.name} {column.type}" for column in SESSIONS.columns)
    return f"{rule} {_PASS} {layout}"


def _utc(time: datetime) -> datetime:
    # PySpark hands over times without a zone, in the process's own, which is UTC.
    return time.replace(tzinfo=UTC)
