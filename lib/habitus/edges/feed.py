"""Feeds training with units from the Parquet files of one table version. Imports Petastorm alone.

Petastorm reads row groups; its batch reader cannot deliver lists of differing lengths, so each
row group is flattened, as it is read, into one row whose lists are the units end to end.
"""

import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from petastorm import TransformSpec, make_batch_reader
from petastorm.etl.dataset_metadata import load_row_groups

from habitus.domain.sequences import FILES_PER_WORKER
from habitus.domain.units import Units
from habitus.errors import TrainingError

_COUNTS = ("n_events", "scored_from", "closed")


@dataclass(frozen=True)
class Source:
    """Units of one part of the time split, in the files of one table version.

    Args:
        files: Files that hold such units, with how many each holds; paths or URIs.
        fields: Token columns to read.
        after: Units that end before this are left out; none for no limit.
        until: Units that end at this time or later are left out.
    """

    files: tuple[tuple[str, int], ...]
    fields: tuple[str, ...]
    after: datetime | None
    until: datetime

    @property
    def units(self) -> int:
        """How many units there are."""
        return sum(number for _, number in self.files)

    def share(self, rank: int, size: int) -> tuple[list[str], int]:
        """The files that a rank reads, and of how many units it keeps one in each.

        With several files per rank each takes whole files, so that every file is read once, the
        largest first to the rank with the fewest units. With fewer files all ranks read all of
        them, and each keeps every so many-th unit of a row group.
        """
        if len(self.files) < FILES_PER_WORKER * size or size == 1:
            return [file for file, _ in self.files], size
        loads = [0] * size
        mine = []
        for file, number in sorted(self.files, key=lambda pair: (-pair[1], pair[0])):
            lightest = loads.index(min(loads))
            loads[lightest] += number
            if lightest == rank:
                mine.append(file)
        return mine, 1


def read(source: Source, rank: int = 0, size: int = 1) -> Generator[Units]:
    """One rank's units once, a row group at a time, in the order of the files."""
    with closing(_passes(source, rank, size, None)) as passes:
        yield from next(passes)


def read_endlessly(source: Source, rank: int, size: int, seed: int) -> Generator[Units]:
    """One rank's units over and over, in an order of row groups that the seed decides.

    Raises:
        TrainingError: There are none.
    """
    with closing(_passes(source, rank, size, seed)) as passes:
        for units_of_pass in passes:
            found = 0
            for units in units_of_pass:
                found += len(units)
                yield units
            if not found:
                raise TrainingError(
                    f"training process {rank} of {size}",
                    f"its {len(source.share(rank, size)[0])} files hold no unit to train on",
                    "Set train.workers lower, or move split.train_until.",
                )


def _passes(source: Source, rank: int, size: int, seed: int | None) -> Generator[Iterator[Units]]:
    """Passes over one rank's files, each to be used up before the next is asked for."""
    files, one_in = source.share(rank, size)
    # Petastorm's calls into pyarrow's old interface warn dozens of times per reader.
    warnings.filterwarnings("ignore", module="petastorm")
    warnings.filterwarnings("ignore", message="DatetimeTZBlock")
    reader = make_batch_reader(
        [_uri(file) for file in sorted(files)],
        schema_fields=[*source.fields, "context", *_COUNTS, "ended_at"],
        transform_spec=_Flatten(source, rank if one_in > 1 else 0, one_in).spec(),
        # One thread keeps the order of row groups, and reads faster than the model learns.
        workers_count=1,
        results_queue_size=1,
        shuffle_row_groups=seed is not None,
        seed=seed,
        # Petastorm may take a finite reader for finished before it has started, and lose all its
        # rows; so the reader is endless, and the row groups of a pass are counted here.
        num_epochs=None,
    )
    row_groups = len(load_row_groups(reader.dataset))
    try:
        while True:
            parts = (_units(row, source.fields) for row in islice(reader, row_groups))
            yield (units for units in parts if len(units))
    finally:
        reader.stop()
        reader.join()


def _uri(file: str) -> str:
    # Petastorm takes the path as it stands, so nothing in it may be quoted.
    return file if "://" in file else f"file://{Path(file).absolute()}"


@dataclass(frozen=True)
class _Flatten:
    """Turns a row group into one row of flat arrays, keeping the units that are wanted."""

    source: Source
    rank: int
    one_in: int

    def spec(self) -> TransformSpec:
        lists = [(name, np.int32, (None,), False) for name in (*self.source.fields, *_COUNTS)]
        return TransformSpec(
            self,
            edit_fields=[*lists, ("context", np.float32, (None,), False)],
            removed_fields=["ended_at"],
        )

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        ended = pd.to_datetime(rows["ended_at"], utc=True)
        wanted = (ended < self.source.until).to_numpy()
        if self.source.after is not None:
            wanted &= (ended >= self.source.after).to_numpy()
        if self.one_in > 1:
            wanted &= np.arange(len(rows)) % self.one_in == self.rank
        rows = rows[wanted]
        flat: dict[str, list[Any]] = {
            name: [rows[name].to_numpy().astype(np.int32)] for name in _COUNTS
        }
        for name in self.source.fields:
            flat[name] = [_end_to_end(rows[name].tolist(), np.int32)]
        flat["context"] = [_end_to_end(rows["context"].tolist(), np.float32)]
        return pd.DataFrame(flat)


def _end_to_end(lists: Sequence[Any], kind: type) -> Any:
    return np.concatenate(lists).astype(kind) if lists else np.zeros(0, dtype=kind)


def _units(row: Any, fields: tuple[str, ...]) -> Units:
    lengths = row.n_events[0].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    context = row.context[0].astype(np.float32)
    unread = np.zeros(offsets[-1], dtype=np.float32)
    return Units(
        offsets=offsets,
        tokens={name: getattr(row, name)[0].astype(np.int32) for name in fields},
        amounts=unread,
        gaps=unread,
        context=context.reshape(len(lengths), len(context) // max(len(lengths), 1)),
        scored_from=row.scored_from[0].astype(np.int32),
        closed=row.closed[0].astype(bool),
    )
