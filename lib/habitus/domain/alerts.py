"""Which scored units become flags, how severe they are, and what to do about them."""

from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.config import AlertSettings


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


def choose(scores: DataFrame, settings: AlertSettings) -> DataFrame:
    """Flag the strangest units of each day: rare enough, and within the day's budget.

    Args:
        scores: Rows of one model; as in `tables.SCORES`.
        settings: `false_positive_rate` is the largest p-value that is flagged, `budget_per_day`
            the most flags of one event_date.

    Returns:
        The flagged rows with columns `severity` and `decision`.
    """
    strangest = Window.partitionBy("event_date").orderBy(
        F.asc("p_value"), F.desc("score"), F.asc("unit_id")
    )
    return (
        _rare(scores, settings)
        .withColumn("rank", F.row_number().over(strangest))
        .where(F.col("rank") <= settings.budget_per_day)
        .drop("rank")
        .withColumns({"severity": _of_severity("name"), "decision": _of_severity("decision")})
    )


def cut_by_budget(scores: DataFrame, settings: AlertSettings) -> DataFrame:
    """How many units a day were rare enough to be flagged, and how many of them were cut.

    Args:
        scores: Rows of one model; as in `tables.SCORES`.
        settings: As for `choose`.

    Returns:
        Columns event_date, flagged (bigint; rare enough) and cut (bigint; beyond the budget), one
        row for each day with a unit that is rare enough.
    """
    beyond = F.col("flagged") - F.lit(settings.budget_per_day)
    return (
        _rare(scores, settings)
        .groupBy("event_date")
        .agg(F.count("*").alias("flagged"))
        .withColumn("cut", F.greatest(beyond, F.lit(0)).cast("bigint"))
    )


def _rare(scores: DataFrame, settings: AlertSettings) -> DataFrame:
    return scores.where(F.col("p_value") <= settings.false_positive_rate)


def _of_severity(part: str) -> Column:
    """The part of the first level that a row's p-value is small enough for."""
    levels = [
        F.when(F.col("p_value") <= level.at_most, F.lit(getattr(level, part)))
        for level in SEVERITIES
    ]
    return F.coalesce(*levels)
