"""How precise flags are, by what people who looked at some of them found.

People choose which flags they look at, and nothing is assumed of why. So a precision is bounded by
the two worst cases, in which the flags that nobody looked at are all false, or all true (Manski
2003, "Partial identification of probability distributions", section 1.2), each with the interval
of Clopper and Pearson (1934) for chance.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import betaincinv

_PER_DECADE = 4
_DECADES = 8  # p-values below 1e-8 are all alike


class Precision(NamedTuple):
    """How precise the flags up to a p-value are.

    Args:
        p_value: The largest.
        flags: How many were shown.
        reviewed: Of these, how many have a verdict.
        confirmed: Of these, how many are anomalies.
        low: Lower bound of the share of anomalies among the flags.
        high: Upper bound.
    """

    p_value: float
    flags: int
    reviewed: int
    confirmed: int
    low: float
    high: float


def reviews(flags: DataFrame) -> DataFrame:
    """How many flags there are in each part of a decade of p-values, and what they turned out.

    Args:
        flags: Rows with a p_value, those of one model that were shown, and a boolean `label`:
            whether they turned out to be anomalies, null if nobody has looked.

    Returns:
        `part` (int; larger is rarer), `flags`, `confirmed` and `dismissed` (bigint).
    """
    rarity = F.least(F.lit(float(_DECADES)), -F.log10("p_value"))
    return flags.groupBy(F.floor(rarity * _PER_DECADE).cast("int").alias("part")).agg(
        F.count(F.lit(1)).alias("flags"),
        F.count_if("label").alias("confirmed"),
        F.count_if(~F.col("label")).alias("dismissed"),
    )


def precisions(
    parts: Iterable[tuple[int, int, int, int]], confidence: float
) -> tuple[Precision, ...]:
    """The precision up to each p-value, the smallest first.

    Args:
        parts: Rows of `reviews`.
        confidence: Coverage of each interval.
    """
    found, flags, confirmed, dismissed = [], 0, 0, 0
    for part, *more in sorted(parts, reverse=True):
        flags, confirmed, dismissed = flags + more[0], confirmed + more[1], dismissed + more[2]
        low = _least_share(confirmed, flags, confidence)
        high = 1 - _least_share(dismissed, flags, confidence)
        reviewed = confirmed + dismissed
        p_value = 10 ** -(part / _PER_DECADE)
        found.append(Precision(p_value, flags, reviewed, confirmed, low, high))
    return tuple(found)


def _least_share(hits: int, of: int, confidence: float) -> float:
    """The lower bound of the share that so many hits are of (Clopper and Pearson 1934).

    It is a quantile of a beta distribution; binomtest of SciPy searches for it, hundreds of times
    as slowly.
    """
    return float(betaincinv(hits, of - hits + 1, (1 - confidence) / 2)) if hits else 0.0


def precise_until(found: Sequence[Precision], least: float, confidence: float) -> float | None:
    """The largest p-value up to which flags are at least so precise.

    P-values are tested in the order of their size, from the first at which flags are enough to
    show it, until one fails: then all that passed hold together with the confidence (the fixed
    sequence of Angelopoulos et al. 2021, "Learn then test", section 2.1.2).

    Args:
        found: From `precisions`.
        least: The least precision.
        confidence: Of the bounds of `found`.

    Returns:
        None where reviews do not show it at any p-value.
    """
    last = None
    for one in found:
        if _least_share(one.flags, one.flags, confidence) < least:
            continue
        if one.low < least:
            break
        last = one.p_value
    return last
