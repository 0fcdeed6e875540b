"""Fits the behaviour language model: the loop over epochs and batches.

The same loop runs in one process and in a ring of processes that each see a part of the data.
What it does depends on the plan, the batches and the state it starts from, on nothing else.
"""

import io
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from habitus.domain.models.batches import Batch
from habitus.domain.models.behaviour import CLIP, logits_of
from habitus.domain.models.shape import Array
from habitus.errors import TrainingError

WARM_UP = 0.1  # share of all steps over which the learning rate rises
LAST_RATE = 0.1  # the last learning rate, as a share of the highest


class Ring(Protocol):
    """Processes that train together. A sum is the same on every one of them."""

    @property
    def rank(self) -> int:
        """This process, counted from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor, variables: list[Any]) -> list[Any]:
        """Gradients of the loss summed over the ring."""
        ...

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """The tensor summed over the ring."""
        ...

    def broadcast(self, variables: list[Any]) -> None:
        """Give every process the first one's values."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Args:
        seed: Seed of dropout.
        epochs: Most epochs.
        steps: Batches per epoch, on every process of the ring.
        patience: Epochs without a better validation loss before training stops.
        learning_rate: Highest learning rate; it rises to it over the first tenth of the steps
            and falls by a cosine to a tenth of it (Loshchilov and Hutter 2017).
    """

    seed: int
    epochs: int
    steps: int
    patience: int
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; losses in nats per judged event."""

    epoch: int
    loss: float
    validation_loss: float
    learning_rate: float


@dataclass(frozen=True)
class State:
    """Everything that training goes on from after an epoch.

    Args:
        weights: Weights of the model, in its order.
        optimizer: Variables of the optimizer, in its order.
        best: Weights with the lowest validation loss so far.
        history: The epochs so far.
    """

    weights: list[Array]
    optimizer: list[npt.NDArray[np.generic]]
    best: list[Array]
    history: list[Epoch] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The epoch of the best weights, counted from 1."""
        losses = [epoch.validation_loss for epoch in self.history]
        return int(np.argmin(losses)) + 1

    def to_bytes(self) -> bytes:
        """As an archive of arrays."""
        buffer = io.BytesIO()
        history = json.dumps([vars(epoch) for epoch in self.history])
        groups: dict[str, Sequence[npt.NDArray[Any]]] = {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "best": self.best,
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{name}_{index:04d}": array
            for name, group in groups.items()
            for index, array in enumerate(group)
        }
        np.savez(buffer, history=np.frombuffer(history.encode(), dtype=np.uint8), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "State":
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            names = sorted(archive.files)
            groups = {
                group: [archive[name] for name in names if name.startswith(f"{group}_")]
                for group in ("weights", "optimizer", "best")
            }
            history = [Epoch(**values) for values in json.loads(archive["history"].tobytes())]
        return cls(history=history, **groups)


class Trainer:
    """The compiled steps of one model, its optimizer and the ring it trains in."""

    def __init__(self, model: keras.Model, plan: Plan, ring: Ring) -> None:
        self.model, self.plan, self.ring = model, plan, ring
        steps = plan.steps * plan.epochs
        warm_up = max(1, int(steps * WARM_UP))
        self.rate = keras.optimizers.schedules.CosineDecay(
            plan.learning_rate / warm_up,
            max(1, steps - warm_up),
            alpha=LAST_RATE,
            warmup_target=plan.learning_rate,
            warmup_steps=warm_up,
        )
        self.optimizer = keras.optimizers.Adam(self.rate, global_clipnorm=CLIP)
        self.optimizer.build(model.trainable_variables)
        signature = [
            tf.TensorSpec((None, None, None), tf.int32),
            tf.TensorSpec((None, None), tf.float32),
            tf.TensorSpec((None, None), tf.bool),
        ]
        # One trace serves all lengths, so that no batch waits for a compilation.
        self._step = tf.function(self._one_step, input_signature=signature)
        self._judge = tf.function(self._one_judgement, input_signature=signature)

    def _nats(
        self, tokens: tf.Tensor, context: tf.Tensor, judged: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Surprise of all judged positions together, and how many they are."""
        outputs = logits_of(self.model, [tokens, context], training)
        weights = tf.cast(judged[:, :, None] & (tokens > 0), tf.float32)
        nats = tf.add_n(
            [
                tf.reduce_sum(
                    weights[:, :, index]
                    * tf.nn.sparse_softmax_cross_entropy_with_logits(
                        tokens[:, :, index], tf.cast(logits, tf.float32)
                    )
                )
                for index, logits in enumerate(outputs)
            ]
        )
        return nats, tf.reduce_sum(weights[:, :, 0])

    def _one_step(self, tokens: tf.Tensor, context: tf.Tensor, judged: tf.Tensor) -> tf.Tensor:
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            nats, count = self._nats(tokens, context, judged, training=True)
        gradients = self.ring.gradients(tape, nats, variables)
        # Sums over the ring, divided by the ring's count: the mean over all judged events, however
        # they are spread over the processes.
        total = self.ring.sum(tf.stack([nats, count]))
        count = tf.maximum(total[1], 1.0)
        self.optimizer.apply(
            [tf.convert_to_tensor(gradient) / count for gradient in gradients],
            self.model.trainable_variables,
        )
        return total

    def _one_judgement(self, tokens: tf.Tensor, context: tf.Tensor, judged: tf.Tensor) -> tf.Tensor:
        return tf.stack(self._nats(tokens, context, judged, training=False))

    def train(self, epoch: int, batches: Iterator[Batch]) -> float:
        """Run one epoch's steps; nats per judged event.

        Raises:
            TrainingError: The loss is no number.
        """
        self._reseed(epoch)
        total = np.zeros(2)
        for step, batch in enumerate(islice(batches, self.plan.steps), start=1):
            came_to = self._step(batch.tokens, batch.context, batch.judged).numpy()
            if not np.isfinite(came_to).all():
                units, length, _ = batch.tokens.shape
                raise TrainingError(
                    f"epoch {epoch}, batch {step} of {self.plan.steps} "
                    f"({units} units of up to {length} events, seed {self.plan.seed})",
                    f"the loss is {came_to[0]:g}",
                    f"Set train.learning_rate below {self.plan.learning_rate:g}.",
                )
            total += came_to
        return float(total[0] / max(total[1], 1.0))

    def _reseed(self, epoch: int) -> None:
        """Make dropout a function of seed, epoch and rank, so that a resumed run repeats it."""
        random = np.random.default_rng([self.plan.seed, epoch, self.ring.rank])
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(random.integers(0, 2**31, size=2))

    def judge(self, batches: Iterator[Batch]) -> float:
        """Nats per judged event over these batches and those of the rest of the ring."""
        total = np.zeros(2)
        for batch in batches:
            total += self._judge(batch.tokens, batch.context, batch.judged).numpy()
        nats, count = self.ring.sum(tf.constant(total)).numpy()
        return float(nats / max(count, 1.0))

    def now(self) -> tuple[list[Array], list[npt.NDArray[np.generic]]]:
        """Weights of model and optimizer."""
        weights = [np.asarray(variable) for variable in self.model.trainable_variables]
        return weights, [np.asarray(variable) for variable in self.optimizer.variables]


def fit(
    model: keras.Model,
    plan: Plan,
    training: Callable[[int], Generator[Batch]],
    validation: Callable[[], Iterator[Batch]],
    ring: Ring,
    resume: State | None = None,
    on_epoch: Callable[[State], None] = lambda state: None,
) -> State:
    """Train until the validation loss stops falling, and leave the model with its best weights.

    Args:
        model: The model; its weights are changed.
        plan: How long and how fast.
        training: Endless batches of this process's part for an epoch, counted from 1. The same
            epoch gives the same batches.
        validation: Batches of this process's part of the validation units.
        ring: The processes that train together.
        resume: State after an earlier epoch to go on from.
        on_epoch: Called after each epoch, on every process.

    Raises:
        TrainingError: The loss became no number.
    """
    trainer = Trainer(model, plan, ring)
    if resume is None:
        weights, optimizer = trainer.now()
        state = State(weights, optimizer, best=weights)
    else:
        state = resume
        _assign(model, state.weights)
        for variable, value in zip(trainer.optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
    ring.broadcast([*model.trainable_variables, *trainer.optimizer.variables])
    while not _done(state, plan):
        epoch = len(state.history) + 1
        with closing(training(epoch)) as batches:
            loss = trainer.train(epoch, batches)
        validation_loss = trainer.judge(validation())
        rate = float(trainer.rate(trainer.optimizer.iterations))
        history = [*state.history, Epoch(epoch, loss, validation_loss, rate)]
        weights, optimizer = trainer.now()
        state = replace(state, weights=weights, optimizer=optimizer, history=history)
        if state.best_epoch == epoch:
            state = replace(state, best=weights)
        on_epoch(state)
    _assign(model, state.best)
    return state


def _done(state: State, plan: Plan) -> bool:
    epochs = len(state.history)
    return epochs >= plan.epochs or (epochs > 0 and epochs - state.best_epoch >= plan.patience)


def _assign(model: keras.Model, weights: list[Array]) -> None:
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
