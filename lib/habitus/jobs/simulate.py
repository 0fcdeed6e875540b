"""Make a simulated shop's raw event files and its label files."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from habitus.config import SimulateSettings
from habitus.domain.simulation.files import COLUMNS, FILE_ROWS, file_rows
from habitus.domain.simulation.shop import blocks
from habitus.edges.folders import Folder
from habitus.errors import SettingsError
from habitus.jobs.frame import JobContext

# A simulation is known by this file, which Spark leaves when all others are complete.
COMPLETE = "_SUCCESS"
BLOCKS_PER_TASK = 16


def run(context: JobContext) -> None:
    """Write the files; those of an earlier simulation are replaced."""
    settings = context.settings.simulate
    with context.reporter.step(f"simulate {settings.users:,} shoppers for {settings.days} days"):
        written = simulate(context.spark, settings, context.settings.seed)
    context.rows_out.update(written)
    context.reporter.say(
        f"{written['events']:,} rows of events and {written['labels']:,} labels "
        f"in {settings.output}"
    )


def simulate(
    spark: SparkSession, settings: SimulateSettings, seed: int, tasks: int | None = None
) -> dict[str, int]:
    """Write `events/day=*/` and `labels/day=*/` (by day of arrival, from 0) under the output.

    The files appear all at once when they are complete. They depend on settings and seed only;
    `tasks` decides over how many files the rows are spread.

    Returns:
        Rows written per folder.

    Raises:
        SettingsError: The output folder holds something else.
    """
    output = Folder(spark, settings.output)
    if not output.empty() and not all(output.holds(name) for name in (*COLUMNS, COMPLETE)):
        raise SettingsError(
            "simulate.output",
            f"{settings.output} holds something that is no simulation",
            "Name another folder; this one would be replaced.",
        )
    making = Folder(spark, f"{output.path}.making")
    making.delete()
    written = _write(spark, settings, seed, tasks or _tasks(settings), making.path)
    for name in COLUMNS:
        Folder(spark, f"{making.path}/folder={name}").rename(f"{making.path}/{name}")
    output.replace_by(making)
    return written


def _tasks(settings: SimulateSettings) -> int:
    count = blocks(settings)
    return max(min(count, 2), count // BLOCKS_PER_TASK)


def _write(
    spark: SparkSession, settings: SimulateSettings, seed: int, tasks: int, path: str
) -> dict[str, int]:
    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        numbers = (n for batch in batches for n in batch.column(0).to_pylist())
        return file_rows(settings, seed, numbers)

    schema = ", ".join(f"{field.name} {_SPARK_TYPES[field.type]}" for field in FILE_ROWS)
    lines = {name: F.sum(F.when(F.col("folder") == name, F.col("lines"))) for name in COLUMNS}
    counted = Observation()
    (
        spark.range(0, blocks(settings), 1, tasks)
        .mapInArrow(make, schema)
        .observe(counted, *(total.alias(name) for name, total in lines.items()))
        # A few long rows per file, so that sorting them costs nothing.
        .sortWithinPartitions("folder", "day", "block")
        .select("folder", "day", "value")
        .write.partitionBy("folder", "day")
        .mode("overwrite")
        .text(path)
    )
    return {name: int(counted.get[name] or 0) for name in COLUMNS}


_SPARK_TYPES = {
    pa.string(): "string",
    pa.int32(): "int",
    pa.int64(): "bigint",
}
