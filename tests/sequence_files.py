"""Files of `sequences` as far as training reads them, without Spark."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import builders
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from habitus.domain.units import Units
from habitus.edges.feed import Source

WORDS = builders.vocabulary()
FIELDS = WORDS.field_names
START = datetime(2026, 1, 1, tzinfo=UTC)


def table_of(units: Units, first: int) -> pa.Table:
    """Rows of units; unit k ends k hours after the start."""
    offsets = pa.array(units.offsets.astype(np.int32))

    def lists(values: np.ndarray) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    number = np.arange(first, first + len(units))
    context = [[float(k), None if k % 3 == 0 else float(k) / 2] for k in number.tolist()]
    return pa.table(
        {
            "unit_id": [f"u{k}" for k in number],
            **{name: lists(units.tokens[name]) for name in FIELDS},
            "context": pa.array(context, pa.list_(pa.float32())),
            "n_events": pa.array(units.lengths.astype(np.int32)),
            "scored_from": pa.array(units.scored_from),
            "closed": pa.array(number % 2 == 0),
            "ended_at": pa.array([START + timedelta(hours=k) for k in number.tolist()]),
            "event_ids": lists(np.array(["x"] * int(units.offsets[-1]))),
        }
    )


def source(folder: Path, files: int, each: int = 30, days: float = 100) -> Source:
    found = []
    for number in range(files):
        units = builders.units(each, number, WORDS)
        path = folder / f"part {number}.parquet"
        # Times as Spark writes them.
        pq.write_table(
            table_of(units, number * each),
            path,
            row_group_size=10,
            use_deprecated_int96_timestamps=True,
        )
        found.append((str(path), each))
    return Source(tuple(found), FIELDS, None, START + timedelta(days=days))
