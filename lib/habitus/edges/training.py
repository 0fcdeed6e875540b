"""What a training process does: units from the feed, through the loop, to the detector's files.

After every epoch the first process writes a checkpoint into the lake. A run that was killed goes
on from the last one and comes to the weights it would have come to.
"""

import json
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from habitus.domain.models import behaviour
from habitus.domain.models.batches import Batch, by_length, joined, shuffled
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.state import State
from habitus.domain.models.training import Plan, Ring, Trainer, fit
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.ahead import ahead
from habitus.edges.artefacts import ArtefactStore
from habitus.edges.feed import Source, read, read_endlessly
from habitus.edges.ring import Report
from habitus.errors import ArtefactError
from habitus.setting_types import PrecisionName

_BUFFERED = 64  # batches that are shuffled together
_AHEAD = 4  # batches that are ready for the model
_HELD_OUT = 20_000  # units that tell what is normal


@dataclass(frozen=True)
class Task:
    """All that a training process must know.

    Args:
        model_id: Names the checkpoint.
        root: Root of the lake.
        vocabulary: What the tokens mean.
        shape: The model's.
        plan: How long and how fast.
        precision: What the model computes in.
        batch_size: Units per step.
        validated: Most units of a validation.
        training: Units to train on.
        validation: Units that decide when to stop.
    """

    model_id: str
    root: str
    vocabulary: Vocabulary
    shape: BehaviourShape
    plan: Plan
    precision: PrecisionName
    batch_size: int
    validated: int
    training: Source
    validation: Source

    @property
    def checkpoint(self) -> str:
        """Folder of the checkpoint within the lake."""
        return f"checkpoints/{self.model_id}"


def repeatable() -> None:
    """From now on the same seed gives the same weights, at a few percent of speed."""
    tf.config.experimental.enable_op_determinism()


def train_behaviour(ring: Ring, report: Report, task: Task) -> dict[str, bytes]:
    """Train in one place of the ring; the first process returns the detector's files.

    Reports lines of JSON: each epoch, those before a break again, and under `note` how it goes on
    after a break. The checkpoint stays until the caller has stored the files.
    """
    repeatable()
    tf.keras.utils.set_random_seed(task.plan.seed)
    store = ArtefactStore(task.root)

    def batches(epoch: int) -> Generator[Batch]:
        return training_batches(task, ring, epoch)

    def validation() -> Iterator[Batch]:
        left = math.ceil(task.validated / ring.size)
        for part in read(task.validation, ring.rank, ring.size):
            part, left = part.take(np.arange(min(len(part), left))), left - len(part)
            yield from (batch for _, batch in by_length(part, task.batch_size, task.shape))
            if left <= 0:
                break

    def on_epoch(state: State) -> None:
        if ring.rank == 0:
            store.write_file(f"{task.checkpoint}/state.npz", state.to_bytes())
            report(json.dumps(vars(state.history[-1])))

    def note(words: str) -> None:
        report(json.dumps({"note": words}))

    model = behaviour.build(task.shape, task.plan.seed, task.precision)
    first = Trainer(model, task.plan, ring).state()
    resume = _checkpoint(store, f"{task.checkpoint}/state.npz", first, note)
    for epoch in resume.history if resume else []:
        report(json.dumps(vars(epoch)))
    fit(model, task.plan, batches, validation, ring, resume, on_epoch)
    if ring.rank > 0:
        return {}
    exact = behaviour.build(task.shape, task.plan.seed)
    behaviour.set_weights(exact, behaviour.weights_of(model))
    held_out = _some(read(task.validation), _HELD_OUT)
    return detector_of(exact, task.shape, task.vocabulary, held_out).to_files()


def training_batches(task: Task, ring: Ring, epoch: int) -> Generator[Batch]:
    """Batches of one process's part, in an order that seed and epoch decide, for ever.

    A thread reads and lays out the next ones while the model learns.
    """
    return ahead(_batches(task, ring, epoch), _AHEAD)


def _batches(task: Task, ring: Ring, epoch: int) -> Generator[Batch]:
    share = max(task.batch_size, task.training.units // ring.size)
    buffer = min(_BUFFERED * task.batch_size, share)
    seed = (task.plan.seed, epoch, ring.rank)
    order = int(np.random.default_rng(seed).integers(1, 2**31))
    with closing(read_endlessly(task.training, ring.rank, ring.size, order)) as parts:
        yield from shuffled(parts, task.batch_size, buffer, task.shape, seed)


def _checkpoint(store: ArtefactStore, name: str, first: State, note: Report) -> State | None:
    """The state to go on from; none without a checkpoint, or with one that is damaged.

    Every process of the ring reads the same file, and so comes to the same.
    """
    try:
        content = store.read_file(name)
    except ArtefactError:
        return None
    try:
        state = State.from_bytes(content, name, first)
    except ArtefactError as error:
        note(f"the checkpoint cannot be used ({error.place}: {error.problem}); begins with epoch 1")
        return None
    note(f"goes on from its checkpoint after epoch {len(state.history)}")
    return state


def _some(parts: Iterator[Units], most: int) -> Units:
    held: list[Units] = []
    for part in parts:
        held.append(part)
        if sum(len(units) for units in held) >= most:
            break
    units = joined(held)
    return units.take(np.arange(min(len(units), most)))
