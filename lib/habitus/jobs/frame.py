"""What every job is given, and what every run leaves behind."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Protocol

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import RenderableType

from habitus.config import Settings
from habitus.edges.artefacts import ArtefactStore
from habitus.edges.lake import Lake, Written
from habitus.edges.spark import local_frame
from habitus.edges.spark_errors import spark_says, understood
from habitus.errors import ConflictError, HabitusError
from habitus.table import Table
from habitus.tables import RUNS

# How often a row of `runs` is tried to be brought up to date beside other runs.
_ATTEMPTS = 5
# Seconds after which, at the most, it is tried again; twice as many each further time.
_PAUSE = 1.0


class Reporter(Protocol):
    """Where a job's progress goes."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Show that a step is under way, and how long it took."""
        ...

    def say(self, text: str) -> None:
        """Show one line."""
        ...

    def show(self, renderable: RenderableType) -> None:
        """Show a table or anything else rich can print."""
        ...


class Silent:
    """A reporter that shows nothing."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Show nothing."""
        return nullcontext()

    def say(self, text: str) -> None:
        """Show nothing."""

    def show(self, renderable: RenderableType) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class Arguments:
    """What the command line gives a job beside the settings."""

    source: str | None = None
    input: str | None = None
    model: str | None = None


@dataclass
class JobContext:
    """One run of one job: its settings, the lake, and what it has read and written so far."""

    job: str
    settings: Settings
    spark: SparkSession
    reporter: Reporter
    arguments: Arguments = Arguments()
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    rows_in: dict[str, int] = field(default_factory=dict)
    rows_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lake = Lake(self.spark, self.settings.lake)
        self.artefacts = ArtefactStore(self.settings.lake.root)

    def read(self, table: Table) -> DataFrame:
        """Read a table at its latest version, and pin and record that version."""
        version = self.inputs.get(table.name)
        if version is None:
            version = self.inputs[table.name] = self.lake.version(table)
        return self.lake.read(table, version)

    def forget(self, *tables: Table) -> None:
        """From now on read these tables as they are then, at their latest version."""
        for table in tables:
            self.inputs.pop(table.name, None)

    def read_or_empty(self, table: Table) -> DataFrame:
        """Read a table that need not be there."""
        if self.lake.exists(table):
            return self.read(table)
        return local_frame(self.spark, table.schema())

    def read_now(self, table: Table) -> DataFrame:
        """Read a table as this run has written it, or, if it has not, as `read` does."""
        version = self.outputs.get(table.name)
        return self.read(table) if version is None else self.lake.read(table, version)

    def overwrite(self, table: Table, frame: DataFrame, note: str | None = None) -> int:
        """Replace a table's rows; returns how many it now has."""
        return self._wrote(table, self.lake.overwrite(table, frame, note))

    def merge(
        self,
        table: Table,
        frame: DataFrame,
        update: tuple[str, ...] = (),
        stamp: tuple[str, ...] = (),
        where: str = "true",
        note: str | None = None,
        made_from: int | None = None,
    ) -> int:
        """Insert new rows and update changed ones, see `Lake.merge`; returns how many were."""
        written = self.lake.merge(table, frame, update, stamp, where, note, made_from)
        rows = self._wrote(table, written)
        if rows and table.cluster_by and self.lake.is_scattered(table):
            self._compact(table)
        return rows

    def _compact(self, table: Table) -> bool:
        """Compact a table, unless another run writes it."""
        try:
            with self.reporter.step(f"compact {table.name}"):
                self.lake.compact(table)
        except ConflictError as error:
            self.reporter.say(str(error))
            return False
        return True

    def compact(self, table: Table) -> None:
        """Compact a table, and say what it was like and is."""
        before = self.lake.layout(table)
        if not before.files or not self._compact(table):
            return
        after = self.lake.layout(table)
        reads = ", ".join(
            f"one {name} in {after.reads[name]:.1f} of them ({count:.1f} before)"
            for name, count in before.reads.items()
        )
        self.reporter.say(
            f"{table.name}: {before.files:,} files are now {after.files:,} of "
            f"{after.size / after.files / 1e6:,.1f} MB; {reads}"
        )

    def _wrote(self, table: Table, written: Written) -> int:
        self.outputs[table.name] = written.version
        self.rows_out[table.name] = self.rows_out.get(table.name, 0) + written.rows
        self.reporter.say(f"{table.name}: {written.rows:,} rows written")
        return written.rows


@contextmanager
def persisted(frame: DataFrame) -> Iterator[DataFrame]:
    """Keep a frame that is read several times, as long as it is needed."""
    frame.persist()
    try:
        yield frame
    finally:
        frame.unpersist()


@dataclass(frozen=True)
class Job:
    """A job: what it does, and the tables it reads and writes.

    Args:
        name: What it is called by; the module of that name in this folder is its code.
        summary: What it does, one line.
        reads: Tables.
        writes: Tables.
        folders: Folders of the lake that it writes beside the tables.
        previews: Whether a dry run tells more of it than that.
    """

    name: str
    summary: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    folders: tuple[str, ...] = ()
    previews: bool = False

    def run(self, context: JobContext) -> None:
        """Do its work."""
        self._module().run(context)

    def preview(self, context: JobContext) -> Iterator[str]:
        """What a dry run tells of it beside, line by line."""
        yield from self._module().preview(context) if self.previews else ()

    def _module(self) -> ModuleType:
        # Imported when it is asked for: `ingest` need not wait for TensorFlow.
        return import_module(f"habitus.jobs.{self.name}")


def run_job(job: Job, context: JobContext) -> None:
    """Run a job and leave a row in `runs`, also when it fails.

    Raises:
        HabitusError: Whatever the job raised, in our words where we know what Spark means; other
            errors pass unchanged.
    """
    _record_start(context)
    try:
        job.run(context)
    except BaseException as error:
        known = error if isinstance(error, HabitusError) else understood(error)
        _record_failure(context, str(known) if known else f"{type(error).__name__}: {error}")
        if known is None or known is error:
            raise
        raise known from error
    _record_end(context, "done")


def _record_failure(context: JobContext, error: str) -> None:
    try:
        _record_end(context, "failed", error)
    except Exception as another:
        # Whatever keeps the run from being recorded, a full disk say, must not hide why it failed.
        context.reporter.say(f"{RUNS.name} could not be told: {spark_says(another)}")


def _record_start(context: JobContext) -> None:
    row = {
        "run_id": context.run_id,
        "job": context.job,
        "started_at": context.started_at,
        "ended_at": None,
        "status": "running",
        "inputs": context.inputs,
        "outputs": context.outputs,
        "rows_in": context.rows_in,
        "rows_out": context.rows_out,
        "settings": context.settings.model_dump_json(by_alias=True),
        "error": None,
    }
    context.lake.append(RUNS, local_frame(context.spark, RUNS.schema(), [row]))


def _record_end(context: JobContext, status: str, error: str | None = None) -> None:
    found = {
        "ended_at": F.lit(datetime.now(UTC)),
        "status": F.lit(status),
        "inputs": _map(context.inputs),
        "outputs": _map(context.outputs),
        "rows_in": _map(context.rows_in),
        "rows_out": _map(context.rows_out),
        "error": F.lit(error),
    }
    # Runs that were in each other's way try again at different times.
    chance = np.random.default_rng(list(context.run_id.encode()))
    for attempt in range(_ATTEMPTS):
        try:
            context.lake.update(RUNS, f"run_id = '{context.run_id}'", found)
            return
        except ConflictError:
            # Another run has said how it ended; what it says is about another row.
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE * 2**attempt * chance.uniform(0.5, 1))


def _map(counts: Mapping[str, int]) -> Column:
    pairs = (F.lit(part) for pair in counts.items() for part in pair)
    return F.create_map(*pairs).cast("map<string,bigint>")
