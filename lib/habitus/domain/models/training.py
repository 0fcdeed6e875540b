"""Fits the behaviour language model: the loop over epochs and batches.

The same loop runs in one process and in a ring of processes that each see a part of the data.
What it does depends on the plan, the batches and the state it starts from, on nothing else.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from habitus.domain.models.batches import Batch
from habitus.domain.models.behaviour import CLIP, logits_of
from habitus.domain.models.shape import Array
from habitus.domain.models.state import Epoch, State
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
        seed: Seed of the weights, of the order of units and of dropout.
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
                    self._lower,
                )
            total += came_to
        return float(total[0] / max(total[1], 1.0))

    def _reseed(self, epoch: int) -> None:
        """Make dropout a function of seed, epoch and rank, so that a resumed run repeats it."""
        random = np.random.default_rng([self.plan.seed, epoch, self.ring.rank])
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(random.integers(0, 2**31, size=2))

    def judge(self, epoch: int, batches: Iterator[Batch]) -> float:
        """Nats per judged event over these batches and those of the rest of the ring.

        Raises:
            TrainingError: The loss is no number.
        """
        total = np.zeros(2)
        for batch in batches:
            total += self._judge(batch.tokens, batch.context, batch.judged).numpy()
        nats, count = self.ring.sum(tf.constant(total)).numpy()
        if not np.isfinite(nats):
            # The last steps went astray, and NaN would pass for the lowest loss.
            place = f"epoch {epoch}, validation ({count:.0f} events, seed {self.plan.seed})"
            raise TrainingError(place, f"the loss is {nats:g}", self._lower)
        return float(nats / max(count, 1.0))

    @property
    def _lower(self) -> str:
        return f"Lower train.learning_rate; the highest rate was {self.plan.learning_rate:g}."

    def state(self) -> State:
        """Where the model and the optimizer are, as if there had been no epoch yet."""
        weights = [np.asarray(variable) for variable in self.model.trainable_variables]
        optimizer = [np.asarray(variable) for variable in self.optimizer.variables]
        return State(weights, optimizer, best=weights)


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
        TrainingError: The loss of training or of validation became no number.
    """
    trainer = Trainer(model, plan, ring)
    state = resume or trainer.state()
    _assign(model.trainable_variables, state.weights)
    _assign(trainer.optimizer.variables, state.optimizer)
    ring.broadcast([*model.trainable_variables, *trainer.optimizer.variables])
    while not _done(state, plan):
        epoch = len(state.history) + 1
        with closing(training(epoch)) as batches:
            loss = trainer.train(epoch, batches)
        validation_loss = trainer.judge(epoch, validation())
        rate = float(trainer.rate(trainer.optimizer.iterations))
        history = [*state.history, Epoch(epoch, loss, validation_loss, rate)]
        now = replace(trainer.state(), history=history)
        state = now if now.best_epoch == epoch else replace(now, best=state.best)
        on_epoch(state)
    _assign(model.trainable_variables, state.best)
    return state


def _done(state: State, plan: Plan) -> bool:
    epochs = len(state.history)
    return epochs >= plan.epochs or (epochs > 0 and epochs - state.best_epoch >= plan.patience)


def _assign(variables: list[Any], values: Sequence[Array | npt.NDArray[np.generic]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
