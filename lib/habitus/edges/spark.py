"""The Spark session."""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from habitus.config import SparkSettings
from habitus.errors import SettingsError

# Columns, as Parquet names them, whose values hardly repeat: a dictionary of them is built in vain.
_HARDLY_REPEATED = (
    "event_id",
    "event_ids.list.element",
    "events.list.element.event_id",
    "events.list.element.event_time",
    "new_values.list.element.event_id",
    "new_values.list.element.event_time",
    "session_id",
    "started_at",
    "ended_at",
    "unit_id",
)
# Bytes of a compacted file.
FILE_SIZE = 128 << 20
_DELTA = "io.delta.sql.DeltaSparkSessionExtension"
# What habitus relies on wherever it runs; conf/spark-defaults.conf holds what a cluster may change.
_ALWAYS = {
    "spark.sql.extensions": _DELTA,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Times come from data and mean the same everywhere.
    "spark.sql.session.timeZone": "UTC",
    # A malformed value becomes null and the row is rejected with its reason, not the whole job.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Eight bytes with statistics, by which readers skip; the default has twelve and none.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    **{f"spark.hadoop.parquet.enable.dictionary#{column}": "false" for column in _HARDLY_REPEATED},
    # Compacted files: large enough to read in one go, and enough of them to skip some.
    "spark.databricks.delta.optimize.maxFileSize": str(FILE_SIZE),
    # A chain of jobs has some hundred pieces of generated code and comes back to most; by default
    # the last hundred are kept, and what is not is compiled anew.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # By default each call that makes part of a query tells Java where it was called from, which is
    # half of all that a job says to it, and Java looks through its own stack: for a line of error
    # messages that is not shown.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.sql.dataFrameQueryContext.enabled": "false",
    # Python workers would otherwise each start as many threads as the machine has cores.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
}
_LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.showConsoleProgress": "false",
    # What the UI would show of each plan, each time that it changes: at length it is a tenth of all
    # that a small query costs.
    "spark.sql.ui.explainMode": "simple",
    # One Delta snapshot is a few hundred rows on a laptop; the default is 50 tasks for it.
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.sql.warehouse.dir": ".spark-warehouse",
}
# A process without workers of its own misses its own heartbeats only while it is stopped, as when a
# laptop sleeps, and then it can go on.
_ALONE = {"spark.network.timeout": "30d"}


def submitted() -> bool:
    """Whether spark-submit started this process, and so decided master and memory."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def start_spark(settings: SparkSettings, name: str, quiet: bool = True) -> SparkSession:
    """Start Spark, or join the session that is already running.

    Args:
        settings: What spark-submit has not decided.
        name: What the Spark application is called after.
        quiet: Whether Spark, when spark-submit started it, logs errors only.

    Raises:
        SettingsError: Delta's jars are not on Spark's class path.
    """
    # PySpark hands over times in the process's zone; in UTC they are what the tables say.
    os.environ["TZ"] = "UTC"
    time.tzset()
    # LightGBM's threads would spin while they wait for each other, and keep others from the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Workers run the driver's own Python unless spark-submit names another for them.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = dict(_ALWAYS)
    if not submitted():
        options |= _LOCAL | {
            "spark.master": settings.master,
            "spark.driver.memory": settings.driver_memory,
            "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        }
        if settings.master.startswith("local"):
            options |= _ALONE
    builder = SparkSession.builder.appName(f"habitus {name}")
    for key, value in (options | settings.options).items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if submitted() and quiet:
        spark.sparkContext.setLogLevel("ERROR")
    if not spark._jvm.org.apache.spark.util.Utils.classIsLoadable(_DELTA):  # type: ignore[union-attr]
        raise SettingsError(
            "Spark's class path",
            f"{_DELTA} is not on it",
            "Run `make setup`, or give spark-submit --properties-file conf/spark-defaults.conf.",
        )
    return spark


def local_frame(
    spark: SparkSession, schema: StructType | str, rows: Iterable[Mapping[str, Any]] = ()
) -> DataFrame:
    """Rows that are here as a frame; a missing value is null.

    Spark reads them as Arrow. It would have Python workers hand over rows as they are, each time
    that the frame is read, and for none as well.

    Args:
        spark: The running session.
        schema: The frame's, or its columns in Spark's words.
        rows: Values by column.

    Raises:
        ValueError: A value is missing where there must be one, or does not fit its column's type.
        TypeError: The same, of a value that is of another kind altogether.
    """
    columns = (
        schema if isinstance(schema, StructType) else cast(StructType, StructType.fromDDL(schema))
    )
    table = pa.Table.from_pylist(list(rows), schema=to_arrow_schema(columns))
    return spark.createDataFrame(table, columns)
