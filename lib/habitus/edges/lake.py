"""The lake: Delta tables by path or in a metastore, created from their declarations."""

from collections.abc import Iterable
from dataclasses import dataclass

import deltalake
from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from habitus.config import LakeSettings
from habitus.edges.artefacts import absolute
from habitus.edges.change_feed import net_changes
from habitus.edges.delta_words import (
    HISTORY_GONE,
    NOTE,
    OWNER,
    SAME_ROWS,
    definition,
    features_of,
)
from habitus.edges.spark import SPARK_ERRORS
from habitus.errors import InputError
from habitus.table import Table


@dataclass(frozen=True)
class Written:
    """What a write did: rows added or changed, and the version that holds them."""

    rows: int
    version: int


class Lake:
    """The tables of one lake.

    Args:
        spark: The running session.
        settings: Where the tables are.
    """

    def __init__(self, spark: SparkSession, settings: LakeSettings) -> None:
        self._spark = spark
        self._settings = settings
        self.root = absolute(settings.root)
        self._created: set[str] = set()

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
        """The table's latest version."""
        return int(self._commit(table)["version"])

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """Read the table, at its latest or the given version.

        Raises:
            InputError: The table is not there or has another schema.
        """
        if not self.exists(table):
            raise InputError(
                self.name(table), "no such table", f"Run the job that writes {table.name} first."
            )
        reader = self._spark.read
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = reader.table(self.name(table))
        missing = [fault for fault in table.faults(frame.schema) if "not declared" not in fault]
        if missing:
            raise InputError(
                self.name(table),
                f"the table has another schema: {'; '.join(missing)}",
                "Run the job that writes it again, with these settings.",
            )
        return frame

    def create(self, table: Table) -> None:
        """Create the table as declared, or finish a creation that was cut short.

        Raises:
            InputError: A table of this name has another schema.
        """
        if table.name in self._created:
            return
        if not self.exists(table):
            self._build(table, "CREATE TABLE")
        else:
            self._refuse_faults(table, self._spark.read.table(self.name(table)))
            self._turn_on_features(table)
        constrained = self._properties(table) if table.checks else {}
        for name, condition in table.checks.items():
            if f"delta.constraints.{name}" not in constrained:
                self._spark.sql(
                    f"ALTER TABLE {self.name(table)} ADD CONSTRAINT {name} CHECK ({condition})"
                )
        self._created.add(table.name)

    def note(self, table: Table) -> str | None:
        """The note of the last commit that could change rows; None where it has none."""
        history = self._delta(table).history().where(~F.col("operation").isin(*SAME_ROWS))
        last: Row | None = history.orderBy(F.desc("version")).first()
        return None if last is None else last["userMetadata"]

    def identity(self, table: Table) -> str:
        """What tells the table from another one at its place, made after it was dropped."""
        return str(self._detail(table)["id"])

    def changes(
        self, table: Table, since: int, until: int, *, only_added: bool = False
    ) -> DataFrame | None:
        """Rows that changed after one version up to another; None where the table cannot tell.

        It cannot where the history of that time is not kept any more.

        Args:
            table: The table, one that keeps changes and has a key.
            since: The version before the first change.
            until: The last version.
            only_added: Answer None also where rows were changed or removed.

        Returns:
            Rows as they were at the first version and as they are at the last, and whether it
            `is_now`.
        """
        if since == until:
            empty = self._spark.createDataFrame([], table.schema())
            return empty.withColumn("is_now", F.lit(True))
        reader = self._spark.read.option("readChangeFeed", "true")
        reader = reader.option("startingVersion", since + 1).option("endingVersion", until)
        try:
            changes = reader.table(self.name(table))
            # This opens every file, so that one which is gone is found here.
            kinds = changes.groupBy("_change_type").count().collect()
        except SPARK_ERRORS as error:
            if any(code in str(error) for code in HISTORY_GONE):
                return None
            raise
        is_now = F.col("_change_type").isin("insert", "update_postimage")
        if all(row["_change_type"] == "insert" for row in kinds):
            return changes.select(*table.names, is_now.alias("is_now"))
        if only_added:
            return None
        return net_changes(changes.withColumn("is_now", is_now), table)

    def _turn_on_features(self, table: Table) -> None:
        here = self._properties(table)
        for name, value in features_of(table).items():
            if value == "true" and here.get(name) != "true":
                self._spark.sql(f"ALTER TABLE {self.name(table)} SET TBLPROPERTIES ({name} = true)")

    def overwrite(self, table: Table, frame: DataFrame, note: str | None = None) -> Written:
        """Replace all rows in one commit.

        A table of ours may change its columns; then it is made anew, empty, before that commit.

        Args:
            table: The table.
            frame: All its rows.
            note: What the commit is to say beside.

        Raises:
            InputError: The table is not ours and has another schema.
        """
        if (
            self.exists(table)
            and table.faults(self._spark.read.table(self.name(table)).schema)
            and self._properties(table).get(OWNER) == table.name
        ):
            self._build(table, "REPLACE TABLE")
            # Its checks went with it.
            self._created.discard(table.name)
        return self._write(table, frame, "overwrite", note)

    def append(self, table: Table, frame: DataFrame) -> Written:
        """Add rows whose keys are known to be new."""
        return self._write(table, frame, "append")

    def _write(self, table: Table, frame: DataFrame, mode: str, note: str | None = None) -> Written:
        self.create(table)
        writer = self._checked(table, frame).write.format("delta").mode(mode)
        # The note is of the rows; the commits that made the table do not have it.
        if note is not None:
            writer = writer.option("userMetadata", note)
        if self._settings.schema_name is None:
            writer.save(f"{self.root}/{table.name}")
        else:
            writer.saveAsTable(self.name(table))
        return self._written(table, "numOutputRows")

    def merge(
        self,
        table: Table,
        frame: DataFrame,
        update: Iterable[str] = (),
        stamp: Iterable[str] = (),
        where: str = "true",
        note: str | None = None,
    ) -> Written:
        """Insert rows with new keys; where a key is there, update the row if it differs.

        Args:
            table: The table.
            frame: Rows with unique keys. A column `gone` that the table does not have says which
                rows are to go; of these only the key is read.
            update: Columns that make a row differ and are then brought up to date; none leaves
                rows that are there as they are.
            stamp: Columns that are brought up to date with them, but do not make a row differ.
            where: A condition on the table, as `old`, that holds for all rows concerned, so that
                others need not be read.
            note: What the commit is to say beside.
        """
        self.create(table)
        before = self.version(table)
        goes = "gone" in frame.columns
        self._refuse_faults(table, frame.drop("gone"))
        builder = (
            self._delta(table)
            .alias("old")
            .merge(frame.alias("new"), f"{_same_key(table)} AND {where}")
        )
        if goes:
            builder = builder.whenMatchedDelete("new.gone")
        if update:
            differs = " OR ".join(f"NOT (old.`{name}` <=> new.`{name}`)" for name in update)
            builder = builder.whenMatchedUpdate(differs, _values((*update, *stamp)))
        builder = builder.whenNotMatchedInsert(
            "NOT new.gone" if goes else None, _values(table.names)
        )
        if note is not None:
            self._spark.conf.set(NOTE, note)
        try:
            builder.execute()
        finally:
            self._spark.conf.unset(NOTE)
        written = self._written(
            table, "numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted"
        )
        # Delta makes no commit when nothing changes; the last one is then another's.
        return written if written.version > before else Written(rows=0, version=before)

    def files(self, table: Table, version: int) -> list[str]:
        """The data files of one version, for readers that know Parquet but not Delta.

        Raises:
            InputError: The table uses features that such readers would misread.
        """
        location = f"{self.root}/{table.name}"
        if self._settings.schema_name is not None:
            location = str(self._detail(table)["location"])
        snapshot = deltalake.DeltaTable(location.removeprefix("file:"), version=version)
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

    def _delta(self, table: Table) -> DeltaTable:
        if self._settings.schema_name is None:
            return DeltaTable.forPath(self._spark, f"{self.root}/{table.name}")
        return DeltaTable.forName(self._spark, self.name(table))

    def _detail(self, table: Table) -> Row:
        detail: Row | None = self._delta(table).detail().first()
        assert detail is not None, "a Delta table has details"
        return detail

    def _properties(self, table: Table) -> dict[str, str]:
        # Unlike the details, these are found without a look at the table's files.
        rows = self._spark.sql(f"SHOW TBLPROPERTIES {self.name(table)}").collect()
        return {row["key"]: row["value"] for row in rows}

    def _commit(self, table: Table) -> Row:
        commit: Row | None = self._delta(table).history(1).first()
        assert commit is not None, "a Delta table has a history"
        return commit

    def _build(self, table: Table, statement: str) -> None:
        self._spark.sql(definition(statement, self.name(table), table))

    def _checked(self, table: Table, frame: DataFrame) -> DataFrame:
        self._refuse_faults(table, frame)
        return frame.select(*table.names)

    def _refuse_faults(self, table: Table, frame: DataFrame) -> None:
        if faults := table.faults(frame.schema):
            raise InputError(
                self.name(table),
                f"the schema is not the one declared: {'; '.join(faults)}",
                "Move a table that is not habitus's away, or choose another lake.root.",
            )

    def _written(self, table: Table, *metrics: str) -> Written:
        commit = self._commit(table)
        rows = sum(int(commit["operationMetrics"].get(name, 0)) for name in metrics)
        return Written(rows=rows, version=int(commit["version"]))


def _same_key(table: Table) -> str:
    return " AND ".join(f"old.`{key}` = new.`{key}`" for key in table.key)


def _values(names: Iterable[str]) -> dict[str, Column]:
    return {name: F.col(f"new.`{name}`") for name in names}
