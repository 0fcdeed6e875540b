"""Features from sorted histories, one Arrow batch after another.

All windows and measures share one pass over whole columns. What goes on from one batch to the next
is the last entity's rows of the longest window.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from habitus.domain.batches import changes, joined
from habitus.domain.histories import Histories
from habitus.domain.running_totals import Flags, Floats
from habitus.setting_types import MeasureName

# What a row that asks tells.
UNIT = ("unit_id", "user_id", "at")

_ROWS_BACK = 1 << 15
# The longest time that fits a clock.
_MOST = 1 << 62


@dataclass(frozen=True)
class Feature:
    """What is to be computed of an entity's history.

    Attributes:
        name: The feature's name.
        measure: What of the window's events.
        window: How far back, in microseconds.
        of: The column whose values are counted.
        where: The column that tells which events count; None for all.
    """

    name: str
    measure: MeasureName
    window: int
    of: str | None
    where: str | None


def with_features(
    batches: Iterable[pa.RecordBatch],
    keys: Sequence[str],
    features: Sequence[Feature],
    at_once: int = 1 << 18,
) -> Iterator[pa.RecordBatch]:
    """Features of the rows that ask for a unit.

    Args:
        batches: Rows sorted by entity (`keys`), time and event, whole entities: `UNIT` (unit_id is
            null where nothing is asked; `at` in microseconds), whether it `happened` (is an event
            of the history), `amount`, `label` (of an event, where the row tells that it is known
            by then), and the columns that features name.
        keys: The columns that tell entities apart.
        features: What to compute.
        at_once: Rows worked on at once; an entity with more in its longest window takes more.

    Yields:
        `UNIT` and the features, of the rows with a unit_id.
    """
    longest = max(feature.window for feature in features)
    held: list[pa.RecordBatch] = []
    rows = done = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        # At least as many new ones as are looked at again, so that the cost stays linear.
        if rows - done >= max(at_once, done):
            chunk = joined(held)
            yield from _answers(chunk, done, keys, features, longest)
            last = _last_window(chunk, keys, longest)
            held, rows, done = [last], last.num_rows, last.num_rows
    if rows > done:
        yield from _answers(joined(held), done, keys, features, longest)


def _last_window(rows: pa.RecordBatch, keys: Sequence[str], longest: int) -> pa.RecordBatch:
    """The last entity's rows that a window of a later row may hold."""
    start = int(np.flatnonzero(_entities(rows, keys))[-1])
    times = rows["at"].to_numpy()
    return rows.slice(start + int(np.searchsorted(times[start:], times[-1] - longest)))


def _entities(rows: pa.RecordBatch, keys: Sequence[str]) -> Flags:
    """Whether a row is the first of its entity."""
    return np.asarray(np.logical_or.reduce([changes(rows[key]) for key in keys]))


def _answers(
    rows: pa.RecordBatch,
    done: int,
    keys: Sequence[str],
    features: Sequence[Feature],
    longest: int,
) -> Iterator[pa.RecordBatch]:
    """The features of the rows from `done` on that ask."""
    first = _entities(rows, keys)
    pauses = np.diff(rows["at"].to_numpy(), prepend=rows["at"][:1].to_numpy())
    pauses = np.where(first, longest + 1, np.minimum(pauses, longest + 1))
    if pauses.sum(dtype=np.float64) > _MOST and first[1:].any():
        # Too many entities for one clock: two halves, cut between entities.
        starts = np.flatnonzero(first)
        cut = int(starts[len(starts) // 2])
        yield from _answers(rows.slice(0, cut), min(done, cut), keys, features, longest)
        yield from _answers(rows.slice(cut), max(0, done - cut), keys, features, longest)
        return
    asking = rows["unit_id"].is_valid().to_numpy(zero_copy_only=False)
    asking[:done] = False
    asked = np.flatnonzero(asking)
    if len(asked) == 0:
        return
    histories = Histories(rows, np.cumsum(first), np.cumsum(pauses), asked)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {feature.name: _values(histories, feature) for feature in features}
    here = pa.array(asked)
    back = pa.RecordBatch.from_pydict(
        {name: rows[name].take(here) for name in UNIT}
        | {name: pa.array(found, mask=~np.isfinite(found)) for name, found in values.items()}
    )
    for start in range(0, back.num_rows, _ROWS_BACK):
        yield back.slice(start, _ROWS_BACK)


def _values(histories: Histories, feature: Feature) -> Floats:
    """One feature of all rows that ask; NaN or infinite for none."""
    window, where = feature.window, feature.where
    match feature.measure:
        case "count":
            return histories.count(where, window).astype(float)
        case "new":
            return np.equal(histories.count(where, window), 0).astype(float)
        case "share":
            return histories.count(where, window) / histories.count(None, window)
        case "sum":
            return histories.amount(where, window)
        case "mean":
            return histories.mean(where, window)
        case "max":
            return histories.largest(where, window)
        case "median":
            return histories.median(where, window)
        case "peak":
            return histories.largest(where, window) / histories.median(where, window)
        case "since_last":
            return histories.since_last(where, window)
        case "risk":
            return histories.risk(where, window)
        case "anomalies":
            return histories.anomalies(where, window).astype(float)
        case "anomalous_mean":
            return histories.anomalous_mean(where, window)
        case "since_anomaly":
            return histories.since_anomaly(where, window)
        case "since_first_anomaly":
            return histories.since_first_anomaly(where, window)
        case "ratio":
            return histories.own_amount / histories.mean(where, window)
        case "multiple":
            return histories.own_amount / histories.median(where, window)
        case "zscore":
            above = histories.own_amount - histories.mean(where, window)
            return above / histories.deviation(where, window)
        case "distinct":
            assert feature.of is not None, "settings say of what"
            return histories.distinct(feature.of, where, window).astype(float)
        case "entropy":
            assert feature.of is not None, "settings say of what"
            return histories.entropy(feature.of, where, window)
