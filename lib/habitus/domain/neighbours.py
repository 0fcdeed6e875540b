"""The units of the past that are most like some units, by the cosine of their vectors.

The search is exact: blocks of past units, as they are read, against all the units that ask, each
as one matrix product. What is kept is bounded by the units that ask, however long the past is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from habitus.domain.units import Floats

# Asking units x past units that are compared at once, a dozen numbers for each at most.
_CELLS = 300_000
# Similarities are told, and compared, to so many decimals.
_DECIMALS = 4
# Of past units that are alike the later come first: with age, half of it at this age in
# microseconds, up to so much is taken off, too little to change the order of others.
_OLD = 30 * 86_400e6
_OFF = 0.5 * 10.0**-_DECIMALS
_PAST = ["unit_id", "user_id", "ended_at"]
FOUND = (
    "asking string, own boolean, unit_id string, user_id string, ended_at timestamp, "
    "similarity double"
)


@dataclass(frozen=True)
class Asking:
    """A units that ask for what was like them.

    Args:
        unit_ids: [A] their ids.
        users: [A] whose they are.
        started: [A] when they started, in microseconds since 1970; only what ended earlier counts.
        vectors: [A, H] of length 1.
    """

    unit_ids: pa.Array
    users: pa.Array
    started: npt.NDArray[np.int64]
    vectors: Floats

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "Asking":
        """Read the columns unit_id, user_id, event_time and vector."""
        return cls(
            unit_ids=_whole(table, "unit_id"),
            users=_whole(table, "user_id"),
            started=_microseconds(table.column("event_time")),
            vectors=_vectors(table),
        )


def nearest(asking: Asking, past: Iterable[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    """For each asking unit the `count` most similar past ones of its own user, and of others.

    Args:
        asking: The units that ask, at least one.
        past: Rows with unit_id, user_id, ended_at and vector.
        count: How many of each, at most.

    Yields:
        Columns as in FOUND: the id of the unit that asks, whether the past unit is its own user's,
        the past unit and its similarity, -1 to 1; in no order.
    """
    search = _Search(asking, count)
    for batch in past:
        search.add(batch)
    yield from search.found()


class _Search:
    """The best so far: pairs of a group, which is an asking unit and own or others, and a row."""

    def __init__(self, asking: Asking, count: int) -> None:
        self._asking, self._count = asking, count
        self._known = pc.unique(asking.users)
        self._users = _codes(asking.users, self._known)
        self._least = np.full(len(self._users), -np.inf, dtype=np.float32)
        self._groups = self._rows = np.zeros(0, dtype=np.int64)
        self._ranks = np.zeros(0)
        self._kept: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        parts = [*self._kept, batch.select(_PAST)]
        first = sum(len(part) for part in self._kept)
        size = max(1, _CELLS // len(self._users))
        for start in range(0, len(batch), size):
            self._compare(batch.slice(start, size), first + start)
        # Only the rows that are among the best are kept.
        used, self._rows = np.unique(self._rows, return_inverse=True)
        self._kept = pa.Table.from_batches(parts).take(used).combine_chunks().to_batches()

    def _compare(self, block: pa.RecordBatch, first: int) -> None:
        similarity = self._asking.vectors @ _vectors(block).T
        own = self._users[:, None] == _codes(block.column("user_id"), self._known)
        # Most pairs are less alike than what is kept already: only the others are looked at.
        asking, past = np.nonzero(own | (similarity >= self._least[:, None]))
        ended = _microseconds(block.column("ended_at"))
        over = self._asking.started[asking] > ended[past]
        asking, past = asking[over], past[over]
        age = self._asking.started[asking] - ended[past]
        cosine = similarity[asking, past].astype(np.float64).clip(-1, 1).round(_DECIMALS)
        self._keep(
            asking + own[asking, past] * len(self._users),
            cosine - _OFF * (age / (age + _OLD)),
            first + past,
        )

    def _keep(
        self,
        groups: npt.NDArray[np.int64],
        ranks: npt.NDArray[np.float64],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """Add pairs, and drop all but the best of each group."""
        groups = np.concatenate([self._groups, groups])
        ranks = np.concatenate([self._ranks, ranks])
        order = np.lexsort((-ranks, groups))
        place = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
        best = order[place < self._count]
        self._groups, self._ranks = groups[best], ranks[best]
        self._rows = np.concatenate([self._rows, rows])[best]
        last = order[(place == self._count - 1) & (groups[order] < len(self._users))]
        # Rounded, what is a little less alike may rank as high.
        self._least[groups[last]] = ranks[last] - 10.0**-_DECIMALS

    def found(self) -> list[pa.RecordBatch]:
        if not self._kept:
            return []
        own, asking = np.divmod(self._groups, len(self._users))
        past = pa.Table.from_batches(self._kept).take(self._rows)
        columns = {
            "asking": self._asking.unit_ids.take(pa.array(asking)),
            "own": pa.array(own.astype(bool)),
            **{name: past.column(name) for name in _PAST},
            # What age took off is less than half of the last decimal.
            "similarity": pa.array((self._ranks + _OFF / 2).round(_DECIMALS)),
        }
        return list(pa.table(columns).combine_chunks().to_batches())


def _vectors(rows: pa.Table | pa.RecordBatch) -> Floats:
    """[N, H]."""
    vectors: Floats = _whole(rows, "vector").flatten().to_numpy(zero_copy_only=False)
    return vectors.reshape(len(rows), -1)


def _microseconds(times: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    microseconds: npt.NDArray[np.int64] = times.cast(pa.int64()).to_numpy()
    return microseconds


def _codes(users: pa.Array, known: pa.Array) -> npt.NDArray[np.int64]:
    """[N] place of each user among those known, -1 for another."""
    codes = pc.fill_null(pc.index_in(users, value_set=known), -1)
    places: npt.NDArray[np.int64] = codes.to_numpy(zero_copy_only=False)
    return places


def _whole(rows: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
