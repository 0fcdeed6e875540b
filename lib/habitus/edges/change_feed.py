"""What Delta's change feed of several versions comes to."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from habitus.table import Table


def net_changes(changes: DataFrame, table: Table) -> DataFrame:
    """The first and the last state of rows that may have changed several times.

    Args:
        changes: Every state of the rows, with `_commit_version`, and whether it `is_now` true
            after that version, or was before.
        table: Their table.

    Returns:
        Rows as they were before the first change and are after the last, and `is_now`.
    """
    of_row = Window.partitionBy(*table.key)
    first, last = (end("_commit_version").over(of_row) for end in (F.min, F.max))
    at_end = F.col("_commit_version") == F.when(F.col("is_now"), last).otherwise(first)
    return changes.withColumn("at_end", at_end).where("at_end").select(*table.names, "is_now")
