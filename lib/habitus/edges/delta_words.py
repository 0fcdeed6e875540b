"""What is said to Delta, and what it answers: statements, settings, operations, errors."""

from habitus.table import Column, Table, View

# Marks the tables that habitus made and may replace.
OWNER = "habitus.table"
# Begins the property that holds a check; a table that is there takes none as a property.
CHECK = "delta.constraints."
# Tells readers which version of its contract a table or view keeps.
CONTRACT = "habitus.contract"
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
        f"`{column.name}` {_type(column)}{' NOT NULL' if column.required else ''} "
        f"COMMENT {_quoted(column.comment)}"
        for column in table.columns
    )
    cluster = f"CLUSTER BY ({', '.join(table.cluster_by)})" if table.cluster_by else ""
    checks = {CHECK + check: condition for check, condition in table.checks.items()}
    properties = {OWNER: table.name, **properties_of(table), **checks}
    return (
        f"{statement} {name} ({columns}) USING delta {cluster} "
        f"COMMENT {_quoted(table.comment)} TBLPROPERTIES ({_pairs(properties)})"
    )


def view_definition(statement: str, name: str, view: View, select: str) -> str:
    """The statement that makes the view.

    Args:
        statement: CREATE OR REPLACE VIEW, or the same with TEMPORARY.
        name: The view as Spark SQL names it.
        view: Its declaration.
        select: Its query over the tables of one lake.
    """
    columns = ", ".join(
        f"`{column.name}` COMMENT {_quoted(column.comment)}" for column in view.columns
    )
    # A temporary view has none.
    properties = "" if "TEMPORARY" in statement else f"TBLPROPERTIES ({_pairs(_promised(view))}) "
    return (
        f"{statement} {name} ({columns}) COMMENT {_quoted(view.comment)} {properties}AS\n{select}"
    )


def properties_of(table: Table) -> dict[str, str]:
    """The properties that turn what Delta can do on or off, and the version of the contract."""
    return {
        "delta.enableDeletionVectors": str(table.marks_changes).lower(),
        "delta.enableChangeDataFeed": str(table.keeps_changes).lower(),
        **_promised(table),
    }


def _type(column: Column) -> str:
    """The column's type, in which each field has its comment."""
    if not column.fields:
        return column.type
    fields = [
        f"`{field.name}`: {_type(field)} COMMENT {_quoted(field.comment)}"
        for field in column.fields
    ]
    return f"array<struct<{', '.join(fields)}>>"


def _promised(table: Table) -> dict[str, str]:
    return {CONTRACT: str(table.contract)} if table.contract else {}


def _pairs(properties: dict[str, str]) -> str:
    return ", ".join(f"{_quoted(key)} = {_quoted(value)}" for key, value in properties.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
