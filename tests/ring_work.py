"""What the tests of rings run in every process."""

import os
import signal
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path

import builders
import numpy as np
import numpy.typing as npt

from habitus.domain.models import behaviour
from habitus.domain.models.batches import Batch, batch_of, by_length
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan, Ring, fit
from habitus.edges.ring import Report
from habitus.errors import TrainingError

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


def die_then_fail(ring: Ring, report: Report, folder: str) -> None:
    """Lose the last rank at the first attempt; at the second one write down how many take part, and
    fail on the last rank. Each time the other one waits for it.
    """
    died, taking_part = Path(folder, "died"), Path(folder, "taking part")
    last = ring.rank == ring.size - 1
    if last and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    many = int(ring.sum(np.ones(1, dtype=np.float32))[0])
    if last:
        taking_part.write_text(str(many))
        raise TrainingError("epoch 3, batch 4", "the loss is nan", "Lower the rate.")
    ring.sum(np.ones(1, dtype=np.float32))
