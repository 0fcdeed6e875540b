"""The lake: Delta tables by path or in a metastore, read and written."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from habitus.edges.change_feed import changed_rows
from habitus.edges.declared import DeclaredTables
from habitus.edges.delta_words import NOTE, OWNER
from habitus.edges.spark import local_frame
from habitus.edges.spark_errors import SPARK_ERRORS, is_conflict
from habitus.errors import ConflictError, InputError
from habitus.table import Table

# What Delta counts of a merge: rows that came, changed and went.
_MERGED = ("numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted")


@dataclass(frozen=True)
class Written:
    """What a write did: rows added or changed, and the version that holds them."""

    rows: int
    version: int


class Lake(DeclaredTables):
    """The tables of one lake, and their rows."""

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
        # The note is of the rows, and tells our commit from another's; those that made the table do
        # not have it.
        note = note or uuid4().hex
        writer = self._checked(table, frame).write.format("delta").mode(mode)
        writer = writer.option("userMetadata", note)
        with self._or_conflict(table):
            if self._settings.schema_name is None:
                writer.save(f"{self.root}/{table.name}")
            else:
                writer.saveAsTable(self.name(table))
        for commit in self._from_the_last(table):
            if commit["userMetadata"] == note:
                return _written(commit, "numOutputRows")
        # Where no row comes or goes, Delta makes no commit.
        return Written(rows=0, version=self.version(table))

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
        (base,) = self._commits(table, 1)
        before = int(base["version"])
        # Where no row can match, Delta does not keep all of `frame` to look through it twice.
        is_bare = base["operation"] == "CREATE TABLE" or self._is_bare(table, where)
        self._refuse_faults(table, frame.drop("gone"))
        update, stamp = tuple(update), tuple(stamp)
        builder = self._merging(table, frame, where, None if is_bare else (update, stamp))
        # The note tells our commit from another's.
        note = note or uuid4().hex
        self._spark.conf.set(NOTE, note)
        try:
            with self._or_conflict(table):
                builder.execute()
        finally:
            self._spark.conf.unset(NOTE)
        since = self._since(table, before if made_from is None else made_from)
        ours = next((commit for commit in since if commit["userMetadata"] == note), None)
        if made_from is not None and ours is not None:
            self._undo_if_late(table, since, ours)
        first = next((commit for commit in reversed(since) if commit["version"] > before), ours)
        done = None if ours is None else _written(ours, *_MERGED)
        if is_bare and first is not ours and (update or "gone" in frame.columns):
            # Another run wrote such rows, perhaps: then they are there to be updated.
            more = self.merge(table, frame, update, stamp, where, note, made_from)
            return more if done is None else replace(more, rows=done.rows + more.rows)
        if done is not None:
            return done
        # A merge that only inserts, and finds nothing to, makes no commit.
        return Written(rows=0, version=int(since[0]["version"]) if since else before)

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

    def _undo_if_late(self, table: Table, since: list[Row], ours: Row) -> None:
        """Refuse a merge that did not begin at the version that its rows were made from.

        Delta lets it begin at a later one.

        Args:
            table: The table.
            since: The commits that could change rows since that version, the last first.
            ours: The merge's own.
        """
        if all(commit["version"] > ours["readVersion"] for commit in since):
            return
        # Where others wrote after it, it stays; the version in its note tells that it is late.
        if ours is since[0]:
            self._delta(table).restoreToVersion(ours["version"] - 1)
        raise self._conflict(table)

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

    def _is_bare(self, table: Table, where: str) -> bool:
        """Whether a condition on the table, as `old`, is known to hold for none of its rows."""
        return where != "true" and self._delta(table).toDF().alias("old").where(where).isEmpty()


def _written(commit: Row, *metrics: str) -> Written:
    rows = sum(int(commit["operationMetrics"].get(name, 0)) for name in metrics)
    return Written(rows=rows, version=int(commit["version"]))
