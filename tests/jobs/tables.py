"""What is in a lake's tables, but for what is allowed to differ from run to run."""

from pathlib import Path
from typing import Any

import polars as pl

from habitus.edges.lake import Lake
from habitus.tables import SESSIONS

# The clock's and chance's: when a run started, and its id.
_OF_THE_RUN = ("ingested_at", "scored_at", "embedded_at", "found_at", "run_id")
TABLES = (
    "events",
    "events_rejected",
    "labels",
    "sessions",
    "features",
    "sequences",
    "scores",
    "anomalies",
    "flag_days",
    "evaluations",
)


def content(lake: Path | str, table: str) -> list[str]:
    """Every row of a table as text, sorted."""
    frame = pl.read_delta(f"{lake}/{table}").drop(*_OF_THE_RUN, strict=False)
    return sorted(str(row) for row in frame.iter_rows())


def sessions(lake: Lake) -> list[Any]:
    """Every session; how often each thing was done in it is a map, which cannot be sorted."""
    return sorted(tuple(row) for row in lake.read(SESSIONS).drop("n_actions").collect())


def contents(lake: Path | str) -> dict[str, list[str]]:
    """Every table's rows."""
    return {table: content(lake, table) for table in TABLES}


def runs(lake: Path | str) -> list[dict[str, Any]]:
    """The rows of `runs`, the earliest first."""
    return pl.read_delta(f"{lake}/runs").sort("started_at").to_dicts()
