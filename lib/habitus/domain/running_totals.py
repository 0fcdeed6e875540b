"""Running totals in whole numbers over sorted rows, and windows that end just before a row."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pandas.api.indexers import BaseIndexer

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# Entropies are sums of n log2(n), held in whole numbers of 2 ** -24.
ENTROPY_UNIT = 1 << 24


class Before(BaseIndexer):
    """Windows from a given start to just before each row."""

    start: Integers

    def get_window_bounds(
        self,
        num_values: int = 0,
        min_periods: int | None = None,
        center: bool | None = None,
        closed: str | None = None,
        step: int | None = None,
    ) -> tuple[Integers, Integers]:
        """First place of each row's window, and the row's own, where it ends."""
        return self.start, np.arange(num_values)


def of_rows(values: Integers, rows: Callable[[], Flags]) -> Integers:
    """The values of a kind of rows, 0 elsewhere."""
    return values * rows()


def totals(values: NDArray[np.generic]) -> Integers:
    """Totals before each place, and of all."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def entropy_part(counts: Integers) -> Integers:
    """Counts n as n log2(n), in whole numbers of 2 ** -24."""
    n = counts.astype(float)
    return np.asarray(np.rint(n * np.log2(np.maximum(n, 1)) * ENTROPY_UNIT), dtype=np.int64)
