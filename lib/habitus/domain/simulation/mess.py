"""What goes wrong between the shop and the files, and the files themselves as CSV text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from habitus.domain.simulation.catalogue import Ints
from habitus.domain.simulation.shoppers import DAY_MS

Mask = npt.NDArray[np.bool_]

# Rows that go wrong are shared out evenly over these; a skewed clock takes whole sessions.
FAULTS = ("duplicated", "late", "missing", "malformed", "skewed")
_DUPLICATED, _LATE, _MISSING, _MALFORMED, _SKEWED = range(len(FAULTS))
MAY_MISS = ("ts", "customer", "action")
BAD_TIMES = ("yesterday", "2026-13-45 25:61:00", "NULL", "01/02/26 late")
BAD_AMOUNTS = ("n/a", "free", "12.99 EUR", "NULL")
CUT_AFTER = 7


@dataclass(frozen=True)
class FileText:
    """Lines for the files of each day on which rows arrive.

    Args:
        days: [D] day of arrival, counted from the first day.
        lines: [D] number of its lines.
        texts: [D] its lines in order of arrival, joined by line ends.
    """

    days: Ints
    lines: Ints
    texts: pa.Array


def header(columns: Sequence[str]) -> str:
    """A file's first line."""
    return ",".join(columns)


def event_text(
    generator: np.random.Generator, events: pa.Table, mess: float, start: int
) -> FileText:
    """The events as they arrive: some twice, late, without a value, malformed, by a wrong clock.

    Args:
        generator: Randomness.
        events: As `simulate_block` makes them.
        mess: Share of rows that something is wrong with.
        start: First day, ms since 1970.
    """
    count = events.num_rows
    happened = events.column("ts").cast(pa.int64()).to_numpy()
    point = generator.random(count)
    # Rows beyond the share have no fault: an index past the last.
    fault = np.full(count, len(FAULTS))
    if mess > 0:
        fault = np.minimum((point / mess * len(FAULTS)).astype(np.int64), len(FAULTS))
    fault[fault == _SKEWED] = len(FAULTS)
    arrived = happened + (1000 * generator.exponential(2.0, count)).astype(np.int64)
    late = fault == _LATE
    arrived[late] += generator.integers(3 * 3_600_000, 3 * DAY_MS, int(late.sum()))
    way = generator.integers(0, 3, count)
    columns = _skewed(generator, events, happened, mess)
    _take_away(columns, fault == _MISSING, way)
    _put_nonsense(generator, columns, fault == _MALFORMED, way)
    lines = _cut(generator, _lines(columns), (fault == _MALFORMED) & (way == 2))
    again = np.flatnonzero(fault == _DUPLICATED)
    delay = (1000 * generator.exponential(1800.0, len(again))).astype(np.int64)
    rows = np.concatenate([np.arange(count), again])
    return _by_day(lines, rows, np.concatenate([arrived, arrived[again] + delay]), start)


def label_text(labels: pa.Table, start: int) -> FileText:
    """The labels, each on the day on which it becomes known."""
    known = labels.column("known_at").cast(pa.int64()).to_numpy()
    columns = {name: labels.column(name).combine_chunks() for name in labels.column_names}
    columns["known_at"] = _time_text(known)
    return _by_day(_lines(columns), np.arange(len(known)), known, start)


def _skewed(
    generator: np.random.Generator, events: pa.Table, happened: Ints, mess: float
) -> dict[str, pa.Array]:
    """The columns as text; a clock that is wrong is so for a whole visit."""
    columns = {name: events.column(name).combine_chunks() for name in events.column_names}
    sessions = columns["session"].dictionary_encode()
    wrong = generator.random(len(sessions.dictionary)) < mess / len(FAULTS)
    sign = generator.choice([-1, 1], len(wrong))
    skew = np.where(wrong, sign * generator.integers(5_000, 150_000, len(wrong)), 0)
    columns["ts"] = _time_text(happened + skew[sessions.indices.to_numpy()])
    columns["amount"] = _amount_text(columns["amount"])
    columns["path"] = _quoted(columns["path"])
    return columns


def _time_text(time: Ints) -> pa.Array:
    return pa.array(time, pa.timestamp("ms")).cast(pa.string())


def _amount_text(amounts: pa.Array) -> pa.Array:
    cents = np.rint(np.nan_to_num(amounts.to_numpy(zero_copy_only=False)) * 100).astype(np.int64)
    digits = pa.array([f"{n:02d}" for n in range(100)]).take(pa.array(cents % 100))
    text = pc.binary_join_element_wise(pa.array(cents // 100).cast(pa.string()), digits, ".")
    return pc.if_else(amounts.is_null(), pa.scalar(None, pa.string()), text)


def _quoted(texts: pa.Array) -> pa.Array:
    quoted = pc.binary_join_element_wise('"', texts, '"', "")
    return pc.if_else(pc.match_substring(texts, ","), quoted, texts)


def _take_away(columns: dict[str, pa.Array], where: Mask, way: Ints) -> None:
    for n, name in enumerate(MAY_MISS):
        gone = pa.array(where & (way == n))
        columns[name] = pc.if_else(gone, pa.scalar(None, pa.string()), columns[name])


def _put_nonsense(
    generator: np.random.Generator, columns: dict[str, pa.Array], where: Mask, way: Ints
) -> None:
    """Of three ways to be malformed, the two that concern one value."""
    for n, (name, nonsense) in enumerate((("ts", BAD_TIMES), ("amount", BAD_AMOUNTS))):
        texts = pa.array(nonsense).take(pa.array(generator.integers(0, len(nonsense), len(way))))
        columns[name] = pc.if_else(pa.array(where & (way == n)), texts, columns[name])


def _lines(columns: dict[str, pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(
        *columns.values(), ",", null_handling="replace", null_replacement=""
    )


def _cut(generator: np.random.Generator, lines: pa.Array, where: Mask) -> pa.Array:
    """Give the marked lines too few columns, or too many."""
    chosen = np.flatnonzero(where)
    if not len(chosen):
        return lines
    longer = generator.random(len(chosen)) < 0.5
    broken = [
        f"{line},,0" if more else ",".join(line.split(",")[:CUT_AFTER])
        for line, more in zip(lines.take(pa.array(chosen)).to_pylist(), longer, strict=True)
    ]
    return pc.replace_with_mask(lines, pa.array(where), pa.array(broken))


def _by_day(lines: pa.Array, rows: Ints, arrived: Ints, start: int) -> FileText:
    order = np.argsort(arrived, kind="stable")
    day = (arrived[order] - start) // DAY_MS
    days, begins = np.unique(day, return_index=True)
    offsets = pa.array(np.append(begins, len(day)), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, lines.take(pa.array(rows[order])))
    return FileText(
        days=days,
        lines=np.diff(np.append(begins, len(day))),
        texts=pc.binary_join(lists, "\n"),
    )
