"""What is measured of training, each part in a process of its own; see `train.py`."""

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from _kept import kept

from habitus.setting_types import PrecisionName

LAKE = kept("train")
WARM_UP, STEPS = 20, 800
# Of the run that tells whether memory stays the same. How much a process has goes up and down by a
# tenth from epoch to epoch, and rises for the first few as allocators fill their pools.
SETTLED, EPOCHS, EPOCH_STEPS, NEAR = 10, 30, 20, 5
MATRIX, PRODUCTS = 2048, 30


@dataclass
class Timed:
    """Batches as they come, with how long each was waited for and what they held."""

    batches: Iterator[Any]
    waited: float = 0.0
    events: int = 0
    units: int = 0
    positions: int = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        before = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - before
        self.events += int(batch.judged.sum())
        self.units += len(batch.judged)
        self.positions += batch.judged.size
        return batch


class _SixteenBits:
    """A place in a ring that sends its gradients as float16."""

    def __init__(self, ring: Any) -> None:
        self._ring = ring

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ring, name)

    def gradients(self, tape: Any, loss: Any, variables: list[Any]) -> Any:
        import horovod.tensorflow as hvd

        half = hvd.Compression.fp16
        tape = hvd.DistributedGradientTape(tape, op=hvd.Sum, sparse_as_dense=True, compression=half)
        return tape.gradient(loss, variables)


def prepare(users: int) -> str:
    """Make the lake, once for each size, and say where its task is."""
    from habitus.edges.spark import start_spark
    from habitus.jobs.catalogue import JOBS
    from habitus.jobs.fitting import behaviour_task
    from habitus.jobs.frame import Arguments, JobContext, Silent, run_job
    from habitus.jobs.training_data import TrainingData
    from habitus.loading import configuration_folder, load_settings

    folder = f"{LAKE}/{users}"
    target = Path(folder) / "task.pickle"
    if not target.exists():
        places = [f"lake.root={folder}/lake", f"simulate.output={folder}/raw"]
        settings = load_settings(overrides=[*places, f"simulate.users={users}"])
        spark = start_spark(settings.spark, "benchmark")
        given = Arguments(str(configuration_folder() / "sources" / "shop.yaml"), f"{folder}/raw")
        for job in ("simulate", "ingest", "sessionize", "features"):
            run_job(JOBS[job], JobContext(job, settings, spark, Silent(), given))
        context = JobContext("train", settings, spark, Silent())
        task = behaviour_task(context, TrainingData(context), "benchmark")
        target.write_bytes(pickle.dumps(task))
        spark.stop()
    return str(target)


def task_at(path: str) -> Any:
    """The task, for as many steps as are measured."""
    task = pickle.loads(Path(path).read_bytes())  # noqa: S301 - our own file
    return replace(task, plan=replace(task.plan, steps=STEPS))


def ready(task: Any) -> list[Any]:
    """Batches in memory, those to warm up with first."""
    from habitus.edges.ring import LocalRing
    from habitus.edges.training import training_batches

    return list(islice(training_batches(task, LocalRing(), 1), WARM_UP + STEPS))


def compiled_for(batches: list[Any]) -> list[Any]:
    """A few batches over and over: what compiles each length, for seconds, does so at first."""
    return batches[:WARM_UP] * (1 + STEPS // WARM_UP)


def trainer_of(task: Any, ring: Any, how: str = "") -> Any:
    """The model and its step, as training has them but for what is tried."""
    import keras
    import tensorflow as tf

    from habitus.domain.models import behaviour
    from habitus.domain.models.training import Trainer

    if how != "not deterministic":
        tf.config.experimental.enable_op_determinism()
    if how == "one thread":
        tf.config.threading.set_intra_op_parallelism_threads(1)
    if how == "16-bit gradients":
        ring = _SixteenBits(ring)
    keras.utils.set_random_seed(task.plan.seed)
    precision: PrecisionName = "mixed_bfloat16" if how == "mixed_bfloat16" else task.precision
    trainer = Trainer(behaviour.build(task.shape, task.plan.seed, precision), task.plan, ring)
    if how == "xla":
        trainer._step = tf.function(trainer._one_step, jit_compile=True)
    return trainer


def learned(trainer: Any, batches: list[Any]) -> dict[str, float]:
    """What the step makes of batches that are ready."""
    trainer.train(1, iter(batches[:WARM_UP]))
    return _clocked(lambda timed: trainer.train(2, timed), iter(batches[WARM_UP:]))


def fed(path: str) -> dict[str, float]:
    """Training as the job does it: read, shuffled, laid out, learned."""
    from habitus.edges.ring import LocalRing

    return fed_share(LocalRing(), print, path)


def fed_share(
    ring: Any, report: Callable[[str], None], path: str, how: str = ""
) -> dict[str, float]:
    """The same in one place of a ring."""
    from habitus.edges.training import training_batches

    task = task_at(path)
    trainer = trainer_of(task, ring, how)
    trainer.train(1, islice(training_batches(task, ring, 1), WARM_UP))
    batches = training_batches(task, ring, 2)
    next(batches)  # the first waits for the reader to start, once in an epoch of thousands
    return _clocked(lambda timed: trainer.train(2, timed), islice(batches, STEPS))


def fed_to_two(path: str) -> dict[str, float]:
    """The same on a ring of two, which Spark starts; what the first of them counts, twice."""
    from habitus.edges.ring import Processes, launch
    from habitus.edges.spark import start_spark
    from habitus.loading import load_settings

    spark = start_spark(load_settings(overrides=["spark.master=local[2]"]).spark, "benchmark")
    two = Processes(2, timedelta(minutes=2))
    found = launch(fed_share, two, spark, print, print, path, os.environ.get("TRIED", ""))
    spark.stop()
    return found | {name: 2 * found[name] for name in ("events", "units", "positions")}


def alone(path: str) -> dict[str, float]:
    """Our step, without a ring, on batches that are ready."""
    from habitus.edges.ring import LocalRing

    task, how = task_at(path), os.environ.get("TRIED", "")
    batches = ready(task)
    if how == "xla":
        batches = compiled_for(batches)
    return learned(trainer_of(task, LocalRing(), how), batches)


def in_a_ring_of_one(path: str) -> dict[str, float]:
    """The same through Horovod."""
    from habitus.edges.ring import HorovodRing

    task = task_at(path)
    return learned(trainer_of(task, HorovodRing()), ready(task))


def bare(path: str) -> dict[str, float]:
    """Keras' own step on batches that are ready; and what a position costs in arithmetic."""
    import keras
    import numpy as np

    from habitus.domain.models import behaviour

    task = task_at(path)
    batches = ready(task)
    if os.environ.get("TRIED") == "compiled":
        batches = compiled_for(batches)
    model = behaviour.build(task.shape, task.plan.seed)
    losses = [keras.losses.SparseCategoricalCrossentropy(from_logits=True) for _ in model.outputs]
    optimizer = keras.optimizers.Adam(task.plan.learning_rate, global_clipnorm=behaviour.CLIP)
    # JAX without compilation would run operation by operation.
    model.compile(optimizer, losses, jit_compile=keras.backend.backend() == "jax")

    def learn(timed: Iterator[Any]) -> None:
        for batch in timed:
            answers = [batch.tokens[:, :, field] for field in range(len(model.outputs))]
            counts = [(batch.judged & (one > 0)).astype(np.float32) for one in answers]
            model.train_on_batch([batch.tokens, batch.context], answers, counts)

    learn(iter(batches[:WARM_UP]))
    found = _clocked(learn, iter(batches[WARM_UP:]))
    kernels = [
        np.size(weight)
        for name, weight in behaviour.weights_of(model).items()
        if np.ndim(weight) == 2 and not name.startswith(("embedding", "context"))
    ]
    # A product and a sum for each weight, forward, and twice that back (Kaplan et al. 2020, 2.1).
    return found | {"flops": 3.0 * 2 * sum(kernels)}


def matrix_rate(path: str) -> dict[str, float]:
    """Floating point operations a second of TensorFlow's fp32 matrix product."""
    import tensorflow as tf

    one = tf.random.normal((MATRIX, MATRIX), seed=1)
    product = tf.function(lambda matrix: tf.matmul(matrix, one))
    product(one).numpy()
    before = time.perf_counter()
    for _ in range(PRODUCTS):
        product(one).numpy()
    return {"rate": PRODUCTS * 2 * MATRIX**3 / (time.perf_counter() - before)}


def memory(path: str) -> dict[str, float]:
    """MB of training when it has settled, since the second epoch, and from then to the last."""
    from habitus.edges.ring import LocalRing
    from habitus.edges.training import training_batches

    ring, process = LocalRing(), psutil.Process()
    task = task_at(path)
    task = replace(task, plan=replace(task.plan, steps=EPOCH_STEPS, epochs=EPOCHS))
    trainer = trainer_of(task, ring)
    held = []
    for epoch in range(1, EPOCHS + 1):
        batches = training_batches(task, ring, epoch)
        trainer.train(epoch, batches)
        batches.close()
        held.append(process.memory_info().rss / 1e6)
    at_first, at_last = (median(held[last - NEAR : last]) for last in (SETTLED, EPOCHS))
    return {"at first": at_first, "rise": at_first - held[1], "growth": at_last - at_first}


PARTS = {part.__name__: part for part in (fed, fed_to_two, alone, in_a_ring_of_one, bare)}
PARTS |= {part.__name__: part for part in (matrix_rate, memory)}


def _clocked(learn: Callable[[Iterator[Any]], object], batches: Iterator[Any]) -> dict[str, float]:
    timed = Timed(batches)
    before = time.perf_counter()
    learn(timed)
    seconds = time.perf_counter() - before
    counts = {name: getattr(timed, name) for name in ("waited", "events", "units", "positions")}
    return {"seconds": seconds, **counts}


def measured(part: str, path: str, environment: dict[str, str] | None = None) -> dict[str, float]:
    """One part, in a process of its own."""
    command = [sys.executable, __file__, part, path]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | quiet | (environment or {}),
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(part, environment or "", found, file=sys.stderr)
    return found


if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](sys.argv[2])))
