"""Sessions straight from the words of the rule in `habitus.domain.sessions`, slowly."""

from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import Any

from event_streams import NEW, Row

from habitus.loading import load_settings
from habitus.unit_settings import SessionSettings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rule(**changes: Any) -> SessionSettings:
    """The rule of conf/base.yaml with these changes."""
    given = load_settings().sessions.model_dump() | changes
    return SessionSettings.model_validate(given)


def told(session: Row) -> tuple[Any, ...]:
    """What is compared of a session."""
    marks = tuple(tuple(inner[mark] for mark in NEW) for inner in session["events"])
    ids = [inner["event_id"] for inner in session["events"]]
    return session["user_id"], ids, session["end_reason"], session["heavy"], marks


def sessions_by_words(
    events: list[Row], settings: SessionSettings, now: datetime
) -> list[tuple[Any, ...]]:
    """What is compared of every session, by user, time of the start and ids."""
    new = _marks(events)
    found = []
    ordered = sorted(events, key=lambda row: (*_stream(row, settings), *_order(row)))
    for (user, hint), stream in groupby(ordered, lambda row: _stream(row, settings)):
        runs = _runs(list(stream), settings)
        for index, run in enumerate(runs):
            parts = _parts(run, settings)
            for part in parts:
                reason = "cap"
                if part is parts[-1]:
                    following = runs[index + 1][0] if index + 1 < len(runs) else None
                    reason = _end(run[-1], following, hint, settings, now)
                ids = [row["event_id"] for row in part]
                heavy = reason == "cap" or part[0]["event_time"] > run[0]["event_time"]
                row = (user, ids, reason, heavy, tuple(new[one] for one in ids))
                found.append((user, part[0]["event_time"], ids, row))
    return [row for *_, row in sorted(found)]


def _order(row: Row) -> tuple[datetime, str]:
    return row["event_time"], row["event_id"]


def _stream(row: Row, settings: SessionSettings) -> tuple[str, str]:
    return row["user_id"], (row.get("session_hint") or "") if settings.by == "hint" else ""


def _marks(events: list[Row]) -> dict[str, tuple[bool, ...]]:
    seen = set()
    marks = {}
    for row in sorted(events, key=_order):
        mark = []
        for column in NEW.values():
            known = (row["user_id"], column, row[column])
            mark.append(row[column] is not None and known not in seen)
            seen.add(known)
        marks[row["event_id"]] = tuple(mark)
    return marks


def _late(row: Row, last: Row, settings: SessionSettings) -> bool:
    hinted = settings.by == "hint" and row.get("session_hint") is not None
    limit = settings.max_duration if hinted else settings.gap
    return bool(row["event_time"] - last["event_time"] > limit)


def _runs(stream: list[Row], settings: SessionSettings) -> list[list[Row]]:
    runs = [[stream[0]]]
    for last, row in pairwise(stream):
        other = settings.by == "both" and row.get("session_hint") != last.get("session_hint")
        if other or _late(row, last, settings):
            runs.append([])
        runs[-1].append(row)
    return runs


def _parts(run: list[Row], settings: SessionSettings) -> list[list[Row]]:
    half = settings.max_duration / 2
    first_cut = run[0]["event_time"] + half
    by_time: dict[datetime, list[Row]] = {}
    for row in run:
        cut = _EPOCH + (row["event_time"] - _EPOCH) // half * half
        by_time.setdefault(cut if cut >= first_cut else run[0]["event_time"], []).append(row)
    size = settings.max_events
    return [part[at : at + size] for part in by_time.values() for at in range(0, len(part), size)]


def _end(
    last: Row, following: Row | None, hint: str, settings: SessionSettings, now: datetime
) -> str:
    paused = "hint" if hint else "gap"
    if following is None:
        return "open" if now - last["event_time"] <= settings.gap else paused
    return paused if _late(following, last, settings) else "hint"
