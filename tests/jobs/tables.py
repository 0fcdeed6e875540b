"""What is in a lake's tables, but for what is allowed to differ from run to run."""

from pathlib import Path
from typing import Any

import polars as pl

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


def contents(lake: Path | str) -> dict[str, list[str]]:
    """Every table's rows."""
    return {table: content(lake, table) for table in TABLES}


def runs(lake: Path | str) -> list[dict[str, Any]]:
    """The rows of `runs`, the earliest first."""
    return pl.read_delta(f"{lake}/runs").sort("started_at").to_dicts()
