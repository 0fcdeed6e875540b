"""Sessions from sorted events, one Arrow batch after another.

Every step works on whole columns. What goes on from one batch to the next is the last session,
whose end is not known yet, and what the last user has been seen with.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from habitus.domain.batches import changes, joined
from habitus.domain.event_fields import NOVEL

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]

# The columns of sessions that the pass yields.
PASSED = (
    "user_id",
    "started_at",
    "ended_at",
    "end_reason",
    "heavy",
    "n_actions",
    "n_items",
    "amount_sum",
    "events",
    "new_values",
    "session_hint",
)
_REASONS = pa.array(["gap", "hint", "cap", "open"])
_GAP, _HINT, _CAP, _OPEN = range(4)


@dataclass(frozen=True)
class Rule:
    """What ends a session; times are in microseconds.

    Attributes:
        gap: The longest pause within a session.
        by_hint: Whether another session id of the source starts a session.
        streams: Whether the source's session ids are streams of their own, which may interleave.
        half: Half of the longest duration.
        max_events: The most events.
        now: Time up to which events are known.
    """

    gap: int
    by_hint: bool
    streams: bool
    half: int
    max_events: int
    now: int


@dataclass(frozen=True)
class _Left:
    """What a batch leaves to the next: its last session so far, and when that one's run began."""

    events: pa.RecordBatch
    run_start: int


@dataclass(frozen=True)
class _Rows:
    """Sorted events and what the rule says of each.

    Attributes:
        events: The events.
        times: When they happened.
        stream: Whether it is the first of its user, or stream.
        late: Whether the pause before it is too long.
        run: Whether it starts a run: nothing but a cap ends a session within a run.
        run_start: When its run began.
        session: Whether it starts a session.
    """

    events: pa.RecordBatch
    times: Integers
    stream: Flags
    late: Flags
    run: Flags
    run_start: Integers
    session: Flags


def sessions_of(
    batches: Iterable[pa.RecordBatch], rule: Rule, fields: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Sessions of events that come sorted by user, then stream if there are any, then (time, id).

    Args:
        batches: Columns user_id, session_hint and the fields of an event, whole users. Where a
            column run_start (microseconds) is there and not null, the event starts a session
            whatever is before it, of a run that began then.
        rule: What ends a session.
        fields: The fields of an event in `events`.

    Yields:
        Columns of `sessions`: `PASSED`.
    """
    left: _Left | None = None
    for batch in batches:
        if batch.num_rows == 0:
            continue
        rows = _judge(batch, left, rule)
        # The last session may go on in the next batch.
        starts = np.flatnonzero(rows.session)
        if len(starts) > 1:
            yield _collect(rows, starts, rule, fields)
        last = int(starts[-1])
        left = _Left(rows.events.slice(last), int(rows.run_start[last]))
    if left is not None:
        rows = _judge(left.events.slice(0, 0), left, rule)
        yield _collect(rows, np.array([0, len(rows.times)]), rule, fields)


def with_novelty(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Mark the events at which a value is new to the user; they come sorted by user, then time."""
    user = None
    seen: dict[str, set[str]] = {}
    for batch in batches:
        if batch.num_rows == 0:
            continue
        users = np.cumsum(changes(batch["user_id"]), dtype=np.int64)
        if batch["user_id"][0].as_py() != user:
            seen = {name: set() for name in NOVEL}
        last = users == users[-1]
        marks = {}
        for name, column in NOVEL.items():
            marks[name] = _first_times(users, batch[column], seen[name])
            values = batch[column].filter(pa.array(marks[name] & last))
            if users[-1] != 1:
                seen[name] = set()
            seen[name].update(values.to_pylist())
        user = batch["user_id"][-1].as_py()
        columns = [*batch.columns, *(pa.array(flags) for flags in marks.values())]
        yield pa.RecordBatch.from_arrays(columns, names=[*batch.schema.names, *marks])


def _first_times(users: Integers, values: pa.Array, seen: set[str]) -> Flags:
    """Whether it is the first time for the user; the first user has been seen with some before."""
    encoded = values.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    first = ~pd.Series(users << 32 | codes & 0xFFFFFFFF).duplicated().to_numpy() & (codes >= 0)
    if seen:
        known = [code for code, value in enumerate(encoded.dictionary.to_pylist()) if value in seen]
        first &= ~((users == 1) & np.isin(codes, known))
    return np.asarray(first)


def _judge(batch: pa.RecordBatch, left: _Left | None, rule: Rule) -> _Rows:
    """Say of each event, those left over first, what it starts."""
    events = batch if left is None else joined([left.events, batch])
    times = events["event_time"].cast(pa.int64()).to_numpy()
    index = np.arange(len(times))
    stream = changes(events["user_id"])
    other = changes(events["session_hint"])
    if rule.streams:
        stream |= other
    begins = times
    if "run_start" in events.schema.names:
        known = events["run_start"].is_valid().to_numpy(zero_copy_only=False)
        begins = np.where(known, events["run_start"].fill_null(0).to_numpy(), times)
        stream |= known
    pause = np.diff(times, prepend=times[:1])
    limit = np.where(_hinted(events), 2 * rule.half, rule.gap) if rule.streams else rule.gap
    late = pause > limit
    run = stream | late
    if rule.by_hint:
        run |= other
    first_of_run = np.maximum.accumulate(np.where(run, index, 0))
    run_start = begins[first_of_run]
    if left is not None:
        run_start[first_of_run == 0] = left.run_start
    # From half the longest duration on, a run is cut at every multiple of that half since 1970.
    part = np.maximum(times // rule.half, -(-run_start // rule.half))
    cut = run | (np.diff(part, prepend=part[:1]) != 0)
    place = index - np.maximum.accumulate(np.where(cut, index, 0))
    return _Rows(events, times, stream, late, run, run_start, place % rule.max_events == 0)


def _collect(rows: _Rows, bounds: Integers, rule: Rule, fields: Sequence[str]) -> pa.RecordBatch:
    """The sessions between these bounds."""
    first, last, n = bounds[:-1], bounds[1:] - 1, int(bounds[-1])
    events = rows.events.slice(0, n)
    session = np.repeat(np.arange(len(first)), np.diff(bounds))
    offsets = pa.array(bounds.astype(np.int32))
    reasons = _end_reasons(rows, last, rule)
    continued = rows.run_start[first] != rows.times[first]
    amounts = events["amount"].fill_null(0.0).to_numpy(zero_copy_only=False)
    structs = pa.StructArray.from_arrays([events[name] for name in fields], list(fields))
    return pa.RecordBatch.from_pydict(
        {
            "user_id": events["user_id"].take(pa.array(first)),
            "started_at": events["event_time"].take(pa.array(first)),
            "ended_at": events["event_time"].take(pa.array(last)),
            "end_reason": _REASONS.take(pa.array(reasons)),
            "heavy": pa.array(continued | (reasons == _CAP)),
            "n_actions": _counts(session, events["action"], len(first)),
            "n_items": _distinct(session, events["item_id"], len(first)),
            "amount_sum": np.add.reduceat(amounts, first),
            "events": pa.ListArray.from_arrays(offsets, structs),
            "new_values": _new_values(events, bounds),
            "session_hint": events["session_hint"].take(pa.array(first)),
        }
    )


def _end_reasons(rows: _Rows, last: Integers, rule: Rule) -> Integers:
    following = np.minimum(last + 1, len(rows.times) - 1)
    final = (following == last) | rows.stream[following]
    # By the source's session id alone, sessions with one say so however they end.
    paused = np.where(_hinted(rows.events)[last] & rule.streams, _HINT, _GAP)
    ended = np.where(rule.now - rows.times[last] <= rule.gap, _OPEN, paused)
    within = np.where(rows.late[following], paused, np.where(rows.run[following], _HINT, _CAP))
    return np.where(final, ended, within)


def _new_values(events: pa.RecordBatch, bounds: Integers) -> pa.ListArray:
    """What was new to the user in each session, in the order of events."""
    marked = [np.flatnonzero(events[mark].to_numpy(zero_copy_only=False)) for mark in NOVEL]
    order = np.argsort(np.concatenate(marked), kind="stable")
    rows = np.concatenate(marked)[order]
    fields = np.repeat(list(NOVEL.values()), [len(one) for one in marked])[order]
    values = pa.concat_arrays(
        [
            events[column].take(pa.array(one))
            for column, one in zip(NOVEL.values(), marked, strict=True)
        ]
    )
    found = pa.StructArray.from_arrays(
        [
            pa.array(fields, pa.string()),
            values.take(pa.array(order)),
            events["event_id"].take(pa.array(rows)),
            events["event_time"].take(pa.array(rows)),
        ],
        ["field", "value", "event_id", "event_time"],
    )
    offsets = np.searchsorted(rows, bounds).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), found)


def _counts(session: Integers, values: pa.Array, sessions: int) -> pa.MapArray:
    """How often each value occurs, by session."""
    encoded = values.dictionary_encode()
    width = len(encoded.dictionary)
    found, times = np.unique(session * width + encoded.indices.to_numpy(), return_counts=True)
    offsets = np.searchsorted(found, np.arange(sessions + 1) * width).astype(np.int32)
    keys = encoded.dictionary.take(pa.array(found % width))
    return pa.MapArray.from_arrays(pa.array(offsets), keys, pa.array(times.astype(np.int32)))


def _distinct(session: Integers, values: pa.Array, sessions: int) -> NDArray[np.int32]:
    """How many distinct values there are, by session."""
    encoded = values.dictionary_encode()
    there = encoded.indices.is_valid().to_numpy(zero_copy_only=False)
    width = max(1, len(encoded.dictionary))
    codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    found = pd.unique(session[there] * width + codes[there])
    return np.bincount(found // width, minlength=sessions).astype(np.int32)


def _hinted(events: pa.RecordBatch) -> Flags:
    return np.asarray(events["session_hint"].is_valid().to_numpy(zero_copy_only=False))
