"""What a run would read and write."""

from collections.abc import Iterator, Sequence

from pyspark.sql import SparkSession

from habitus.config import Settings
from habitus.domain.features import feature_names
from habitus.domain.mapping import load_label_mapping, load_mapping
from habitus.edges.lake import Lake
from habitus.errors import SettingsError
from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import Arguments, JobContext, Silent
from habitus.table import Table
from habitus.tables import (
    ANOMALIES,
    CASES,
    EMBEDDINGS,
    EVALUATIONS,
    EVENTS,
    EVENTS_REJECTED,
    FLAG_DAYS,
    LABELS,
    NEIGHBOURS,
    RUNS,
    SCORES,
    SESSIONS,
    VOLUME_SHIFTS,
    features,
    sequences,
)


def declared_tables(settings: Settings) -> dict[str, Table]:
    """Every table of a lake with these settings, by name."""
    tables = (
        EVENTS,
        EVENTS_REJECTED,
        LABELS,
        SESSIONS,
        features(feature_names(settings.features)),
        sequences(settings.sequences.fields),
        SCORES,
        ANOMALIES,
        FLAG_DAYS,
        CASES,
        EMBEDDINGS,
        NEIGHBOURS,
        EVALUATIONS,
        VOLUME_SHIFTS,
        RUNS,
    )
    return {table.name: table for table in tables}


def plan(
    jobs: Sequence[str], arguments: Arguments, settings: Settings, spark: SparkSession
) -> Iterator[str]:
    """Say, for each job, which tables at which versions it would read and which it would write.

    Raises:
        SettingsError: The source mapping cannot be used.
    """
    lake = Lake(spark, settings.lake)
    tables = declared_tables(settings)
    for name in jobs:
        job = JOBS[name]
        yield f"{name}: {job.summary}"
        if name == "ingest":
            if arguments.source is None or arguments.input is None:
                raise SettingsError("ingest", "no source or no input", "Give --source and --input.")
            mapping = load_mapping(arguments.source)
            yield f"  reads {mapping.format} files in {arguments.input} as {mapping.name}"
        if name == "feedback" and arguments.source is not None:
            labels = load_label_mapping(arguments.source)
            yield f"  reads {labels.label_file.format} labels in {arguments.input} as {labels.name}"
        for table in job.reads:
            there = lake.exists(tables[table])
            version = f"version {lake.version(tables[table])}" if there else "not there yet"
            yield f"  reads {lake.name(tables[table])}, {version}"
        if name == "simulate":
            yield f"  replaces {settings.simulate.output}"
        for table in (*job.writes, RUNS.name):
            yield f"  writes {lake.name(tables[table])}"
        for folder in job.folders:
            yield f"  writes into {lake.root}/{folder}"
        yield from job.preview(JobContext(name, settings, spark, Silent(), arguments))
