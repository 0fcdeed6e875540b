"""Real Delta tables, by path and in a metastore."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import pytest
from edges.things import TABLE, beside, content, things
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.config import LakeSettings
from habitus.edges.lake import Lake
from habitus.edges.spark import local_frame
from habitus.errors import InputError
from habitus.table import Column

pytestmark = pytest.mark.lake


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


def test_an_update_changes_columns_of_the_rows_that_fulfil_its_condition(
    spark: SparkSession, lake: Lake
) -> None:
    lake.append(TABLE, things(spark, ("a", 1, "x"), ("b", 2, "x")))

    lake.update(TABLE, "id = 'b'", {"size": F.lit(3)})

    assert content(lake) == [("a", 1, "x"), ("b", 3, "x")]


def test_an_older_version_can_be_read_and_its_files_listed(spark: SparkSession, lake: Lake) -> None:
    first = lake.overwrite(TABLE, things(spark, ("a", 1, "x"))).version
    lake.overwrite(TABLE, things(spark, ("b", 1, "x")))

    files = lake.files(TABLE, first)
    assert [row["id"] for row in lake.read(TABLE, first).collect()] == ["a"]
    assert [row["id"] for row in spark.read.parquet(*files).collect()] == ["a"]


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


def test_a_table_tells_readers_the_version_of_its_contract_and_another_is_refused(
    spark: SparkSession, lake: Lake
) -> None:
    lake.append(TABLE, things(spark, ("a", 1, "x")))
    first = replace(TABLE, contract=1)
    colour = Column("colour", "string", "Hue.")
    second = replace(TABLE, contract=2, columns=(*TABLE.columns, colour))

    # A table from before there were versions has none, and gets one when it is written.
    assert lake.read(first).count() == 1
    beside(lake, Lake).append(first, things(spark, ("b", 1, "x")))

    metadata = deltalake.DeltaTable(f"{lake.root}/things").metadata()
    assert metadata.configuration["habitus.contract"] == "1"
    for act in (beside(lake, Lake).read, beside(lake, Lake).create):
        with pytest.raises(
            InputError, match=r"keeps version 1 .* this habitus version 2\. Run the"
        ):
            act(second)
    assert lake.read(first).count() == 2


def test_fields_say_what_they_mean_and_an_older_table_whose_do_not_is_taken(
    spark: SparkSession, lake: Lake
) -> None:
    parts = Column.of_structs("parts", "Its parts.", Column("kg", "double", "It's the weight."))
    told = replace(TABLE, columns=(*TABLE.columns, parts))
    untold = (*TABLE.columns, replace(parts, fields=()))
    rows: list[dict[str, Any]] = [{"id": name, "size": 1, "parts": [{"kg": 1.0}]} for name in "ab"]
    frame = local_frame(spark, told.schema(), rows)
    for table in (told, replace(told, name="older", columns=untold)):
        lake.append(table, frame.where("id = 'a'"))
    heavier = frame.withColumn("parts", F.expr("array(named_struct('kg', 2D))"))

    for table in (told, replace(told, name="older")):
        assert beside(lake, Lake).merge(table, heavier, update=["parts"]).rows == 2
    assert '{"comment":"It\'s the weight."}' in lake.read(told).schema.json()


def test_a_check_that_is_new_holds_for_a_table_that_is_there(
    spark: SparkSession, lake: Lake
) -> None:
    lake.append(replace(TABLE, checks={}), things(spark, ("a", 1, "x")))

    with pytest.raises(Exception, match="size_is_positive"):
        beside(lake, Lake).append(TABLE, things(spark, ("b", -1, "x")))


def test_a_creation_that_was_killed_in_its_first_commit_is_done_again(
    spark: SparkSession, lake: Lake
) -> None:
    log = Path(lake.root, "things", "_delta_log")
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.d5510d57.tmp").touch()

    lake.append(TABLE, things(spark, ("a", 1, "x")))

    assert lake.read(TABLE).count() == 1


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
