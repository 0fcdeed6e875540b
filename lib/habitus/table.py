"""What a table's declaration is."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from pyspark.sql.types import DataType, StructField, StructType


@dataclass(frozen=True)
class Column:
    """A column: its name, Spark SQL type, meaning, and whether it always has a value.

    Of an array of structs `fields` says what each field means. Where they are given, a merge casts
    every value, as Spark takes the type with meanings for another: not for columns that hold much.
    """

    name: str
    type: str
    comment: str
    required: bool = False
    fields: tuple["Column", ...] = ()

    @classmethod
    def of_structs(cls, name: str, comment: str, *fields: "Column") -> "Column":
        """A column that always has an array of structs of these fields."""
        return cls(name, f"array<struct<{struct_of(fields)}>>", comment, True, fields)


def struct_of(fields: Iterable[Column]) -> str:
    """What a struct of these fields is made of, in Spark's words."""
    return ", ".join(f"{field.name}: {field.type}" for field in fields)


@dataclass(frozen=True)
class Table:
    """A table: its columns, key, checks and clustering.

    Args:
        name: Name in the lake.
        comment: What one row is.
        columns: All columns, in order.
        key: Columns that identify a row; empty where rows have no identity.
        checks: Condition by name that every row fulfils (Spark SQL).
        cluster_by: Columns that readers filter by; Delta keeps like values together.
        keeps_changes: Whether readers ask what changed since a version.
        marks_changes: Whether rows that change are only marked in their files, which need not be
            written anew then; readers must know Delta's deletion vectors.
        contract: Version of what is promised to readers outside, who find it in the table's
            properties; 0 where nothing is. Another column, type, check or meaning is another one.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    cluster_by: tuple[str, ...] = ()
    keeps_changes: bool = False
    marks_changes: bool = False
    contract: int = 0

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    def some(self, *names: str) -> tuple[Column, ...]:
        """The columns of these names, in their order.

        Raises:
            KeyError: There is no such column.
        """
        every = {column.name: column for column in self.columns}
        return tuple(every[name] for name in names)

    def schema(self) -> StructType:
        """The Spark schema. Needs a running Spark session, which parses the types."""
        return StructType(
            [
                StructField(
                    column.name,
                    _parsed(column.type),
                    not column.required,
                    {"comment": column.comment},
                )
                for column in self.columns
            ]
        )

    def faults(self, schema: StructType) -> list[str]:
        """What keeps rows of this schema from being the table's, in words; empty when nothing."""
        given: dict[str, DataType] = {part.name: part.dataType for part in schema.fields}
        faults = []
        for declared in self.schema().fields:
            found = given.pop(declared.name, None)
            if found is None:
                faults.append(f"column {declared.name!r} is missing")
            elif found.simpleString() != declared.dataType.simpleString():
                faults.append(
                    f"column {declared.name!r} is {found.simpleString()}, "
                    f"not {declared.dataType.simpleString()}"
                )
        return faults + [f"column {name!r} is not declared" for name in given]


@dataclass(frozen=True)
class View(Table):
    """A view: what there is to say of its rows, as of a table's, and the query that makes them.

    A column that it has from a table may be without a value, whatever is said there.

    Args:
        select: A query in the SQL that Spark and DuckDB share. `{name}` stands for the table or
            view of that name and `{explode}` for the function that makes an array's elements rows.
    """

    select: str = ""


@cache
def _parsed(name: str) -> DataType:
    # Each is asked for some hundred times in a run, and Spark takes milliseconds.
    return DataType.fromDDL(name)


def with_fields(columns: Iterable[Column], within: str = "") -> Iterator[tuple[str, Column]]:
    """Columns and the fields in them, each with its name, as `reasons.rank`."""
    for column in columns:
        yield within + column.name, column
        yield from with_fields(column.fields, f"{within}{column.name}.")


def reference(tables: Iterable[Table]) -> str:
    """The tables as Markdown, for people who query them."""
    parts = []
    for table in tables:
        key = ", ".join(f"`{name}`" for name in table.key) or "none"
        rows = [
            f"| `{name}` | `{column.type}` | {column.comment} |"
            for name, column in with_fields(table.columns)
        ]
        parts.append(
            f"### {table.name}\n\n{table.comment} Key: {key}.\n\n"
            "| column | type | meaning |\n| --- | --- | --- |\n" + "\n".join(rows)
        )
    return "\n\n".join(parts)
