"""What is said to Delta, and what it answers: statements, settings, operations, errors."""

from habitus.table import Table

# Marks the tables that habitus made and may replace.
OWNER = "habitus.table"
# Where Delta takes the note of a merge from.
NOTE = "spark.databricks.delta.commitInfo.userMetadata"
# Commits that leave all rows as they are.
SAME_ROWS = (
    "OPTIMIZE",
    "VACUUM START",
    "VACUUM END",
    "SET TBLPROPERTIES",
    "UNSET TBLPROPERTIES",
    "ADD CONSTRAINT",
    "DROP CONSTRAINT",
    "UPGRADE PROTOCOL",
    "CLUSTER BY",
    "COMPUTE STATS",
)
# What Delta says when the history that is asked for is not kept (any more).
HISTORY_GONE = (
    "DELTA_CHANGE_DATA_FEED_INCOMPATIBLE",
    "DELTA_CHANGE_TABLE_FEED_DISABLED",
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_FILE_NOT_FOUND",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "FAILED_READ_FILE.FILE_NOT_EXIST",
)


def definition(statement: str, name: str, table: Table) -> str:
    """The statement that makes the table.

    Args:
        statement: CREATE TABLE or REPLACE TABLE.
        name: The table as Spark SQL names it.
        table: Its declaration.
    """
    columns = ", ".join(
        f"`{column.name}` {column.type}{' NOT NULL' if column.required else ''} "
        f"COMMENT {_quoted(column.comment)}"
        for column in table.columns
    )
    cluster = f"CLUSTER BY ({', '.join(table.cluster_by)})" if table.cluster_by else ""
    properties = {OWNER: table.name, **features_of(table)}
    pairs = ", ".join(f"{_quoted(key)} = {_quoted(value)}" for key, value in properties.items())
    return (
        f"{statement} {name} ({columns}) USING delta {cluster} "
        f"COMMENT {_quoted(table.comment)} TBLPROPERTIES ({pairs})"
    )


def features_of(table: Table) -> dict[str, str]:
    """The properties that turn what Delta can do on or off."""
    return {
        "delta.enableDeletionVectors": str(table.marks_changes).lower(),
        "delta.enableChangeDataFeed": str(table.keeps_changes).lower(),
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
