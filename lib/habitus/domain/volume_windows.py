"""How far a segment's volume is from what was expected, over the windows that end at a period.

A shift of unknown size that began 1, 2, ... periods ago is looked for by comparing what the last w
periods had with what was expected, for a few w, and taking the strangest: a window-limited
generalised likelihood ratio (Lai 1995, "Sequential changepoint detection in quality control and
dynamical systems", section 2.3). A window of one period is the single residual. Volumes are summed
before they are stabilised, so that rare ones tell.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

Reals = npt.NDArray[np.float64]
Periods = npt.NDArray[np.bool_]


def stabilise(volume: Reals, dispersion: float | Reals) -> Reals:
    """Volumes in units of their scale, where the variance does not depend on the mean.

    >>> stabilise(np.array([0.625, 3.625]), 1e-6).round(3)
    array([2., 4.])
    """
    root = np.sqrt(dispersion)
    # More may be paid back in an hour than is paid.
    stable: Reals = 2 / root * np.arcsinh(root * np.sqrt(np.maximum(volume, 0) + 3 / 8))
    return stable


def unstabilise(stable: Reals, dispersion: float | Reals) -> Reals:
    """The volumes that `stabilise` brings there; never below 0."""
    root = np.sqrt(dispersion)
    volume: Reals = np.sinh(root * np.maximum(stable, 0) / 2) ** 2 / dispersion - 3 / 8
    return np.maximum(volume, 0)


def strangest_windows(
    observed: Reals,
    expected: Reals,
    spread: tuple[float, float],
    trained: Periods,
    windows: tuple[int, ...],
) -> pd.DataFrame:
    """The strangest of the windows that end at each of N periods.

    Args:
        observed: [N] volumes.
        expected: [N] forecasts, above 0.
        spread: Scale and dispersion.
        trained: [N] whether the period is of the training period.
        windows: Lengths in periods.

    Returns:
        N rows: `periods`, `observed`, `expected` of that window, and stabilised `forecast`,
        `spread` and `dispersion`; `strangeness`: how many spreads it is from the forecast.
    """
    scale, dispersion = spread
    parts = []
    for length in windows:
        volume, mean = _rolling(observed, length), _rolling(expected, length)
        # Independent periods: their variances add up.
        of_sum = dispersion * _rolling(expected**2, length) / mean**2
        centre = stabilise(mean / scale, of_sum)
        left = stabilise(volume / scale, of_sum) - centre
        # Of rare volumes it is less than 1, and every burst would be a shift.
        usual, width = np.nanmean(left[trained]), max(np.nanstd(left[trained]), 1.0)
        strangeness = np.abs(left - usual) / width
        lengths, widths = np.full(len(mean), length), np.full(len(mean), width)
        rows = (lengths, volume, mean, centre + usual, widths, of_sum, strangeness)
        parts.append(np.stack(rows))
    found = np.stack(parts)
    best = np.nan_to_num(found[:, -1], nan=-1.0).argmax(axis=0)
    names = ("periods", "observed", "expected", "forecast", "spread", "dispersion", "strangeness")
    chosen = pd.DataFrame(found[best, :, np.arange(len(observed))], columns=names)
    return chosen.astype({"periods": np.int32})


def _rolling(values: Reals, length: int) -> Reals:
    """[N] sums over the last `length` values, NaN where there are not so many."""
    sums: Reals = pd.Series(values).rolling(length).sum().to_numpy()
    return sums
