"""Real Delta tables, by path and in a metastore."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.config import LakeSettings
from habitus.edges.lake import Lake
from habitus.errors import ConflictError, InputError
from habitus.table import Column, Table

pytestmark = pytest.mark.lake

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


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(
        spark,
        LakeSettings(root=str(tmp_path / "lake"), catalog=None, schema=None, compact_above=200),
    )


def things(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    return spark.createDataFrame(list(rows), TABLE.schema())


def content(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in lake.read(TABLE).collect())


def test_a_table_is_created_as_declared(spark: SparkSession, lake: Lake) -> None:
    lake.create(TABLE)

    schema = lake.read(TABLE).schema
    detail = spark.sql(f"DESCRIBE DETAIL {lake.name(TABLE)}").first()
    assert schema["size"].metadata["comment"] == "Its size."
    assert not schema["id"].nullable
    assert detail is not None
    assert detail["clusteringColumns"] == ["id"]
    assert detail["description"] == "A thing."


def test_a_row_that_breaks_a_check_is_refused_and_nothing_is_written(
    spark: SparkSession, lake: Lake
) -> None:
    lake.overwrite(TABLE, things(spark, ("a", 1, "x")))

    with pytest.raises(Exception, match="size_is_positive"):
        lake.overwrite(TABLE, things(spark, ("b", 2, "x"), ("c", -1, "x")))

    assert content(lake) == [("a", 1, "x")]


def test_merging_twice_is_merging_once(spark: SparkSession, lake: Lake) -> None:
    rows = things(spark, ("a", 1, "x"), ("b", 2, "x"))

    assert lake.merge(TABLE, rows, update=["size"]).rows == 2
    assert lake.merge(TABLE, rows, update=["size"]).rows == 0
    assert content(lake) == [("a", 1, "x"), ("b", 2, "x")]


def test_only_rows_that_differ_are_updated_and_stamped(spark: SparkSession, lake: Lake) -> None:
    lake.merge(TABLE, things(spark, ("a", 1, "x"), ("b", 5, "x")))

    written = lake.merge(
        TABLE, things(spark, ("a", 1, "y"), ("b", 2, "y"), ("c", 3, "y")), ["size"], ["seen"]
    )

    assert written.rows == 2
    assert content(lake) == [("a", 1, "x"), ("b", 2, "y"), ("c", 3, "y")]


def test_a_merge_without_updates_leaves_rows_as_they_are(spark: SparkSession, lake: Lake) -> None:
    lake.merge(TABLE, things(spark, ("a", 1, "x")))

    assert lake.merge(TABLE, things(spark, ("a", 2, "y"), ("b", 2, "y"))).rows == 1
    assert lake.merge(TABLE, things(spark, ("a", 2, "y"), ("b", 2, "y"))).rows == 0
    assert content(lake) == [("a", 1, "x"), ("b", 2, "y")]


def test_an_older_version_can_be_read_and_its_files_listed(spark: SparkSession, lake: Lake) -> None:
    first = lake.overwrite(TABLE, things(spark, ("a", 1, "x"))).version
    lake.overwrite(TABLE, things(spark, ("b", 1, "x")))

    files = lake.files(TABLE, first)
    assert [row["id"] for row in lake.read(TABLE, first).collect()] == ["a"]
    assert [row["id"] for row in spark.read.parquet(*files).collect()] == ["a"]


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
    again = Lake(spark, LakeSettings(root=lake.root, catalog=None, schema=None, compact_above=200))

    first = again.append(TABLE, things(spark, ("b", 1, "x")))
    last = again.append(TABLE, things(spark, ("c", 1, "x")))

    added = again.changes(TABLE, first.version, last.version, only_added=True)
    assert added is not None
    assert [row["id"] for row in added.collect()] == ["c"]


def test_a_missing_table_is_named(lake: Lake) -> None:
    with pytest.raises(InputError, match=r"lake/things`: no such table\. Run the job"):
        lake.read(TABLE)


def test_a_foreign_table_of_the_same_name_is_left_alone(spark: SparkSession, lake: Lake) -> None:
    spark.range(3).write.format("delta").save(f"{lake.root}/things")

    for act in (lake.read, lake.create):
        with pytest.raises(InputError, match="column 'size' is missing"):
            act(TABLE)
    with pytest.raises(InputError, match="Move a table that is not habitus's away"):
        lake.overwrite(TABLE, things(spark, ("a", 1, "x")))
    assert spark.read.format("delta").load(f"{lake.root}/things").count() == 3


def test_a_table_of_ours_takes_new_columns_when_it_is_rebuilt(
    spark: SparkSession, lake: Lake
) -> None:
    lake.overwrite(TABLE, things(spark, ("a", 1, "x")))
    colour = Column("colour", "string", "Hue.")
    wider = replace(TABLE, columns=(*TABLE.columns, colour))

    lake.overwrite(wider, spark.createDataFrame([("b", 1, "x", "red")], wider.schema()))

    assert [tuple(row) for row in lake.read(wider).collect()] == [("b", 1, "x", "red")]
    with pytest.raises(Exception, match="size_is_positive"):
        lake.append(wider, spark.createDataFrame([("c", -1, "x", "red")], wider.schema()))


def test_a_creation_that_was_killed_in_its_first_commit_is_done_again(
    spark: SparkSession, lake: Lake
) -> None:
    log = Path(lake.root, "things", "_delta_log")
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.d5510d57.tmp").touch()

    lake.append(TABLE, things(spark, ("a", 1, "x")))

    assert lake.read(TABLE).count() == 1


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


class LateLake(Lake):
    """A lake into which another run writes when a merge has seen that none did."""

    def _refuse_faults(self, table: Table, frame: DataFrame) -> None:
        super()._refuse_faults(table, frame)
        Lake(self._spark, self._settings).append(TABLE, things(self._spark, ("b", 2, "x")))


def test_a_merge_that_another_run_overtakes_at_the_last_moment_is_undone(
    spark: SparkSession, lake: Lake
) -> None:
    late = LateLake(
        spark, LakeSettings(root=lake.root, catalog=None, schema=None, compact_above=200)
    )
    late.create(TABLE)
    read = lake.version(TABLE)

    with pytest.raises(ConflictError, match="another run has changed the table"):
        late.merge(TABLE, things(spark, ("a", 1, "x")), made_from=read)

    assert content(lake) == [("b", 2, "x")]


def test_a_scattered_table_is_compacted_into_files_that_readers_can_skip(
    spark: SparkSession, lake: Lake
) -> None:
    for size in (1, 2, 3):
        lake.append(TABLE, things(spark, ("a", size, "x"), ("z", size, "x")))
    before, version = lake.layout(TABLE), lake.version(TABLE)

    lake.compact(TABLE)

    after = lake.layout(TABLE)
    assert (before.files, before.reads) == (6, {"id": 3.0})
    assert (after.files, after.reads) == (1, {"id": 1.0})
    changes = lake.changes(TABLE, version, lake.version(TABLE))
    assert changes is not None
    assert changes.count() == 0


def test_a_frame_of_another_shape_is_refused_before_anything_is_written(
    spark: SparkSession, lake: Lake
) -> None:
    with pytest.raises(InputError, match="column 'size' is bigint, not int"):
        lake.overwrite(TABLE, things(spark, ("a", 1, "x")).withColumn("size", _big()))


def _big() -> Any:
    from pyspark.sql import functions as F

    return F.lit(1).cast("bigint")


def test_a_metastore_lake_names_its_tables(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql("CREATE SCHEMA IF NOT EXISTS shop")
    settings = LakeSettings(
        root=str(tmp_path), catalog="spark_catalog", schema="shop", compact_above=200
    )
    lake = Lake(spark, settings)

    written = lake.overwrite(TABLE, things(spark, ("a", 1, "x")))
    lake.merge(TABLE, things(spark, ("b", 1, "x")))

    assert spark.table("shop.things").count() == 2
    assert [row["id"] for row in lake.read(TABLE, written.version).collect()] == ["a"]
    assert len(lake.files(TABLE, written.version)) >= 1
    spark.sql("DROP SCHEMA shop CASCADE")
