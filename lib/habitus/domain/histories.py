"""What the windows before a row hold, of sorted histories of entities.

A measure over a window is a difference of two running totals, so its cost is linear in the events
however many fall into the window. Totals are of whole numbers, which makes them exact and
independent of the window's place.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from habitus.domain.running_totals import (
    ENTROPY_UNIT,
    Before,
    Flags,
    Floats,
    Integers,
    entropy_part,
    of_rows,
    totals,
)

# What the rows of a history tell, beside the columns of entities, values and conditions.
HAPPENED, AMOUNT, LABEL = "happened", "amount", "label"

_SECOND = 1_000_000
_MILLION = 1_000_000
# Amounts are summed in three parts of so many bits, squares also apart above and below 32 bits:
# whole numbers that no sum over two thousand million events overflows.
_PART = 21
_MASK = (1 << _PART) - 1
# A variance below this share of the squared mean is rounding.
_NO_VARIANCE = 1e-14


class Histories:
    """Sorted rows of entities, and what the windows before those that ask hold.

    Rows are told by their place. A window's rows are those from the first whose time is not before
    the window to the one that asks, which is not among them.
    """

    def __init__(
        self, rows: pa.RecordBatch, entity: Integers, clock: Integers, asked: Integers
    ) -> None:
        """Prepare the rows.

        Args:
            rows: As in `with_features`.
            entity: Number of the row's entity.
            clock: Microseconds, with longer pauses and those between entities cut to just more
                than the longest window, so that no window reaches another entity.
            asked: Places of the rows that ask.
        """
        self._rows = rows
        self._entity = entity
        self._clock = clock
        self._asked = asked
        self._kept: dict[tuple[object, ...], Integers] = {}
        self._sorted: dict[tuple[str, str | None], tuple[Integers, Integers]] = {}

    def count(self, where: str | None, window: int) -> Integers:
        """How many events."""
        return self._total(("events", where), lambda: self._events(where), window)

    def amounts(self, where: str | None, window: int) -> Integers:
        """How many events with an amount."""
        return self._total(("amounts", where), lambda: self._paid(where), window)

    def amount(self, where: str | None, window: int) -> Floats:
        """Sum of the amounts, each to a millionth."""
        return self._sum("events", partial(self._paid, where), where, window)

    def mean(self, where: str | None, window: int) -> Floats:
        """Mean amount."""
        return self.amount(where, window) / self.amounts(where, window)

    def deviation(self, where: str | None, window: int) -> Floats:
        """Standard deviation of the amounts; 0 where it is below 1e-7 of the mean, rounding."""
        low, middle, high = self._parts
        squares = (
            low * low,
            2 * low * middle,
            2 * low * high + middle * middle,
            2 * middle * high,
            high * high,
        )
        paid = partial(self._paid, where)
        total = np.zeros(len(self._asked))
        for place, part in enumerate(squares):
            for bit, half in ((0, part & 0xFFFFFFFF), (32, part >> 32)):
                key = ("square", place, bit, where)
                found = self._total(key, partial(of_rows, half, paid), window)
                total += found * 2.0 ** (_PART * place + bit)
        mean_square = self.mean(where, window) ** 2
        variance = total / self.amounts(where, window) / _MILLION**2 - mean_square
        return np.asarray(np.sqrt(np.where(variance > _NO_VARIANCE * mean_square, variance, 0)))

    def largest(self, where: str | None, window: int) -> Floats:
        """Largest amount."""
        return np.asarray(self._rolling(where, window).max())[self._asked]

    def median(self, where: str | None, window: int) -> Floats:
        """Median amount."""
        return np.asarray(self._rolling(where, window).median())[self._asked]

    def since_last(self, where: str | None, window: int) -> Floats:
        """Seconds since the last event."""
        return self._since_last_of(self._events(where), self._asked, window)

    def anomalies(self, where: str | None, window: int) -> Integers:
        """How many labels say anomalous, of those that were known before this time."""
        return self._total_of_labels("bad", where, window)

    def risk(self, where: str | None, window: int) -> Floats:
        """Share of the labels that say anomalous, of those that were known before this time."""
        return self.anomalies(where, window) / self._total_of_labels("told", where, window)

    def anomalous_mean(self, where: str | None, window: int) -> Floats:
        """Mean amount of the events that those labels are of which say anomalous."""
        rows = partial(self._bad_and_paid, where)
        total = self._sum("bad", rows, where, window, self._until)
        return total / self._total(("bad and paid", where), rows, window, self._until)

    def since_anomaly(self, where: str | None, window: int) -> Floats:
        """Seconds since the last label that says anomalous became known."""
        return self._since_last_of(self._labels("bad", where), self._until, window)

    def since_first_anomaly(self, where: str | None, window: int) -> Floats:
        """Seconds since the first label that says anomalous became known."""
        places = np.flatnonzero(self._labels("bad", where))
        found = np.searchsorted(places, self._start(window))
        first = np.concatenate([places, [len(self._clock)]])[found]
        return self._seconds_since(first, first < self._until)

    def distinct(self, of: str, where: str | None, window: int) -> Integers:
        """How many distinct values.

        A value is there at t when one of its events has t - window <= s < t. These intervals merge
        into stretches; the values at t are the stretches begun by t less those ended by then.
        """
        places, values = self._by_value(of, where)
        same = np.diff(values) == 0
        near = same & (np.diff(self._clock[places]) <= window)
        begins, ends = np.zeros((2, len(self._clock)), dtype=bool)
        begins[places] = np.concatenate([[True], ~near])[: len(places)]
        ends[places] = np.concatenate([~near, [True]])[: len(places)]
        return totals(begins)[self._asked] - totals(ends)[self._start(window)]

    def entropy(self, of: str, where: str | None, window: int) -> Floats:
        """Entropy of the values, in bits: log2(N) - sum(n log2(n)) / N.

        An event adds what the sum grows by when it comes and takes what it falls by when it goes.
        """
        places, values = self._by_value(of, where)
        n = len(self._clock)
        order = np.arange(len(places))
        within = values * (n + 1) + places
        start = np.searchsorted(self._clock, self._clock[places] - window)
        until = np.searchsorted(self._clock, self._clock[places] + window, side="right")
        # Events with its value when it comes, itself included; and when it goes.
        coming = order - np.searchsorted(within, values * (n + 1) + start) + 1
        going = np.searchsorted(within, values * (n + 1) + until) - order
        comes, goes = np.zeros((2, n), dtype=np.int64)
        comes[places] = entropy_part(coming) - entropy_part(coming - 1)
        goes[places] = entropy_part(going) - entropy_part(going - 1)
        total = totals(comes)[self._asked] - totals(goes)[self._start(window)]
        there = totals(np.bincount(places, minlength=n))
        count = there[self._asked] - there[self._start(window)]
        return np.asarray(np.maximum(np.log2(count) - total / ENTROPY_UNIT / count, 0))

    @cached_property
    def own_amount(self) -> Floats:
        """The amounts of the rows that ask."""
        return self._amount[self._asked]

    @cached_property
    def _amount(self) -> Floats:
        return np.asarray(
            self._rows[AMOUNT].fill_null(np.nan).to_numpy(zero_copy_only=False), dtype=float
        )

    @cached_property
    def _sign(self) -> Integers:
        return np.where(self._amount < 0, -1, 1)

    @cached_property
    def _parts(self) -> tuple[Integers, Integers, Integers]:
        """The amounts without sign, in millionths, in parts of 21 bits, the lowest first."""
        millionths = np.rint(np.abs(np.nan_to_num(self._amount)) * _MILLION)
        high = np.floor(millionths / 2 ** (2 * _PART))
        rest = (millionths - high * 2 ** (2 * _PART)).astype(np.int64)
        return rest & _MASK, rest >> _PART, high.astype(np.int64)

    def _described(self, where: str | None) -> Flags:
        if where is None:
            return np.ones(len(self._clock), dtype=bool)
        return np.asarray(self._rows[where].fill_null(False).to_numpy(zero_copy_only=False))

    def _events(self, where: str | None) -> Flags:
        happened = self._rows[HAPPENED].to_numpy(zero_copy_only=False)
        return np.asarray(happened & self._described(where))

    def _paid(self, where: str | None) -> Flags:
        return self._events(where) & ~np.isnan(self._amount)

    def _rolling(self, where: str | None, window: int) -> "pd.api.typing.Rolling[pd.Series[float]]":
        """The amounts in the windows before all rows."""
        indexer = Before(start=np.searchsorted(self._clock, self._clock - window))
        values = pd.Series(np.where(self._paid(where), self._amount, np.nan))
        return values.rolling(indexer, min_periods=1)

    def _bad_and_paid(self, where: str | None) -> Flags:
        return self._labels("bad", where) & ~np.isnan(self._amount)

    def _by_value(self, of: str, where: str | None) -> tuple[Integers, Integers]:
        """Places of the events that have a value, by entity and value, and numbers of these."""
        if (of, where) not in self._sorted:
            encoded = self._rows[of].dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            places = np.flatnonzero(self._events(where) & (codes >= 0))
            pairs = (self._entity * (len(encoded.dictionary) + 1) + codes)[places]
            order = np.argsort(pairs, kind="stable")
            pairs = pairs[order]
            numbers = np.cumsum(np.diff(pairs, prepend=pairs[:1]) != 0)
            self._sorted[of, where] = (places[order], numbers)
        return self._sorted[of, where]

    def _labels(self, kind: Literal["bad", "told"], where: str | None) -> Flags:
        """Rows that tell a label, or one that says anomalous."""
        label = self._rows[LABEL]
        told = label.is_valid() if kind == "told" else label.fill_null(False)
        return np.asarray(told.to_numpy(zero_copy_only=False) & self._described(where))

    def _total_of_labels(
        self, kind: Literal["bad", "told"], where: str | None, window: int
    ) -> Integers:
        return self._total((kind, where), partial(self._labels, kind, where), window, self._until)

    def _since_last_of(self, rows: Flags, until: Integers, window: int) -> Floats:
        """Seconds since the last of some rows."""
        places = np.flatnonzero(rows)
        last = np.concatenate([places, [-1]])[np.searchsorted(places, until) - 1]
        return self._seconds_since(last, last >= self._start(window))

    def _seconds_since(self, places: Integers, there: Flags) -> Floats:
        """Seconds from rows to those that ask; none where there is no such row."""
        clock = np.concatenate([self._clock, [0]])
        return np.where(there, (self._clock[self._asked] - clock[places]) / _SECOND, np.nan)

    @cached_property
    def _until(self) -> Integers:
        """Where what was known before the time of the rows that ask ends.

        Unlike events, labels are not in an order among those of the same time.
        """
        return np.searchsorted(self._clock, self._clock[self._asked])

    def _start(self, window: int) -> Integers:
        """Where the windows of the rows that ask start."""
        key = ("start", window)
        if key not in self._kept:
            times = self._clock[self._asked] - window
            self._kept[key] = np.searchsorted(self._clock, times)
        return self._kept[key]

    def _sum(
        self,
        kind: str,
        rows: Callable[[], Flags],
        where: str | None,
        window: int,
        until: Integers | None = None,
    ) -> Floats:
        """Sum of the amounts of a kind of rows, each to a millionth."""
        total = np.zeros(len(self._asked))
        for place, part in enumerate(self._parts):
            values = partial(of_rows, part * self._sign, rows)
            found = self._total((kind, place, where), values, window, until)
            total += found * 2.0 ** (_PART * place)
        return total / _MILLION

    def _total(
        self,
        key: tuple[object, ...],
        values: Callable[[], NDArray[np.generic]],
        window: int,
        until: Integers | None = None,
    ) -> Integers:
        """Totals over the windows of the rows that ask."""
        if key not in self._kept:
            self._kept[key] = totals(values())
        before = self._kept[key]
        return before[self._asked if until is None else until] - before[self._start(window)]
