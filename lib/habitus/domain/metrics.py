"""How well a ranking finds anomalies, from counts by bin.

Units are binned by strangeness, the strangest bin first; units in one bin are ties. All measures
take counts `[..., K]` and work over the last axis, so that a leading axis can hold the resamples
of a bootstrap. Their memory grows with the bins, never with the units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Measure = Callable[[Counts, Counts], Values]

# Resampled counts held at a time: 16 MB for each array of them.
_COUNTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Figure:
    """A measure with its bootstrap interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    def in_words(self, form: str = ".3f") -> str:
        """The measure and, where there is one, its interval.

        >>> Figure(0.5, 0.25, 0.75).in_words(), Figure(0.5, math.nan, math.nan).in_words(".1f")
        ('0.500 (0.250 to 0.750)', '0.5')
        """
        if math.isnan(self.low):
            return f"{self.value:{form}}"
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


def auc(anomalous: Counts, normal: Counts) -> Values:
    """Area under the ROC curve: how often an anomaly is stranger than a normal unit.

    The Mann-Whitney statistic, ties counted half (Hanley and McNeil 1982, section III).

    Args:
        anomalous: [..., K] anomalous units by bin, the strangest bin first.
        normal: [..., K] normal units by bin.

    Returns:
        [...] the area, NaN without a unit of either sort.
    """
    less_strange = normal.sum(axis=-1, keepdims=True) - np.cumsum(normal, axis=-1)
    won = (anomalous * (less_strange + normal / 2)).sum(axis=-1)
    return _ratio(won, anomalous.sum(axis=-1) * normal.sum(axis=-1))


def average_precision(anomalous: Counts, normal: Counts) -> Values:
    """Precision at each bin's end, weighted by the recall that the bin adds.

    Args:
        anomalous: [..., K] anomalous units by bin, the strangest bin first.
        normal: [..., K] normal units by bin.

    Returns:
        [...] the average precision, NaN without anomalies.
    """
    found, chosen = _cumulative(anomalous, normal)
    precision = found / np.maximum(chosen, 1)
    return _ratio((anomalous * precision).sum(axis=-1), found[..., -1])


def recall_at_false_positive_rate(rate: float) -> Measure:
    """The share of anomalies above the lowest threshold that keeps to a false positive rate.

    Returns:
        A measure of counts [..., K] with values [...], NaN without a unit of either sort.
    """

    def recall(anomalous: Counts, normal: Counts) -> Values:
        false = np.cumsum(normal, axis=-1)
        allowed = false <= rate * false[..., -1:]
        found = np.where(allowed, np.cumsum(anomalous, axis=-1), 0).max(axis=-1)
        total = anomalous.sum(axis=-1)
        return _ratio(found, np.where(false[..., -1] > 0, total, 0))

    return recall


def recall_of_chosen(anomalous: Counts, others: Counts) -> Values:
    """The share of anomalies in the first bin, when that bin holds the units chosen."""
    del others
    return _ratio(anomalous[..., 0], anomalous.sum(axis=-1))


def precision_of_chosen(anomalous: Counts, others: Counts) -> Values:
    """The share of the first bin that is anomalous, when that bin holds the units chosen."""
    return _ratio(anomalous[..., 0], anomalous[..., 0] + others[..., 0])


def precision_recall(anomalous: Counts, normal: Counts) -> tuple[Values, Values]:
    """The precision-recall curve.

    Args:
        anomalous: [K] anomalous units by bin, the strangest bin first.
        normal: [K] normal units by bin.

    Returns:
        [K] precision and [K] recall at the end of each bin.
    """
    found, chosen = _cumulative(anomalous, normal)
    return found / np.maximum(chosen, 1), _ratio(found, np.broadcast_to(found[-1], found.shape))


def estimate(
    measure: Measure,
    anomalous: Counts,
    normal: Counts,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> Figure:
    """The measure and its percentile bootstrap interval over units.

    Each unit's weight in a resample is Poisson(1), so a bin's weight is Poisson(its count)
    (Chamandy et al. 2012, "Estimating uncertainty for massive data streams", section 3): a
    resample costs one draw per bin however many units there are.

    Args:
        measure: What to estimate.
        anomalous: [K] anomalous units by bin, the strangest bin first.
        normal: [K] normal units by bin.
        resamples: Number of resamples.
        confidence: Coverage of the interval, between 0 and 1.
        rng: Source of the resamples.
    """
    filled = (anomalous > 0) | (normal > 0)
    if not filled.any():
        return Figure(np.nan, np.nan, np.nan)
    anomalous, normal = anomalous[filled], normal[filled]
    at_once = max(1, _COUNTS_AT_ONCE // len(normal))
    drawn: list[Values] = []
    for start in range(0, resamples, at_once):
        shape = (min(at_once, resamples - start), len(normal))
        drawn.append(measure(rng.poisson(anomalous, shape), rng.poisson(normal, shape)))
    values = np.concatenate(drawn)
    values = values[~np.isnan(values)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (np.nan, np.nan)
    return Figure(float(measure(anomalous, normal)), float(low), float(high))


def _cumulative(anomalous: Counts, normal: Counts) -> tuple[Counts, Counts]:
    found = np.cumsum(anomalous, axis=-1)
    return found, found + np.cumsum(normal, axis=-1)


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Values:
    below = np.asarray(whole, dtype=np.float64)
    return np.divide(part, below, out=np.full(below.shape, np.nan), where=below > 0)
