"""The body of the behaviour model with a head that tells anomalous units from others, in Keras.

The body was trained to foresee events of all traffic; with the head it is trained further on
labels (Howard and Ruder 2018, "Universal language model fine-tuning for text classification"). As
there, the head sees the last state and the mean of all (section 3.2, concat pooling), and the body
learns at a rate of its own (discriminative fine-tuning). It sees the unit's numbers beside them.
What is judged and kept is a moving average of the weights of the last steps (Polyak and Juditsky
1992, "Acceleration of stochastic approximation by averaging").
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.special import logit

from habitus.domain.models import behaviour
from habitus.domain.models.batches import Batch, batch_of, bounded, by_length, pooled
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.units import Units
from habitus.errors import SettingsError, TrainingError
from habitus.model_settings import FineTuneSettings

_JUDGED = 256  # units at once
_MOMENTUM = 0.99  # of the average: it is over the last hundred steps or so
_FEWEST_STEPS = 25  # of an epoch: few units are gone over several times before held-out ones judge


@dataclass(frozen=True)
class Examples:
    """N units to learn from or to stop by.

    Args:
        units: The units.
        numbers: [N, D] the numbers of each beside its events, near 0 or from 0 to 1.
        truth: [N] 1 for an anomalous unit, 0 for another.
        counts: [N] how many units each stands for.
    """

    units: Units
    numbers: Array
    truth: Array
    counts: Array

    def take(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """Those at these indices, in this order."""
        return Examples(
            self.units.take(rows), self.numbers[rows], self.truth[rows], self.counts[rows]
        )


class Classifier:
    """A net that is trained as often as it is asked to be, in any of Keras' backends.

    Args:
        shape: The body's.
        numbers: How many a unit has beside its events.
        settings: How it learns.
        weights: Those of the behaviour model, to start from.

    Raises:
        SettingsError: A pattern of frozen layers names none.
    """

    def __init__(
        self,
        shape: BehaviourShape,
        numbers: int,
        settings: FineTuneSettings,
        weights: Mapping[str, Array],
    ) -> None:
        self.shape, self._numbers, self._settings = shape, numbers, settings
        self._weights = weights
        self.model = self._fresh(0, share=0.5)
        body = _body(self.model)
        _freeze(body, settings.frozen)
        rate = settings.learning_rate
        slower = settings.body_learning_rate / rate if settings.pretrained else 1.0
        of_body = {variable.path for layer in body for variable in layer.weights}
        trained = self.model.trainable_variables
        shares = [slower if variable.path in of_body else 1.0 for variable in trained]
        self._optimizer = _Adam(rate, shares)
        self.model.compile(
            self._optimizer,
            keras.losses.BinaryCrossentropy(from_logits=True),
            # XLA compiles every length anew, which TensorFlow alone can do without.
            jit_compile=keras.backend.backend() != "tensorflow",
        )
        self._optimizer.build(trained)
        self._swap = keras.callbacks.SwapEMAWeights()
        self._swap.set_model(self.model)
        self._begin = [np.asarray(variable) for variable in self._optimizer.variables]

    def _fresh(self, seed: int, share: float) -> keras.Model:
        """The net before it is trained; `share` of the units are anomalous."""
        base = behaviour.build(self.shape, seed)
        if self._settings.pretrained:
            behaviour.set_weights(base, self._weights)
        states = base.get_layer("dropout").input
        shares = keras.Input((2 if self.shape.ends else 1, None), name="shares")
        numbers = keras.Input((self._numbers,), name="numbers")
        # One vector of the states' weighted sums.
        summed = keras.layers.Flatten()(ops.matmul(shares, states))
        hidden = keras.layers.Dense(
            self._settings.hidden,
            activation="relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed * 1000 + 900),
            name="classifier_dense",
        )(ops.concatenate([summed, numbers], axis=-1))
        drop = keras.layers.Dropout(self._settings.dropout, seed=seed, name="classifier_dropout")
        found = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed * 1000 + 901),
            bias_initializer=keras.initializers.Constant(float(logit(share))),
            name="classifier_head",
        )(drop(hidden))
        return keras.Model([*base.inputs, shares, numbers], found, name="classifier")

    def train(self, training: Examples, held_out: Examples, seed: int) -> None:
        """Train from the start until held-out units are told no better; the best weights stay.

        Raises:
            TrainingError: The loss is no number.
        """
        self._start(float(np.average(training.truth, weights=training.counts)), seed)
        random = np.random.default_rng([seed, 2])
        best, best_epoch, weights = np.inf, 0, self.model.get_weights()
        for epoch in range(1, self._settings.epochs + 1):
            self._learn(training, random, epoch, seed)
            with self._averaged():
                loss = _loss(self.logits(held_out), held_out)
                if loss < best:
                    best, best_epoch, weights = loss, epoch, self.model.get_weights()
            if epoch - best_epoch >= self._settings.patience:
                break
        self.model.set_weights(weights)

    def _learn(
        self, training: Examples, random: np.random.Generator, epoch: int, seed: int
    ) -> None:
        scale = 1 / float(training.counts.mean())
        batches = _batches(training.units, self._settings.batch_size, self.shape, random)
        for number, rows in enumerate(batches, start=1):
            some = training.take(rows)
            given = self._given(batch_of(some.units, self.shape), some)
            loss = self.model.train_on_batch(given, some.truth[:, None], some.counts * scale)
            if not np.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, batch {number} of fine_tuned ({len(rows)} units, seed {seed})",
                    f"the loss is {loss:g}",
                    "Set train.fine_tune.learning_rate and body_learning_rate lower.",
                )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the average of the weights into the model, and take it out again."""
        self._swap.on_test_begin()
        try:
            yield
        finally:
            self._swap.on_test_end()

    def _start(self, share: float, seed: int) -> None:
        self.model.set_weights(self._fresh(seed, share).get_weights())
        for variable, value in zip(self._optimizer.variables, self._begin, strict=True):
            variable.assign(value)
        random = np.random.default_rng([seed, 3])
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(random.integers(0, 2**31, size=2))

    def logits(self, examples: Examples) -> npt.NDArray[np.float64]:
        """[N] what the net makes of each unit."""
        found = np.empty(len(examples.units))
        for chosen, batch in by_length(examples.units, _JUDGED, self.shape):
            given = self._given(batch, examples.take(chosen))
            found[chosen] = self.model.predict_on_batch(given)[:, 0]
        return found

    def _given(self, batch: Batch, some: Examples) -> list[npt.NDArray[Any]]:
        """What the net is told of B units that are laid out as a batch."""
        return [*pooled(batch, some.units.lengths, self.shape), some.numbers]


class _Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam by which each variable learns at a rate of its own, and that averages them.

    Args:
        rate: The learning rate.
        shares: By what it is multiplied for each variable, in the order of the model's.
    """

    def __init__(self, rate: float, shares: Sequence[float]) -> None:
        super().__init__(
            rate,
            global_clipnorm=behaviour.CLIP,
            use_ema=True,
            ema_momentum=_MOMENTUM,
            name="adam",
        )
        self._shares = shares

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable; Keras calls it."""
        share = self._shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)


def _body(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights that are not of the head."""
    return [one for one in model.layers if one.weights and not one.name.startswith("classifier_")]


def _freeze(body: Sequence[keras.Layer], frozen: Sequence[str]) -> None:
    """Have the layers that these patterns name stay as they are."""
    for pattern in frozen:
        named = [layer for layer in body if fnmatchcase(layer.name, pattern)]
        if not named:
            raise SettingsError(
                "train.fine_tune.frozen",
                f"{pattern!r} names no layer of the body",
                f"Its layers: {', '.join(layer.name for layer in body)}.",
            )
        for layer in named:
            layer.trainable = False


def _batches(
    units: Units, size: int, shape: BehaviourShape, random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """All units in random order, by like length so that little is padding; of an epoch."""
    count = max(1, len(units) // size)
    for _ in range(math.ceil(_FEWEST_STEPS / count)):
        mixed = random.permutation(len(units))
        order = mixed[np.argsort(units.lengths[mixed], kind="stable")]
        runs = np.array_split(order, count)
        batches = [batch for run in runs for batch in bounded(run, units, shape)]
        for index in random.permutation(len(batches)):
            yield batches[index]


def _loss(logits: npt.NDArray[np.float64], examples: Examples) -> float:
    """Mean cross-entropy in nats."""
    losses = np.logaddexp(0, np.where(examples.truth > 0, -logits, logits))
    return float(np.average(losses, weights=examples.counts))
