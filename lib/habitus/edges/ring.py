"""Training in one process, or in a ring of processes on Spark executors. Imports Horovod alone."""

import importlib
import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import tensorflow as tf
from pyspark.sql import SparkSession

from habitus import errors
from habitus.domain.models.training import Ring
from habitus.edges.gpu import gpu_for, use_one_gpu
from habitus.errors import TrainingError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Report = Callable[[str], None]

_SAID, _FAILED = "habitus says ", "habitus failed "
_REGISTERED_WITHIN = 30  # seconds after which an executor that is not there is not coming
# Horovod passes output on in blocks of so many bytes: this makes a line go before there is more.
_PUSHED = " " * 65_536
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3"}


class LocalRing:
    """A ring of one: this process."""

    rank = 0
    size = 1

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor, variables: list[Any]) -> list[Any]:
        """Gradients of the loss."""
        gradients: list[Any] = tape.gradient(loss, variables)
        return gradients

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """The values themselves."""
        return values

    def broadcast(self, variables: list[Any]) -> None:
        """Nobody to tell."""


class HorovodRing:
    """This process's place in a ring that Horovod has started."""

    def __init__(self) -> None:
        import horovod.tensorflow as hvd

        self._hvd = hvd
        hvd.init()
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()
        self.local_rank: int = hvd.local_rank()

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor, variables: list[Any]) -> list[Any]:
        """Gradients of the loss summed over the ring."""
        tape = self._hvd.DistributedGradientTape(tape, op=self._hvd.Sum, sparse_as_dense=True)
        gradients: list[Any] = tape.gradient(loss, variables)
        return gradients

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """The tensor summed over the ring."""
        return self._hvd.allreduce(values, op=self._hvd.Sum)

    def broadcast(self, variables: list[Any]) -> None:
        """Give every process the first one's values."""
        self._hvd.broadcast_variables([variable.value for variable in variables], root_rank=0)


@dataclass(frozen=True)
class Processes:
    """The processes of a ring.

    Args:
        workers: How many.
        start_timeout: How long they may take to start.
        restarts: How often a ring of several that broke is started again.
    """

    workers: int
    start_timeout: timedelta
    restarts: int = 0


class _BrokenRingError(TrainingError):
    """A process ended without a word, as one does that was killed."""


def launch(
    work: Callable[Concatenate[Ring, Report, Arguments], Result],
    processes: Processes,
    spark: SparkSession,
    report: Report,
    on_restart: Report,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Run the work on a ring of processes and return what the first one returns.

    One worker runs here. More are one Spark task each; the work, its arguments and its result
    must be picklable, and the work importable on the executors. Where a process of several is
    lost, all end and the work starts again from what it has stored; where it raises an error, all
    end for good.

    Args:
        work: Called as work(ring, report, *args, **kwargs) in every process.
        processes: How many, and how patient we are with them.
        spark: The session whose executors run them.
        report: Receives each line that the first process reports.
        on_restart: Receives why the work starts again, each time.
        *args: Arguments of the work.
        **kwargs: Further arguments.

    Raises:
        TrainingError: There are fewer slots than workers, or they did not start in time, or one
            of them was lost more often than restarts allow.
        HabitusError: Whatever the work raised; from several workers a TrainingError stands for any
            other error.
    """
    if processes.workers == 1:
        return work(LocalRing(), report, *args, **kwargs)
    _check_slots(processes.workers, _slots_in_time(spark, processes.workers))
    restarts = 0
    while True:
        try:
            return _ring_of(processes, spark, report, work, args, kwargs)
        except _BrokenRingError as error:
            if restarts == processes.restarts:
                raise
            restarts += 1
            on_restart(f"{error.problem}; restart {restarts} of {processes.restarts}")


def _ring_of(
    processes: Processes,
    spark: SparkSession,
    report: Report,
    work: Callable[..., Result],
    args: Any,
    kwargs: Any,
) -> Result:
    import horovod.spark

    lines = _Lines(report)
    try:
        results = horovod.spark.run(
            _run,
            args=(work, args, kwargs),
            num_proc=processes.workers,
            start_timeout=int(processes.start_timeout.total_seconds()),
            use_gloo=True,
            env=_ENVIRONMENT,
            stdout=lines,
            stderr=lines,
            verbose=0,
            # The executors' Python, which --archives may have put somewhere else than here.
            executable=spark.sparkContext.pythonExec,
        )
    except Exception as error:
        lines.raise_failure(error)
        place = f"train.workers={processes.workers}"
        if "timed out" in str(error).lower():
            raise TrainingError(
                place,
                f"the workers did not start within {processes.start_timeout.total_seconds():g} s",
                "Free the cluster's slots or raise train.start_timeout.",
            ) from error
        raise _BrokenRingError(
            place,
            f"a worker was lost: {lines.last or error}",
            "See --verbose for the workers' own words, raise train.restarts, or set "
            "train.workers=1.",
        ) from error
    lines.raise_failure()
    result: Result = results[0]
    return result


def slots(spark: SparkSession) -> int | None:
    """Spark tasks that can run at once; none where executors come as they are needed."""
    context = spark.sparkContext
    configuration = context.getConf()
    per_task = int(configuration.get("spark.task.cpus", "1") or 1)
    local = re.fullmatch(r"local(?:\[(\d+|\*).*\])?", str(context.master))
    if local:
        cores = local[1] or "1"
        return (os.cpu_count() or 1 if cores == "*" else int(cores)) // per_task
    per_executor = int(configuration.get("spark.executor.cores", "1") or 1) // per_task
    if configuration.get("spark.dynamicAllocation.enabled", "false") == "true":
        most = configuration.get("spark.dynamicAllocation.maxExecutors", None)
        return int(most) * per_executor if most else None
    if configuration.get("spark.executor.cores", None):
        status = context._jsc.sc().statusTracker()
        return (len(status.getExecutorInfos()) - 1) * per_executor  # the driver is one of them
    return int(context._jsc.sc().schedulerBackend().defaultParallelism()) // per_task


def _slots_in_time(spark: SparkSession, workers: int) -> int | None:
    """The slots, once there are enough or no more are coming."""
    waits = 0 if str(spark.sparkContext.master).startswith("local") else _REGISTERED_WITHIN
    while (found := slots(spark)) is not None and found < workers and waits > 0:
        time.sleep(1)
        waits -= 1
    return found


def _check_slots(workers: int, found: int | None) -> None:
    if found is not None and workers > found:
        raise TrainingError(
            f"train.workers={workers}",
            f"Spark can run {found} task{'' if found == 1 else 's'} at once, "
            "and each worker needs one",
            f"Set train.workers to at most {found}, or give Spark more executors or cores.",
        )


def _run(work: Any, args: Any, kwargs: Any) -> Any:
    """What each Spark task runs: the work in its place of the ring."""
    ring = HorovodRing()

    def report(line: str) -> None:
        if ring.rank == 0:
            print(f"{_SAID}{line}\n{_PUSHED}", flush=True)

    try:
        given = importlib.import_module("horovod.spark.task").get_available_devices()
        use_one_gpu(gpu_for(given, ring.local_rank))
        result = work(ring, report, *args, **kwargs)
    except Exception as error:
        if not _is_of_a_lost_worker(error):
            print(f"{_FAILED}{json.dumps(_in_words(error, ring))}", flush=True)
        raise
    return result if ring.rank == 0 else None


def _is_of_a_lost_worker(error: Exception) -> bool:
    """Whether this is how Horovod tells that another process of the ring has ended."""
    lost = isinstance(error, tf.errors.UnknownError | tf.errors.AbortedError)
    return lost and "Horovod" in str(error)


def _in_words(error: Exception, ring: Ring) -> list[str]:
    """The kind of error to raise for one of the work's, and its place, problem and mend."""
    if isinstance(error, errors.HabitusError):
        return [type(error).__name__, error.place, error.problem, error.mend]
    place = f"worker {ring.rank + 1} of {ring.size}"
    problem = f"{type(error).__name__}: {error}"
    mend = "See --verbose for the stack trace, among the workers' own words."
    return [TrainingError.__name__, place, problem, mend]


class _Lines(io.TextIOBase):
    """What the workers print: reports are passed on, failures and the last words kept.

    All other words go where those of libraries go.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._failure: list[str] | None = None
        self._refused: Exception | None = None
        self._begun: dict[int, str] = {}  # lines that have not ended, by thread
        self.last = ""

    def write(self, text: str) -> int:
        # Each stream of each worker comes by a thread of its own, in blocks that end anywhere.
        thread = threading.get_ident()
        *lines, self._begun[thread] = (self._begun.get(thread, "") + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def _take(self, line: str) -> None:
        # Horovod puts the rank and the stream's name before each line.
        line = re.sub(r"^\[\d+\]<std(out|err)>:", "", line).strip()
        if line.startswith(_SAID):
            self._pass_on(line.removeprefix(_SAID))
        elif line.startswith(_FAILED):
            self._failure = self._failure or json.loads(line.removeprefix(_FAILED))
        elif line:
            self.last = line
            print(line, file=sys.stderr)

    def _pass_on(self, said: str) -> None:
        try:
            self._report(said)
        except Exception as error:
            # Raised on, it ends the workers; all that is seen of it is that one of them was lost.
            self._refused = self._refused or error
            raise

    def raise_failure(self, cause: BaseException | None = None) -> None:
        """Raise what the report raised, or what the work did, if it said so."""
        if self._refused is not None:
            raise self._refused from cause
        if self._failure is not None:
            name, place, problem, mend = self._failure
            raise getattr(errors, name)(place, problem, mend) from cause
