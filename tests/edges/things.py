"""A small table, and rows of it."""

from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession

from habitus.edges.lake import Lake
from habitus.edges.spark import local_frame
from habitus.table import Column, Table

Kind = TypeVar("Kind", bound=Lake)

TABLE = Table(
    name="things",
    comment="A thing.",
    columns=(
        Column("id", "string", "Its id.", required=True),
        Column("size", "int", "Its size."),
        Column("seen", "string", "By whom it was seen."),
    ),
    key=("id",),
    checks={"size_is_positive": "size > 0"},
    cluster_by=("id",),
    keeps_changes=True,
)


def things(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    named = (dict(zip(TABLE.names, row, strict=True)) for row in rows)
    return local_frame(spark, TABLE.schema(), named)


def content(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in lake.read(TABLE).collect())


def beside(lake: Lake, kind: type[Kind]) -> Kind:
    """The same lake, as another run finds it."""
    return kind(lake._spark, lake._settings)
