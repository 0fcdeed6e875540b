"""The shifts of segments that people are shown."""

from pyspark.sql import DataFrame

from habitus.domain.reporting.data import Shift
from habitus.tables import VOLUME_SHIFTS


def strangest_shifts(shifts: DataFrame, count: int) -> tuple[Shift, ...]:
    """So many of the rows of `volume_shifts`, the strangest first."""
    rows = shifts.orderBy("p_value", *VOLUME_SHIFTS.key).limit(count).collect()
    return tuple(Shift(row["period_start"], row["p_value"], row["summary"]) for row in rows)
