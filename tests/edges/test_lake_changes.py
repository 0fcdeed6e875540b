"""What a real Delta table can tell of its changes, and what a commit says of itself."""

from dataclasses import replace
from pathlib import Path

import deltalake
import pytest
from edges.things import TABLE, beside, content, things
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.edges.lake import Lake

pytestmark = pytest.mark.lake


def test_what_was_added_since_a_version_can_be_told(spark: SparkSession, lake: Lake) -> None:
    first = lake.append(TABLE, things(spark, ("a", 1, "x")))
    lake.append(TABLE, things(spark, ("b", 1, "x")))
    last = lake.merge(TABLE, things(spark, ("b", 1, "x"), ("c", 1, "x")))

    added = lake.changes(TABLE, first.version, last.version, only_added=True)
    none = lake.changes(TABLE, last.version, last.version)

    assert added is not None
    assert sorted(row["id"] for row in added.collect()) == ["b", "c"]
    assert none is not None
    assert none.collect() == []


def test_a_table_whose_rows_were_changed_cannot_tell(spark: SparkSession, lake: Lake) -> None:
    first = lake.append(TABLE, things(spark, ("a", 1, "x")))
    last = lake.overwrite(TABLE, things(spark, ("b", 1, "x")))

    assert lake.changes(TABLE, first.version, last.version, only_added=True) is None


def test_of_rows_that_changed_often_only_the_first_and_last_state_are_told(
    spark: SparkSession, lake: Lake
) -> None:
    first = lake.append(TABLE, things(spark, ("a", 1, "x"), ("b", 1, "x"), ("c", 1, "x")))
    for size in (2, 3):
        lake.merge(TABLE, things(spark, ("a", size, "x"), ("d", size, "x")), update=["size"])
    gone = things(spark, ("b", 0, "x"), ("d", 0, "x")).withColumn("gone", F.lit(True))
    last = lake.merge(TABLE, gone)

    changes = lake.changes(TABLE, first.version, last.version)

    assert changes is not None
    found = sorted((row["is_now"], row["id"], row["size"]) for row in changes.collect())
    assert found == [(False, "a", 1), (False, "b", 1), (True, "a", 3)]


def test_a_table_whose_old_files_are_gone_cannot_tell(spark: SparkSession, lake: Lake) -> None:
    first = lake.append(TABLE, things(spark, ("a", 1, "x")))
    lake.append(TABLE, things(spark, ("b", 1, "x")))
    spark.sql(f"OPTIMIZE {lake.name(TABLE)}")
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(f"VACUUM {lake.name(TABLE)} RETAIN 0 HOURS")
    spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")

    assert lake.changes(TABLE, first.version, lake.version(TABLE)) is None


def test_a_table_whose_old_log_is_gone_cannot_tell(spark: SparkSession, lake: Lake) -> None:
    first = lake.append(TABLE, things(spark, ("a", 1, "x")))
    last = lake.append(TABLE, things(spark, ("b", 1, "x")))
    deltalake.DeltaTable(f"{lake.root}/things").create_checkpoint()
    for version in range(last.version):
        (Path(lake.root) / f"things/_delta_log/{version:020}.json").unlink()

    assert lake.changes(TABLE, first.version - 1, last.version) is None


def test_rows_come_change_and_go_in_one_commit_that_says_why(
    spark: SparkSession, lake: Lake
) -> None:
    rows = things(spark, ("a", 1, "x"), ("b", 1, "x"), ("c", 1, "x"))
    before = lake.overwrite(TABLE, rows, note="made")
    changes = things(spark, ("b", 2, "y"), ("c", 1, "x"), ("d", 4, "y"), ("e", 5, "y"))
    gone = changes.withColumn("gone", F.col("id").isin("c", "e"))

    written = lake.merge(
        TABLE,
        gone,
        update=["size"],
        stamp=["seen"],
        where="old.size > 0",
        note="brought up to date",
    )

    assert content(lake) == [("a", 1, "x"), ("b", 2, "y"), ("d", 4, "y")]
    assert (written.rows, written.version) == (3, before.version + 1)
    assert lake.note(TABLE) == ("brought up to date", before.version)


def test_a_note_holds_until_rows_may_have_changed(spark: SparkSession, lake: Lake) -> None:
    made = lake.overwrite(TABLE, things(spark, ("a", 1, "x")), note="made")
    spark.sql(f"OPTIMIZE {lake.name(TABLE)}")
    spark.sql(f"ALTER TABLE {lake.name(TABLE)} SET TBLPROPERTIES ('a' = 'b')")

    before = lake.note(TABLE)
    spark.sql(f"RESTORE TABLE {lake.name(TABLE)} TO VERSION AS OF {made.version - 1}")

    assert before == ("made", made.version - 1)
    assert lake.note(TABLE)[0] is None


def test_a_table_whose_first_write_failed_has_no_note(spark: SparkSession, lake: Lake) -> None:
    with pytest.raises(Exception, match="size_is_positive"):
        lake.overwrite(TABLE, things(spark, ("a", -1, "x")), note="made")

    assert lake.note(TABLE)[0] is None


def test_an_old_table_begins_to_keep_its_changes(spark: SparkSession, lake: Lake) -> None:
    lake.append(replace(TABLE, keeps_changes=False), things(spark, ("a", 1, "x")))
    again = beside(lake, Lake)

    first = again.append(TABLE, things(spark, ("b", 1, "x")))
    last = again.append(TABLE, things(spark, ("c", 1, "x")))

    added = again.changes(TABLE, first.version, last.version, only_added=True)
    assert added is not None
    assert [row["id"] for row in added.collect()] == ["c"]
