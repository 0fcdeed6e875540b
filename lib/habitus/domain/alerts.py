"""Which scored units become flags, how severe they are, and what to do about them.

A unit is rare enough if its p-value is at most `false_positive_rate`; where they are set, also if
it is at most the day's threshold for the false-discovery rate, at most the p-value beyond which a
flag cannot be worth its cost, and at most the one up to which reviews show flags to be precise.
Of those, what is not suppressed is flagged, the strangest of each day first, up to the budget.
"""

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from scipy import optimize, stats

from habitus.alert_settings import AlertSettings, CostSettings


class Severity(NamedTuple):
    """A level of severity: the largest p-value it holds for, and what to do then."""

    name: str
    at_most: float
    decision: str


# One decade of p-value a level, worst first: how rare a unit is, whatever was set as the rate of
# false positives. The decisions only ask people: nothing is blocked on a model's word alone.
SEVERITIES = (
    Severity("critical", 1e-5, "challenge"),
    Severity("high", 1e-4, "challenge"),
    Severity("medium", 1e-3, "watch"),
    Severity("low", 1.0, "watch"),
)
# A day is crowded if it has so many times the rare units expected, and more than by such a chance.
_CROWDED, _CHANCE = 2, 1e-6
_LARGEST = 1 / np.e  # p-value beyond which the odds of an anomaly are no better than the prior


def rare(
    scores: DataFrame, settings: AlertSettings, precise_until: float | None = None
) -> DataFrame:
    """The units that are rare enough to be flagged, with their severity.

    The false-discovery rate is controlled within each event_date by the step-up procedure of
    Benjamini and Hochberg (1995, section 3.1): of m units those up to the largest p-value that is
    at most its rank times the rate over m.

    Args:
        scores: Rows of one model; as in `tables.SCORES`.
        settings: Says how rare.
        precise_until: The largest p-value by reviews; none: any.

    Returns:
        These rows with a column `severity`.
    """
    most = settings.false_positive_rate
    if settings.costs is not None:
        most = min(most, cost_threshold(settings.costs))
    if precise_until is not None:
        most = min(most, precise_until)
    found = scores.where(F.col("p_value") <= most)
    if settings.false_discovery_rate is not None:
        units = scores.groupBy("event_date").agg(F.count(F.lit(1)).alias("_units"))
        # Units of the same p-value count for each of them, as the last one's rank would.
        rank = F.count(F.lit(1)).over(Window.partitionBy("event_date").orderBy("p_value"))
        allowed = rank * F.lit(settings.false_discovery_rate) / F.col("_units")
        passes = F.when(F.col("p_value") <= F.col("_allowed"), F.col("p_value"))
        found = (
            found.join(F.broadcast(units), "event_date")
            .withColumn("_allowed", allowed)
            .withColumn("_threshold", F.max(passes).over(Window.partitionBy("event_date")))
            .where(F.col("p_value") <= F.col("_threshold"))
            .drop("_units", "_allowed", "_threshold")
        )
    return found.withColumn("severity", of_severity("name"))


def choose(candidates: DataFrame, budget_per_day: int) -> DataFrame:
    """Flag the strangest units of each day that are not suppressed, within the day's budget.

    Args:
        candidates: Rows from `rare` with a column `suppressed_by`.
        budget_per_day: The most flags of one event_date.

    Returns:
        The flagged rows, and suppressed ones that would be flagged if nothing were suppressed.
    """
    hidden = F.col("suppressed_by").isNotNull()
    # Two limits, each of which tasks apply before they shuffle; where nothing can be suppressed,
    # the second is none.
    shown = strangest(candidates.where(~hidden), budget_per_day)
    return shown.unionByName(strangest(candidates, budget_per_day).where(hidden))


def strangest(candidates: DataFrame, most: int) -> DataFrame:
    """The first so many units of each event_date, strangest first."""
    order = Window.partitionBy("event_date").orderBy(*strangest_first())
    return (
        candidates.withColumn("_place", F.row_number().over(order))
        .where(F.col("_place") <= most)
        .drop("_place")
    )


def strangest_first() -> tuple[Column, ...]:
    """The order in which units take the places of a budget."""
    return F.asc("p_value"), F.desc("score"), F.asc("unit_id")


def rare_by_day(candidates: DataFrame) -> DataFrame:
    """How many units a day were rare enough to be flagged.

    Args:
        candidates: As for `choose`.

    Returns:
        Columns event_date, rare (bigint; rare enough) and suppressed (bigint; of those), one row
        for each day with a unit that is rare enough.
    """
    return candidates.groupBy("event_date").agg(
        F.count(F.lit(1)).alias("rare"), F.count("suppressed_by").alias("suppressed")
    )


class DayCount(NamedTuple):
    """How many units a day has, and how many of them are rare."""

    day: date
    units: int
    rare: int


def crowded_days(days: Iterable[DayCount], false_positive_rate: float) -> list[DayCount]:
    """Days with far more rare units than units like those calibrated on would have, worst first.

    By the binomial distribution of the rare among independent units.
    """
    crowded = [
        one
        for one in days
        if one.rare > _CROWDED * one.units * false_positive_rate
        and stats.binom.sf(one.rare - 1, one.units, false_positive_rate) < _CHANCE
    ]
    return sorted(crowded, key=lambda one: (-one.rare / one.units, one.day))


def cost_threshold(costs: CostSettings) -> float:
    """The largest p-value at which a flag may be expected to cost no more than none.

    A flag costs its review, and a false alarm if the unit is normal; no flag costs a miss if it is
    not. A p-value alone does not say how likely that is, but how likely at most: so beyond the
    threshold no flag is worth it. That follows from the bound of Sellke, Bayarri and Berger (2001,
    "Calibration of p values for testing precise null hypotheses", section 3): the odds of being
    normal are at least -e p ln p times what they were before.

    Returns:
        0 where no p-value is worth a flag, at most 1/e.
    """
    worth = (costs.review + costs.false_alarm) / (costs.miss + costs.false_alarm)
    if worth >= 1 or costs.prior == 0:
        return 0.0
    if costs.prior >= worth:
        return _LARGEST
    # Probability worth is reached where -e p ln p has this value.
    wanted = (costs.prior / (1 - costs.prior)) * (1 - worth) / worth
    tiny = np.finfo(np.float64).tiny
    if wanted <= -np.e * tiny * np.log(tiny):
        return 0.0
    return float(
        optimize.brentq(lambda p: -np.e * p * np.log(p) - wanted, tiny, _LARGEST, xtol=1e-300)
    )


def of_severity(part: str) -> Column:
    """The part of the first level that a row's p-value is small enough for."""
    levels = [
        F.when(F.col("p_value") <= level.at_most, F.lit(getattr(level, part)))
        for level in SEVERITIES
    ]
    return F.coalesce(*levels)
