"""Runs that write the same tables at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from types import SimpleNamespace

import pytest
from edges.things import TABLE, beside, content, things
from pyspark.sql import DataFrame, Row, SparkSession

from habitus.edges import declared
from habitus.edges.lake import Lake, Written
from habitus.errors import ConflictError, InputError
from habitus.table import Table

pytestmark = pytest.mark.lake


def test_a_merge_that_another_run_overtook_leaves_what_that_one_wrote(
    spark: SparkSession, lake: Lake
) -> None:
    lake.append(TABLE, things(spark, ("a", 1, "x")))
    read = lake.version(TABLE)
    lake.merge(TABLE, things(spark, ("b", 2, "x")))
    here = content(lake)

    with pytest.raises(ConflictError, match="another run has changed the table"):
        lake.merge(TABLE, things(spark, ("c", 3, "x")), made_from=read)

    assert content(lake) == here


class OvertakenLake(Lake):
    """A lake into which another run writes when a merge has seen that none did."""

    def create(self, table: Table) -> None:
        super().create(table)
        beside(self, Lake).append(TABLE, things(self._spark, ("b", 2, "x")))


class LateLake(Lake):
    """Another run writes a moment later."""

    def _refuse_faults(self, table: Table, frame: DataFrame) -> None:
        super()._refuse_faults(table, frame)
        beside(self, Lake).append(TABLE, things(self._spark, ("b", 2, "x")))


@pytest.mark.parametrize("kind", [OvertakenLake, LateLake])
def test_a_merge_that_another_run_overtakes_at_the_last_moment_is_undone(
    spark: SparkSession, lake: Lake, kind: type[Lake]
) -> None:
    late = beside(lake, kind)
    Lake.create(late, TABLE)
    read = lake.version(TABLE)

    with pytest.raises(ConflictError, match="another run has changed the table"):
        late.merge(TABLE, things(spark, ("a", 1, "x")), made_from=read)

    assert content(lake) == [("b", 2, "x")]


def test_a_merge_that_was_undone_leaves_the_note_of_what_holds(
    spark: SparkSession, lake: Lake
) -> None:
    made = lake.overwrite(TABLE, things(spark, ("a", 1, "x")), note="made")
    late = beside(lake, LateLake)
    with pytest.raises(ConflictError):
        late.merge(TABLE, things(spark, ("c", 3, "x")), note="late", made_from=made.version)
    other = lake.note(TABLE)

    lake.overwrite(TABLE, things(spark, ("a", 1, "x")), note="again")
    undone = lake.merge(TABLE, things(spark, ("d", 4, "x")), note="undone")
    spark.sql(f"RESTORE TABLE {lake.name(TABLE)} TO VERSION AS OF {undone.version - 1}")

    assert other[0] not in ("late", "made", None)
    assert lake.note(TABLE) == ("again", undone.version - 2)


class OnceLateLake(Lake):
    """Another run writes when the first merge has seen that the table has no row.

    Its row stays to be told by what is not updated, and shows that it came in between.
    """

    late = False

    def _refuse_faults(self, table: Table, frame: DataFrame) -> None:
        super()._refuse_faults(table, frame)
        if not self.late:
            self.late = True
            beside(self, Lake).append(TABLE, things(self._spark, ("b", 2, "other")))


class SoonOvertakenLake(Lake):
    """Another run updates what the first merge has just written."""

    late = False

    def _since(self, table: Table, version: int) -> list[Row]:
        if not self.late:
            self.late = True
            newer = things(self._spark, ("b", 9, "x"))
            beside(self, Lake).merge(TABLE, newer, update=("size",))
        return super()._since(table, version)


@pytest.mark.parametrize(
    ("kind", "rows", "after"),
    [
        (OnceLateLake, [("a", 1, "x"), ("b", 3, "x")], [("a", 1, "x"), ("b", 3, "other")]),
        (OnceLateLake, [("b", 3, "x")], [("b", 3, "other")]),
        (SoonOvertakenLake, [("b", 3, "x")], [("b", 9, "x")]),
    ],
)
def test_of_two_runs_that_write_a_new_table_the_later_one_updates_the_other(
    spark: SparkSession,
    lake: Lake,
    kind: type[Lake],
    rows: list[tuple[str, int, str]],
    after: list[tuple[str, int, str]],
) -> None:
    written = beside(lake, kind).merge(TABLE, things(spark, *rows), update=("size",))

    assert content(lake) == after
    # Each of ours was inserted, or brought up to date.
    assert written.rows >= len(rows)


def test_rows_that_are_only_inserted_are_counted_though_another_run_came_between(
    spark: SparkSession, lake: Lake
) -> None:
    written = beside(lake, SoonOvertakenLake).merge(TABLE, things(spark, ("a", 1, "x")))

    assert written.rows == 1
    assert content(lake) == [("a", 1, "x"), ("b", 9, "x")]


def test_a_merge_tells_what_it_did_and_not_what_another_run_did_after(
    spark: SparkSession, lake: Lake
) -> None:
    before = lake.append(TABLE, things(spark, ("a", 1, "x"), ("b", 1, "x"), ("c", 1, "x")))
    rows = things(spark, ("a", 2, "x"), ("c", 2, "x"))

    changed = beside(lake, SoonOvertakenLake).merge(TABLE, rows, update=("size",))
    lake.merge(TABLE, things(spark, ("b", 1, "x")), update=("size",))
    nothing = beside(lake, SoonOvertakenLake).merge(TABLE, rows, update=("size",))

    assert changed == Written(rows=2, version=before.version + 1)
    assert nothing.rows == 0
    assert content(lake) == [("a", 2, "x"), ("b", 9, "x"), ("c", 2, "x")]


class FollowedLake(Lake):
    """Another run writes as soon as a write is done."""

    late = False

    def _commits(self, table: Table, count: int | None) -> list[Row]:
        if not self.late:
            self.late = True
            beside(self, Lake).append(TABLE, things(self._spark, ("c", 9, "x")))
        return super()._commits(table, count)


@pytest.mark.parametrize("write", [Lake.append, Lake.overwrite])
def test_a_write_tells_what_it_did_and_not_what_another_run_did_after(
    spark: SparkSession, lake: Lake, write: Callable[[Lake, Table, DataFrame], Written]
) -> None:
    before = lake.append(TABLE, things(spark, ("a", 1, "x")))
    rows = things(spark, ("a", 2, "x"), ("b", 2, "x"))

    written = write(beside(lake, FollowedLake), TABLE, rows)

    assert written == Written(rows=2, version=before.version + 1)
    assert ("c", 9, "x") in content(lake)


def test_a_write_of_no_row_to_a_table_without_any_tells_that_it_did_nothing(
    spark: SparkSession, lake: Lake
) -> None:
    assert lake.overwrite(TABLE, things(spark)) == Written(rows=0, version=lake.version(TABLE))


def test_all_commits_since_a_version_are_looked_at(spark: SparkSession, lake: Lake) -> None:
    before = lake.append(TABLE, things(spark, ("a", 1, "x")))
    later = [lake.append(TABLE, things(spark, (name, 1, "x"))).version for name in "bcd"]
    lake.compact(TABLE)

    since = lake._since(TABLE, before.version)

    assert [commit["version"] for commit in since] == later[::-1]


class FilledLake(Lake):
    """Another run writes when a merge has seen that the table has no such row."""

    def _is_bare(self, table: Table, where: str) -> bool:
        is_bare = super()._is_bare(table, where)
        if is_bare:
            beside(self, Lake).append(TABLE, things(self._spark, ("b", 2, "other")))
        return is_bare


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (Lake, ("b", 3, "x")),
        (FilledLake, ("b", 3, "other")),
        (SoonOvertakenLake, ("b", 9, "x")),
    ],
)
def test_rows_of_a_kind_that_the_table_has_none_of_are_only_inserted(
    spark: SparkSession, lake: Lake, kind: type[Lake], after: tuple[str, int, str]
) -> None:
    lake.merge(TABLE, things(spark, ("a", 1, "x")))
    rows = things(spark, ("b", 3, "x"), ("c", 4, "x"))

    beside(lake, kind).merge(TABLE, rows, update=("size",), where="old.id >= 'b'")

    assert content(lake) == [("a", 1, "x"), after, ("c", 4, "x")]
    merges = [commit for commit in lake._commits(TABLE, None) if commit["operation"] == "MERGE"]
    assert merges[-2]["operationParameters"]["matchedPredicates"] == "[]"


class TwinLake(Lake):
    """A lake that creates a table at the moment when its twin does."""

    both = Event()
    together = Barrier(2, both.set)

    def _build(self, table: Table, statement: str) -> None:
        self.together.wait(60)
        super()._build(table, statement)


def test_two_runs_that_create_a_table_at_once_both_write_it(
    spark: SparkSession, lake: Lake
) -> None:
    rows = [things(spark, (name, 1, "x")) for name in "ab"]

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda row: beside(lake, TwinLake).append(TABLE, row), rows))

    assert TwinLake.both.is_set()
    assert content(lake) == [("a", 1, "x"), ("b", 1, "x")]


def test_a_table_that_another_run_is_still_making_is_waited_for(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta finds a folder that is no table yet, as the other's first commit is not done."""
    log = Path(lake.root, TABLE.name, "_delta_log")
    lake.create(TABLE)
    away = log.rename(log.with_name("not_yet"))
    finish = SimpleNamespace(sleep=lambda _: away.rename(log))
    monkeypatch.setattr("habitus.edges.declared.time", finish)

    beside(lake, Lake).append(TABLE, things(spark, ("a", 1, "x")))

    assert content(lake) == [("a", 1, "x")]


def test_a_folder_of_other_files_is_not_taken_for_a_table_and_stays(
    spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "_MOMENT", 0.0)
    other = Path(lake.root, TABLE.name, "notes.txt")
    other.parent.mkdir(parents=True)
    other.touch()

    with pytest.raises(InputError, match=r"holds files, but no table\. Move them away"):
        lake.append(TABLE, things(spark, ("a", 1, "x")))

    assert list(other.parent.iterdir()) == [other]
