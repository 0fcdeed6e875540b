"""The lake: Delta tables by path or in a metastore, created from their declarations."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.config import LakeSettings
from habitus.edges.catalog import Catalog
from habitus.edges.change_feed import changed_rows
from habitus.edges.delta_words import (
    CHECK,
    CONTRACT,
    NOTE,
    OWNER,
    definition,
    properties_of,
    view_definition,
)
from habitus.edges.folders import Folder
from habitus.edges.spark import local_frame
from habitus.edges.spark_errors import SPARK_ERRORS, is_conflict
from habitus.errors import ConflictError, InputError
from habitus.table import Table, View


@dataclass(frozen=True)
class Written:
    """What a write did: rows added or changed, and the version that holds them."""

    rows: int
    version: int


class Lake(Catalog):
    """The tables of one lake.

    Args:
        spark: The running session.
        settings: Where the tables are.
    """

    def __init__(self, spark: SparkSession, settings: LakeSettings) -> None:
        super().__init__(spark, settings)
        self._created: set[str] = set()

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """Read the table, at its latest or the given version.

        Raises:
            InputError: The table is not there, or has another schema or version of its contract.
        """
        self._refuse_missing(table)
        reader = self._spark.read
        if version is not None:
            reader = reader.option("versionAsOf", version)
        frame = reader.table(self.name(table))
        if table.contract:
            self._refuse_contract(table, self._properties(table))
        missing = [fault for fault in table.faults(frame.schema) if "not declared" not in fault]
        if missing:
            raise InputError(
                self.name(table),
                f"the table has another schema: {'; '.join(missing)}",
                "Run the job that writes it again, with these settings.",
            )
        return frame

    def create(self, table: Table) -> None:
        """Create the table as declared, or bring one that is there up to the declaration.

        Raises:
            InputError: A table of this name has another schema or version of its contract.
        """
        if table.name in self._created:
            return
        if not self.exists(table):
            self._clear_unfinished(table)
            # Of two runs that come here at once Delta lets one commit, and tells the other.
            with self._or_conflict(table):
                self._build(table, "CREATE TABLE")
        else:
            here = self._properties(table)
            self._refuse_contract(table, here)
            self._refuse_faults(table, self._spark.read.table(self.name(table)))
            self._bring_up_to_date(table, here)
        self._created.add(table.name)

    def create_view(self, view: View, select: str) -> None:
        """Make a view in the metastore, or make it anew.

        Args:
            view: Its declaration.
            select: Its query over the tables of this lake.
        """
        self._spark.sql(view_definition("CREATE OR REPLACE VIEW", self.name(view), view, select))

    def clone(self, table: Table, version: int, into: "Lake") -> None:
        """Make a version of the table a table of another lake, where it is not yet; no row is read.

        The other lake's table reads the files of this one.
        """
        self._spark.sql(
            f"CREATE TABLE {into.name(table)} SHALLOW CLONE {self.name(table)} "
            f"VERSION AS OF {version}"
        )

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
            empty = local_frame(self._spark, table.schema())
            return empty.withColumn("is_now", F.lit(True))
        reader = self._spark.read.option("readChangeFeed", "true")
        reader = reader.option("startingVersion", since + 1).option("endingVersion", until)
        return changed_rows(reader, self.name(table), table, only_added)

    def _bring_up_to_date(self, table: Table, here: dict[str, str]) -> None:
        for name, value in properties_of(table).items():
            if value != "false" and here.get(name) != value:
                self._spark.sql(
                    f"ALTER TABLE {self.name(table)} SET TBLPROPERTIES ({name} = '{value}')"
                )
        for name, condition in table.checks.items():
            if CHECK + name not in here:
                self._spark.sql(
                    f"ALTER TABLE {self.name(table)} ADD CONSTRAINT {name} CHECK ({condition})"
                )

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
        with self._or_conflict(table):
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
        made_from: int | None = None,
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
            made_from: The version of this table that the rows were made from, if they were; the
                note must then be one that no other run writes.

        Raises:
            ConflictError: Another run has written the table since; it is as that one left it.
        """
        if made_from is not None and made_from != self.version(table):
            raise self._conflict(table)
        self.create(table)
        base = self._commit(table)
        before = int(base["version"])
        # Where no row can match, Delta does not keep all of `frame` to look through it twice. The
        # note tells our commit from another's.
        is_bare = base["operation"] == "CREATE TABLE" or self._is_bare(table, where)
        if is_bare and note is None:
            note = uuid4().hex
        self._refuse_faults(table, frame.drop("gone"))
        update, stamp = tuple(update), tuple(stamp)
        builder = self._merging(table, frame, where, None if is_bare else (update, stamp))
        if note is not None:
            self._spark.conf.set(NOTE, note)
        try:
            with self._or_conflict(table):
                builder.execute()
        finally:
            self._spark.conf.unset(NOTE)
        if made_from is not None:
            self._undo_if_late(table, made_from, note)
        written = self._written(
            table, "numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted"
        )
        if is_bare and not self._is_first_since(table, before, note):
            # Another run wrote such rows, perhaps: then they are there to be updated.
            return self.merge(table, frame, update, stamp, where, note, made_from)
        # Delta makes no commit when nothing changes; the last one is then another's.
        return written if written.version > before else Written(rows=0, version=before)

    def update(self, table: Table, where: str, values: Mapping[str, Column]) -> None:
        """Change columns of the rows for which a condition holds.

        Raises:
            ConflictError: Another run has written these rows meanwhile; they are as that one left
                them.
        """
        with self._or_conflict(table):
            self._delta(table).update(where, dict(values))

    def compact(self, table: Table) -> None:
        """Write small files together, and rows that readers ask for together near each other.

        Raises:
            ConflictError: Another run has written the table meanwhile; it is as that one left it.
        """
        with self._or_conflict(table):
            self._delta(table).optimize().executeCompaction()

    @contextmanager
    def _or_conflict(self, table: Table) -> Iterator[None]:
        try:
            yield
        except SPARK_ERRORS as error:
            if is_conflict(error):
                raise self._conflict(table) from error
            raise

    def _conflict(self, table: Table) -> ConflictError:
        return ConflictError(
            self.name(table),
            "another run has changed the table at the same time",
            "Run this one again.",
        )

    def _undo_if_late(self, table: Table, made_from: int, note: str | None) -> None:
        # Delta lets a merge begin at a version later than the one that its rows were made from.
        since = self._history(table).where(F.col("version") > made_from).collect()
        ours = next((row for row in since if row["userMetadata"] == note), None)
        if ours is None or all(row["version"] > ours["readVersion"] for row in since):
            return
        # Where others wrote after it, it stays; the version in its note tells that it is late.
        if ours["version"] == since[0]["version"]:
            self._delta(table).restoreToVersion(ours["version"] - 1)
        raise self._conflict(table)

    def _is_bare(self, table: Table, where: str) -> bool:
        """Whether a condition on the table, as `old`, is known to hold for none of its rows."""
        return where != "true" and self._delta(table).toDF().alias("old").where(where).isEmpty()

    def _is_first_since(self, table: Table, version: int, note: str | None) -> bool:
        """Whether the first commit that could change rows since a version has this note, if any."""
        since = self._history(table).where(F.col("version") > version).collect()
        return not since or since[-1]["userMetadata"] == note

    def _build(self, table: Table, statement: str) -> None:
        self._spark.sql(definition(statement, self.name(table), table))

    def _clear_unfinished(self, table: Table) -> None:
        # A run killed in its first commit leaves a log without one, which Delta takes for a table
        # when it is to create it, and for none otherwise.
        if self._settings.schema_name is None:
            Folder(self._spark, f"{self.root}/{table.name}/_delta_log").delete_leftovers()

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

    def _refuse_contract(self, table: Table, properties: dict[str, str]) -> None:
        # A table from before there were versions has none, and only its schema to judge it by.
        found = properties.get(CONTRACT, str(table.contract))
        if found != str(table.contract):
            raise InputError(
                self.name(table),
                f"the table keeps version {found} of its contract with readers, this habitus "
                f"version {table.contract}",
                "Run the habitus of that version, or move the table away to have it made anew.",
            )

    def _written(self, table: Table, *metrics: str) -> Written:
        commit = self._commit(table)
        rows = sum(int(commit["operationMetrics"].get(name, 0)) for name in metrics)
        return Written(rows=rows, version=int(commit["version"]))
