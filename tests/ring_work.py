"""What the tests of rings run in every process."""

import os
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path

import builders
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from habitus.domain.models import behaviour
from habitus.domain.models.batches import Batch, batch_of, by_length
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan, Ring, fit
from habitus.edges.ring import Report
from habitus.edges.training import Task, train_behaviour

WORDS = builders.vocabulary()
STEPS, GLOBAL_BATCH = 5, 64


def train_share(ring: Ring, report: Report, folder: str) -> list[npt.NDArray[np.float32]]:
    """Train on this rank's share of batches that are the same whatever the ring's size."""
    units = builders.units(STEPS * GLOBAL_BATCH, 1, WORDS)
    # Without dropout, whose noise is each rank's own.
    settings = builders.model_settings(dropout=0.0)
    shape = BehaviourShape.of(WORDS, settings, units.context)

    def batches(epoch: int) -> Generator[Batch]:
        for step in range(STEPS):
            whole = np.arange(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH)
            yield batch_of(units.take(whole[ring.rank :: ring.size]), shape)

    def validation() -> Iterator[Batch]:
        share = units.take(np.arange(ring.rank, 100, ring.size))
        return (batch for _, batch in by_length(share, 32, shape))

    # Weights differ at first; the ring gives every process the first one's.
    model = behaviour.build(shape, seed=7 + ring.rank)
    plan = Plan(seed=7, epochs=2, steps=STEPS, patience=2, learning_rate=0.01)
    state = fit(model, plan, batches, validation, ring)
    report(f"{state.history[-1].loss:.6f}")
    np.savez(f"{folder}/{ring.size}_{ring.rank}.npz", *state.weights)
    losses = [list(asdict(epoch).values()) for epoch in state.history]
    return [np.array(losses, dtype=np.float32), *state.weights]


def fail_unexpectedly(ring: Ring, report: Report) -> None:
    """Fail in a way that nobody foresaw."""
    raise ZeroDivisionError(f"in process {os.getpid()}")


class _Mortal:
    """A place in a ring whose process is killed after so many sums, those of a graph counted.

    It leaves a file then.
    """

    def __init__(self, ring: Ring, sums: int, died: Path) -> None:
        self._ring, self._left, self._died = ring, sums, died
        self.rank, self.size = ring.rank, ring.size
        self.gradients, self.broadcast = ring.gradients, ring.broadcast

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        # Counted afterwards: Horovod knows a sum by the name of what is summed.
        total = self._ring.sum(values)
        return tf.ensure_shape(tf.numpy_function(self._count, [total], total.dtype), total.shape)

    def _count(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        self._left -= 1
        if self._left == 0:
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return values


def train_then_fail(
    ring: Ring, report: Report, task: Task, error: Exception, killed_at: int | None = None
) -> None:
    """Train for good, store the files under the task's root, and fail on the last rank.

    At the first attempt that rank is killed at so many sums, if any.
    """

    def heard(line: str) -> None:
        """Report, and go on only when it has been heard."""
        report(line)
        for _ in range(3000):
            if ring.rank > 0 or Path(task.root, "heard").read_text() == line:
                return
            time.sleep(0.01)
        raise TimeoutError(f"not heard: {line}")

    stored, died = Path(task.root, "stored"), Path(task.root, "died")
    last = ring.rank == ring.size - 1
    place = ring
    if last and killed_at and not died.exists():
        place = _Mortal(ring, killed_at, died)
    files = train_behaviour(place, heard, task)
    for name, content in files.items():
        stored.mkdir(exist_ok=True)
        (stored / name).write_bytes(content)
    ring.sum(np.ones(1, dtype=np.float32))  # nobody fails before the files are stored
    if last:
        raise error
    ring.sum(np.ones(1, dtype=np.float32))
