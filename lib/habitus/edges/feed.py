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
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from petastorm import TransformSpec, make_batch_reader
from petastorm.etl.dataset_metadata import load_row_groups
from pyarrow import fs
from pyarrow.filesystem import FileSystem

from habitus.domain.sequences import FILES_PER_WORKER
from habitus.domain.units import Units
from habitus.errors import InputError, TrainingError

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
    filesystem, paths = _Files.of(sorted(files))
    reader = make_batch_reader(
        [f"file://{path}" for path in paths],
        filesystem=filesystem,
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


class _Files(FileSystem):  # type: ignore[misc]
    """The files of one place, wherever pyarrow can read, in pyarrow's old interface.

    Petastorm knows no other. It takes paths as they stand, so nothing in them may be quoted.
    """

    def __init__(self, files: fs.FileSystem, absolute: bool) -> None:
        self._files, self._absolute = files, absolute

    @classmethod
    def of(cls, places: Sequence[str]) -> tuple[Self, list[str]]:
        """Paths or URIs of one place, and how its files are called there, from the root on.

        Raises:
            InputError: They are where pyarrow cannot read.
        """
        if "://" not in places[0]:
            return cls(fs.LocalFileSystem(), True), [str(Path(one).absolute()) for one in places]
        # What Hadoop calls s3a everybody else calls s3.
        scheme, _, rest = places[0].replace("s3a://", "s3://", 1).partition("://")
        start = f"{scheme}://{rest.partition('/')[0]}/"
        try:
            files, root = fs.FileSystem.from_uri(start)
        except (pa.ArrowInvalid, NotImplementedError) as error:
            raise InputError(
                places[0],
                f"training cannot read from {start}: {error}".rstrip("."),
                "Put the lake on s3, gs, hdfs or a mounted folder, or leave behaviour and "
                "fine_tuned out of detectors.",
            ) from error
        absolute = root.startswith("/")
        # Asked for each file, some places would be asked over the network where they are.
        keys = [one.partition("://")[2].partition("/")[2] for one in places]
        folder = f"/{root.strip('/')}".rstrip("/")
        return cls(files, absolute), [f"{folder}/{key}" for key in keys]

    def _path(self, path: str) -> str:
        return path if self._absolute else path.removeprefix("/")

    def _is(self, path: str, *types: fs.FileType) -> bool:
        return self._files.get_file_info(self._path(path)).type in types

    def exists(self, path: str) -> bool:
        return self._is(path, fs.FileType.File, fs.FileType.Directory)

    def isfile(self, path: str) -> bool:
        return self._is(path, fs.FileType.File)

    def isdir(self, path: str) -> bool:
        return self._is(path, fs.FileType.Directory)

    def open(self, path: str, mode: str = "rb") -> Any:
        return self._files.open_input_file(self._path(path))


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
