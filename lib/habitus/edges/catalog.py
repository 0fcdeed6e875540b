"""Where the lake's tables are, and what Delta knows of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import deltalake
import numpy as np
import pyarrow as pa
from delta.tables import DeltaMergeBuilder, DeltaTable
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from habitus.config import LakeSettings
from habitus.edges.artefacts import absolute, outside_hadoop
from habitus.edges.delta_words import SAME_ROWS
from habitus.edges.spark import FILE_SIZE
from habitus.errors import InputError
from habitus.table import Table

# Of so many commits one is likely to have changed rows; more are read only if none has.
_RECENT = 10


@dataclass(frozen=True)
class Layout:
    """How a table lies in its files.

    Attributes:
        files: How many there are.
        size: Bytes of all.
        reads: For each column that the table is clustered by, in how many files the rows of one
            value may be, on average over the least value of each file: so many are read.
    """

    files: int
    size: int
    reads: dict[str, float]


class Catalog:
    """The places of one lake's tables, by path or in a metastore.

    Args:
        spark: The running session.
        settings: Where the tables are.
    """

    def __init__(self, spark: SparkSession, settings: LakeSettings) -> None:
        self._spark = spark
        self._settings = settings
        self.root = absolute(settings.root)

    def name(self, table: Table) -> str:
        """The table as Spark SQL names it."""
        if self._settings.schema_name is None:
            return f"delta.`{self.root}/{table.name}`"
        parts = [self._settings.catalog, self._settings.schema_name, table.name]
        return ".".join(f"`{part}`" for part in parts if part)

    def exists(self, table: Table) -> bool:
        """Whether the table is there."""
        if self._settings.schema_name is None:
            return bool(DeltaTable.isDeltaTable(self._spark, f"{self.root}/{table.name}"))
        return self._spark.catalog.tableExists(self.name(table))

    def version(self, table: Table) -> int:
        """The table's latest version.

        Raises:
            InputError: The table is not there.
        """
        self._refuse_missing(table)
        return int(self._commits(table, 1)[0]["version"])

    def note(self, table: Table) -> tuple[str | None, int | None]:
        """The note of the commit that made the rows what they are, and the version it was made on.

        Either is None where the commit has none.
        """
        holds: int | None = None  # the last version that has not been undone; none: all hold
        for commit in self._from_the_last(table):
            if commit["operation"] in SAME_ROWS or (
                holds is not None and commit["version"] > holds
            ):
                continue
            restored = commit["operationParameters"].get("version")
            if commit["operation"] != "RESTORE" or restored is None:
                return commit["userMetadata"], commit["readVersion"]
            holds = int(restored)
        return None, None

    def identity(self, table: Table) -> str:
        """What tells the table from another one at its place, made after it was dropped."""
        return str(self._detail(table)["id"])

    def files(self, table: Table, version: int) -> list[str]:
        """The data files of one version, for readers that know Parquet but not Delta.

        Raises:
            InputError: The table uses features that such readers would misread.
        """
        snapshot = self._snapshot(table, version)
        unreadable = {"deletionVectors", "columnMapping"} & set(
            snapshot.protocol().reader_features or []
        )
        if unreadable:
            raise InputError(
                self.name(table),
                f"the table uses {', '.join(sorted(unreadable))}",
                "Write it again without, so that its files can be read as Parquet.",
            )
        return [str(uri) for uri in snapshot.file_uris()]

    def layout(self, table: Table) -> Layout:
        """How the table lies in its files, by their statistics."""
        told = pa.table(self._snapshot(table).get_add_actions(flatten=True))
        reads = {}
        for column in table.cluster_by:
            least, most = (
                told[f"{end}.{column}"].combine_chunks().drop_null().to_numpy(zero_copy_only=False)
                for end in ("min", "max")
            )
            # The files that begin at or before a value, less those that end before it.
            begun = np.searchsorted(np.sort(least), least, side="right")
            ended = np.searchsorted(np.sort(most), least, side="left")
            reads[column] = float((begun - ended).mean()) if len(least) else 0.0
        return Layout(told.num_rows, int(np.sum(told["size_bytes"].to_numpy())), reads)

    def is_scattered(self, table: Table) -> bool:
        """Whether the table has many files, most of them small."""
        detail = self._detail(table)
        files, size = int(detail["numFiles"]), int(detail["sizeInBytes"])
        return files > self._settings.compact_above and size < files * FILE_SIZE / 4

    def location(self, table: Table) -> str:
        """The table's folder, as a local path or a URI that readers other than Spark know."""
        place = f"{self.root}/{table.name}"
        if self._settings.schema_name is not None:
            place = str(self._detail(table)["location"])
        return outside_hadoop(place).removeprefix("file:")

    def _refuse_missing(self, table: Table) -> None:
        if not self.exists(table):
            raise InputError(
                self.name(table), "no such table", f"Run the job that writes {table.name} first."
            )

    def _snapshot(self, table: Table, version: int | None = None) -> deltalake.DeltaTable:
        return deltalake.DeltaTable(self.location(table), version=version)

    def _delta(self, table: Table) -> DeltaTable:
        if self._settings.schema_name is None:
            return DeltaTable.forPath(self._spark, f"{self.root}/{table.name}")
        return DeltaTable.forName(self._spark, self.name(table))

    def _merging(
        self,
        table: Table,
        frame: DataFrame,
        where: str,
        changes: tuple[tuple[str, ...], tuple[str, ...]] | None,
    ) -> DeltaMergeBuilder:
        """The merge of `Lake.merge`; changes: its `update` and `stamp`, none to insert only."""
        old = self._delta(table).alias("old")
        builder = old.merge(frame.alias("new"), f"{_same_key(table)} AND {where}")
        goes = "gone" in frame.columns
        if goes and changes is not None:
            builder = builder.whenMatchedDelete("new.gone")
        if changes is not None and changes[0]:
            update, stamp = changes
            differs = " OR ".join(f"NOT (old.`{name}` <=> new.`{name}`)" for name in update)
            builder = builder.whenMatchedUpdate(differs, _values((*update, *stamp)))
        return builder.whenNotMatchedInsert("NOT new.gone" if goes else None, _values(table.names))

    def _detail(self, table: Table) -> Row:
        detail: Row | None = self._delta(table).detail().first()
        assert detail is not None, "a Delta table has details"
        return detail

    def _properties(self, table: Table) -> dict[str, str]:
        # Unlike the details, these are found without a look at the table's files.
        rows = self._spark.sql(f"SHOW TBLPROPERTIES {self.name(table)}").collect()
        return {row["key"]: row["value"] for row in rows}

    def _since(self, table: Table, version: int) -> list[Row]:
        """The commits after a version that could change rows, the last first."""
        count = 1
        commits = self._commits(table, count)
        # There may be more by the time that they are asked for.
        while len(commits) == count and commits[-1]["version"] > version + 1:
            count = commits[0]["version"] - version
            commits = self._commits(table, count)
        return [
            commit
            for commit in commits
            if commit["version"] > version and commit["operation"] not in SAME_ROWS
        ]

    def _from_the_last(self, table: Table) -> Iterator[Row]:
        """All commits that are known, the last first; if need be some of them twice."""
        for count in (_RECENT, None):
            yield from self._commits(table, count)

    def _commits(self, table: Table, count: int | None) -> list[Row]:
        """So many commits, or all that are known, the last first."""
        commits: list[Row] = self._delta(table).history(count).collect()
        return commits


def _same_key(table: Table) -> str:
    return " AND ".join(f"old.`{key}` = new.`{key}`" for key in table.key)


def _values(names: Iterable[str]) -> dict[str, Column]:
    return {name: F.col(f"new.`{name}`") for name in names}
