"""Lakes of units that no other job has made: some thousand of a known chain, to train on."""

import json
from datetime import timedelta
from pathlib import Path

import builders
import numpy as np
import polars as pl
import pyarrow as pa
from delta.tables import DeltaTable
from jobs.conftest import Lines
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sequence_files import START, table_of

from habitus.config import Settings
from habitus.domain.features import feature_names
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.loading import load_settings
from habitus.tables import ANOMALIES, REASONS, features, sequences

WORDS = builders.vocabulary()
TABLE = sequences(WORDS.field_names)
SMALL = (
    f"sequences.fields={json.dumps(list(WORDS.field_names))}",
    "train.epochs=2",
    "train.batch_size=64",
    "train.behaviour={embedding: 4, hidden: 12, dropout: 0.1, context: [user_*]}",
)


def settings_in(folder: Path, *overrides: str) -> Settings:
    return load_settings(overrides=[*SMALL, f"lake.root={folder}", *overrides])


def rows(spark: SparkSession, count: int) -> DataFrame:
    """Units of a chain, evenly spread over the first eight days of 2026."""
    units = builders.units(count, 1, WORDS)
    found = table_of(units, 0).drop_columns(["event_ids", "ended_at", "context", "closed"])
    ended = [START + timedelta(days=8) * (k / count) for k in range(count)]
    offsets = pa.array(units.offsets.astype(np.int32))
    columns = {
        "ended_at": pa.array(ended, pa.timestamp("us", tz="UTC")),
        "context": pa.array(list(units.context), pa.list_(pa.float32())),
        "closed": pa.array(units.closed),
        "amounts": pa.ListArray.from_arrays(offsets, pa.array(units.amounts)),
        "gaps": pa.ListArray.from_arrays(offsets, pa.array(units.gaps)),
    }
    for name, column in columns.items():
        found = found.append_column(name, column)
    number = F.substring("unit_id", 2, 9).cast("int")
    return (
        spark.createDataFrame(found)
        .withColumn("unit_kind", F.lit("session"))
        .withColumn("user_id", F.concat(F.lit("user"), number % 50))
        .withColumn("started_at", F.col("ended_at"))
        .withColumn("event_ids", F.array_repeat(F.lit("e"), F.col("n_events")))
        .withColumn("event_times", F.array_repeat(F.col("ended_at"), F.col("n_events")))
        .withColumn("event_date", F.to_date("started_at"))
        .withColumn("vocabulary_id", F.lit(WORDS.vocabulary_id))
        .withColumn("fingerprint", F.xxhash64("unit_id"))
        .select(*(F.col(c.name).cast(c.type).alias(c.name) for c in TABLE.columns))
    )


def context_of(spark: SparkSession, settings: Settings) -> JobContext:
    return JobContext("train", settings, spark, Lines())


def lake_of(spark: SparkSession, folder: Path, count: int, *overrides: str) -> JobContext:
    """A context on a lake that holds the units and their vocabulary."""
    context = context_of(spark, settings_in(folder, *overrides))
    context.artefacts.write_vocabulary(WORDS)
    context.lake.overwrite(TABLE, rows(spark, count).repartition(3, "unit_id"))
    return context


def flags_of(units: DataFrame, model_id: str = "m-1") -> DataFrame:
    """Open flags of units, as `anomalies` has them, for the hour."""
    given = {
        "event_time": F.col("started_at"),
        "score": F.lit(1.0),
        "p_value": F.lit(1e-3),
        "segment": F.lit("all"),
        "severity": F.lit("medium"),
        "reasons": F.from_json(F.lit('[{"rank": 1, "field": "hour"}]'), REASONS.type),
        "summary": F.lit("At 03:00."),
        "decision": F.lit("watch"),
        "decided_by": F.lit("severity medium"),
        "suppressed_by": F.lit(None).cast("string"),
        "status": F.lit("open"),
        "model_id": F.lit(model_id),
        "run_id": F.lit("r"),
        "scored_at": F.col("started_at"),
    }
    return units.withColumns(given).select(*ANOMALIES.names)


def only(detector: str) -> tuple[str, str]:
    """Overrides for this detector alone."""
    return f"detectors=[{detector}]", f"alerts.detector={detector}"


def write_units(spark: SparkSession, settings: Settings, count: int) -> None:
    """Make the tables that scoring reads: the units, and features of none."""
    lake, names = context_of(spark, settings).lake, feature_names(settings.features)
    lake.overwrite(TABLE, rows(spark, count))
    lake.overwrite(features(names), local_frame(spark, features(names).schema()))


def with_alerts(settings: Settings, **alerts: object) -> Settings:
    """The settings with others of `alerts`."""
    return settings.model_copy(update={"alerts": settings.alerts.model_copy(update=alerts)})


def flags_in(settings: Settings) -> pl.DataFrame:
    """The flags in time, each with the `field` of its first reason."""
    field = pl.col("reasons").list.first().struct.field("field").alias("field")
    flags = pl.read_delta(f"{settings.lake.root}/anomalies").with_columns(field)
    return flags.sort("event_time", "unit_id")


def give_status(spark: SparkSession, settings: Settings, status: str, unit_ids: list[str]) -> None:
    flags = DeltaTable.forPath(spark, f"{settings.lake.root}/anomalies")
    flags.update(F.col("unit_id").isin(unit_ids), {"status": F.lit(status)})
