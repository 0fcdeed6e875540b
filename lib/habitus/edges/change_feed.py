"""What Delta's change feed of several versions comes to."""

from pyspark.sql import DataFrame, DataFrameReader, Window
from pyspark.sql import functions as F

from habitus.edges.delta_words import HISTORY_GONE
from habitus.edges.spark_errors import SPARK_ERRORS
from habitus.table import Table


def changed_rows(
    feed: DataFrameReader, name: str, table: Table, only_added: bool
) -> DataFrame | None:
    """The first and the last state of the rows that changed, see `Lake.changes`.

    Args:
        feed: Reads the change feed between two versions.
        name: The table as Spark SQL names it.
        table: Its declaration.
        only_added: Answer None also where rows were changed or removed.
    """
    try:
        changes = feed.table(name)
        # This opens every file, so that one which is gone is found here.
        kinds = changes.groupBy("_change_type").count().collect()
    except SPARK_ERRORS as error:
        if any(code in str(error) for code in HISTORY_GONE):
            return None
        raise
    is_now = F.col("_change_type").isin("insert", "update_postimage")
    if all(row["_change_type"] == "insert" for row in kinds):
        return changes.select(*table.names, is_now.alias("is_now"))
    return None if only_added else _net(changes.withColumn("is_now", is_now), table)


def _net(changes: DataFrame, table: Table) -> DataFrame:
    """Of every state of rows that changed several times, those before the first and after the last.

    Args:
        changes: Every state of the rows, with `_commit_version`, and whether it `is_now` true
            after that version, or was before.
        table: Their table.
    """
    of_row = Window.partitionBy(*table.key)
    first, last = (end("_commit_version").over(of_row) for end in (F.min, F.max))
    at_end = F.col("_commit_version") == F.when(F.col("is_now"), last).otherwise(first)
    return changes.withColumn("at_end", at_end).where("at_end").select(*table.names, "is_now")
