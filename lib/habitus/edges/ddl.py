"""The SQL that makes a table of a lake from its declaration."""

from habitus.table import Table

# Marks the tables that habitus made and may replace.
OWNER = "habitus.table"


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
    properties = {
        OWNER: table.name,
        # Readers of plain Parquet files (training) would not see deletion vectors.
        "delta.enableDeletionVectors": "false",
        "delta.enableChangeDataFeed": str(table.keeps_changes).lower(),
    }
    pairs = ", ".join(f"{_quoted(key)} = {_quoted(value)}" for key, value in properties.items())
    return (
        f"{statement} {name} ({columns}) USING delta {cluster} "
        f"COMMENT {_quoted(table.comment)} TBLPROPERTIES ({pairs})"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
