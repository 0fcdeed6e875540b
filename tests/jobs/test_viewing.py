"""What BI tools read: the same figures from Spark over JDBC, DuckDB, Polars and delta-rs."""

import io
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyspark
import pytest
from deltalake import DeltaTable
from jobs.conftest import Lines, small_settings
from jobs.other_readers import (
    cases_by_delta_rs,
    cases_by_polars,
    read_delta_in,
    views_by_delta_rs,
    views_by_polars,
)
from jobs.viewed_rows import DAYS, FLAGS, GROUPS, NOON, case_row, day_row, flag_row
from polars import selectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.edges.lake import Lake
from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import JobContext
from habitus.tables import ANOMALIES, CASES, FLAG_DAYS
from habitus.views import VIEWS

pytestmark = pytest.mark.jobs


@dataclass(frozen=True)
class Shop:
    """One lake and the two ways to it."""

    named: Settings
    by_path: Settings


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A lake in a metastore, of which other readers know the folder only; its views are made twice.

    An older model has flagged 24 units on each of eight days, in files that each hold all days.
    """
    folder = tmp_path_factory.mktemp("shop")
    spark.sql("CREATE SCHEMA readers")
    named = small_settings(folder, "lake.catalog=spark_catalog", "lake.schema=readers")
    lake = Lake(spark, named.lake)
    older = [
        flag_row((f"o{i}", f"user{i % 7}", 1 + i % 8, 1e-3 / (1 + i), "low", "watch", None, "open"))
        | {"model_id": "m-0"}
        for i in range(192)
    ]
    flags = spark.createDataFrame([*map(flag_row, FLAGS), *older], ANOMALIES.schema())
    lake.append(ANOMALIES, flags.repartition(3, "unit_id"))
    lake.append(CASES, spark.createDataFrame([case_row(*one) for one in GROUPS], CASES.schema()))
    days = [day_row(*one) for one in DAYS]
    lake.append(FLAG_DAYS, spark.createDataFrame(days, FLAG_DAYS.schema()))
    root = Path(lake.location(ANOMALIES)).parent
    by_path = small_settings(folder, f"lake.root={root}")
    for settings in (named, named, by_path):
        JOBS["views"].run(JobContext("views", settings, spark, Lines()))
    yield Shop(named, by_path)
    spark.sql("DROP SCHEMA readers CASCADE")


def _rows(frame: pl.DataFrame, key: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The rows in order; times in UTC."""
    times = selectors.datetime(time_zone="*").dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return frame.with_columns(times).sort(key).rows()


def _in_spark(frame: DataFrame) -> pl.DataFrame:
    found = pl.from_arrow(frame.toArrow())
    assert isinstance(found, pl.DataFrame)
    return found


@pytest.fixture(scope="module")
def views(spark: SparkSession, shop: Shop) -> dict[str, pl.DataFrame]:
    """What Spark finds in each view."""
    return {view.name: _in_spark(spark.table(f"readers.{view.name}")) for view in VIEWS}


def _of_this_model(views: dict[str, pl.DataFrame], name: str) -> list[tuple[Any, ...]]:
    frame = (
        views[name].filter(pl.col("model_id") == "m-1").drop("model_id", "unit_kind", strict=False)
    )
    return frame.sort(frame.columns[0]).rows()


def test_the_views_tell_of_days_users_and_decisions(views: dict[str, pl.DataFrame]) -> None:
    january = [date(2026, 1, day) for day in range(1, 5)]
    noons = [NOON + timedelta(days=day) for day in range(3)]
    assert _of_this_model(views, "daily_counts") == [
        (january[0], 100, 5, 0, 2, 3, 3, 2, 1, 0, 1, 1, 1, 1),
        (january[1], 90, 3, 1, 0, 3, 1, 1, 0, 1, 0, 0, 1, 0),
        (january[2], None, None, None, None, None, 1, 1, 0, 0, 0, 1, 0, 1),
        (january[3], 80, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0),
    ]
    told = "{}, as was found; it's strange.".format
    assert _of_this_model(views, "users_at_risk") == [
        ("ann", 2, 1, 1e-6, "critical", "challenge", told("a1"), noons[0], noons[0]),
        ("bob", 1, 1, 1e-4, "high", "challenge", told("b2"), noons[1], noons[1]),
    ]
    assert _of_this_model(views, "precision_by_decision") == [
        ("challenge", 2, 1, 1, 1.0),
        ("watch", 3, 3, 1, 1 / 3),
    ]


def test_the_metastores_views_are_as_declared(spark: SparkSession, shop: Shop) -> None:
    for view in VIEWS:
        schema = spark.table(f"readers.{view.name}").schema
        assert view.faults(schema) == []
        comments = [column.comment for column in view.columns]
        assert [part.metadata["comment"] for part in schema.fields] == comments
        found = spark.sql(f"SHOW TBLPROPERTIES readers.{view.name} ('habitus.contract')").first()
        assert found is not None
        assert found["value"] == str(view.contract)


@pytest.mark.parametrize("way", ["named", "by_path"])
def test_duckdb_runs_the_same_views(shop: Shop, views: dict[str, pl.DataFrame], way: str) -> None:
    script = Path(getattr(shop, way).lake.root, "views/duckdb.sql").read_text()
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    read_delta_in(connection, script)
    connection.execute(script)

    for view in VIEWS:
        found = connection.sql(f"from {view.name}").pl()
        assert found.columns == view.names
        assert _rows(found, view.key) == _rows(views[view.name], view.key)


@pytest.mark.parametrize("reader", [views_by_polars, views_by_delta_rs])
def test_polars_and_delta_rs_come_to_the_same(
    shop: Shop, views: dict[str, pl.DataFrame], reader: Callable[[str], dict[str, pl.DataFrame]]
) -> None:
    found = reader(shop.by_path.lake.root)

    for view in VIEWS:
        rows = _rows(found[view.name].select(view.names), view.key)
        assert rows == _rows(views[view.name], view.key)


def test_all_count_the_same_cases_and_their_flags(spark: SparkSession, shop: Shop) -> None:
    counted = "SELECT status, count(*), sum(n_flags) FROM readers.cases GROUP BY status"
    root = shop.by_path.lake.root

    found = sorted(map(tuple, spark.sql(counted).collect()))

    assert found == [("confirmed", 1, 2), ("dismissed", 1, 1), ("open", 1, 1)]
    assert cases_by_polars(root) == cases_by_delta_rs(root) == found


@pytest.mark.parametrize("day", [1, 3])
def test_delta_rs_reads_the_rows_of_one_day(shop: Shop, day: int) -> None:
    filters = [("event_date", "=", date(2026, 1, day)), ("model_id", "=", "m-1")]
    read = DeltaTable(f"{shop.by_path.lake.root}/anomalies").to_pyarrow_table(filters=filters)
    of_day = sorted(flag[0] for flag in FLAGS if flag[2] == day)
    assert sorted(read["unit_id"].to_pylist()) == of_day


def _beeline(port: int, script: Path) -> str:
    """What beeline prints of a script, tab-separated and without its prompts."""
    jars = Path(pyspark.__file__).parent / "jars"
    # The Hive client of a session, which Spark has no use for, makes itself a metastore when the
    # session ends, which takes long, unless there is to be one elsewhere.
    elsewhere = "hive.metastore.uris=thrift://127.0.0.1:9;hive.metastore.connect.retries=1"
    done = subprocess.run(
        (
            *("java", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"),
            *("org.apache.hive.beeline.BeeLine", "--silent=true", "--outputformat=tsv2"),
            *("-n", "analyst", "-u", f"jdbc:hive2://127.0.0.1:{port}/default?{elsewhere}"),
            *("-f", str(script)),
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return re.sub(r"^((0: jdbc:[^>]*|[. ]+)> ?)+", "", done.stdout, flags=re.MULTILINE)


@pytest.fixture
def thrift_port(spark: SparkSession) -> Iterator[int]:
    """The port of a Thrift server on the session of the tests."""
    # The server chooses a port that is free.
    options = {"hive.server2.thrift.bind.host": "127.0.0.1", "hive.server2.thrift.port": "0"}
    for name, value in options.items():
        spark.conf.set(name, value)
    servers = spark._jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2  # type: ignore[union-attr]
    server = servers.startWithContext(spark._jsparkSession.sqlContext())
    ports = [
        service.getPortNumber()
        for service in server.getServices()
        if service.getName() == "ThriftBinaryCLIService"
    ]
    yield ports[0]
    server.stop()
    for name in options:
        spark.conf.unset(name)


def test_beeline_reads_the_same_over_jdbc(
    shop: Shop, views: dict[str, pl.DataFrame], thrift_port: int, tmp_path: Path
) -> None:
    temporary = Path(shop.by_path.lake.root, "views/spark.sql").read_text()
    asked = [
        f"from {prefix}{view.name} select * order by {', '.join(view.key)};\n"
        for prefix in ("readers.", "")
        for view in VIEWS
    ]
    script = tmp_path / "ask.sql"
    script.write_text("".join([*asked[: len(VIEWS)], temporary, *asked[len(VIEWS) :]]))

    told = _beeline(thrift_port, script)

    for view in VIEWS:
        head = "\t".join(view.names) + "\n"
        expected = _rows(views[view.name], view.key)
        tables = told.split(head)[1:]
        assert len(tables) == 2
        for table in tables:
            lines = table.splitlines(keepends=True)[: len(expected)]
            found = pl.read_csv(
                io.StringIO(head + "".join(lines)),
                separator="\t",
                quote_char=None,
                null_values="NULL",
                try_parse_dates=True,
            )
            assert _rows(found, view.key) == expected


def test_a_query_for_one_day_reads_the_files_of_that_day(spark: SparkSession, shop: Shop) -> None:
    lake = Lake(spark, shop.named.lake)
    before = _files_by_day(lake)
    spark.conf.set("spark.databricks.delta.optimize.maxFileSize", "3000")
    try:
        lake.compact(ANOMALIES)
    finally:
        spark.conf.unset("spark.databricks.delta.optimize.maxFileSize")

    after = _files_by_day(lake)
    every = set(lake.read(ANOMALIES).inputFiles())
    assert {len(files) for files in before.values()} == {3}
    for day, files in after.items():
        of_day = F.col("event_date") == F.lit(day)
        assert len(files) < len(every)
        assert set(lake.read(ANOMALIES).where(of_day).inputFiles()) == files
        through_view = spark.table("readers.daily_counts").where(of_day).inputFiles()
        assert {file for file in through_view if "/anomalies/" in file} == files


def _files_by_day(lake: Lake) -> dict[date, set[str]]:
    """The files that hold rows of each day."""
    name = F.input_file_name().alias("file")
    held = lake.read(ANOMALIES).select("event_date", name).distinct().collect()
    days = {row["event_date"] for row in held}
    return {day: {row["file"] for row in held if row["event_date"] == day} for day in days}
