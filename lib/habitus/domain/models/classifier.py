"""The body of the behaviour model with a head that tells anomalous units from others, in Keras.

The body was trained to foresee events of all traffic; with the head it is trained further on
labels (Howard and Ruder 2018, "Universal language model fine-tuning for text classification"). As
there, the head sees the last state and the mean of all (section 3.2, concat pooling), and the body
learns at a rate of its own (discriminative fine-tuning). It sees the unit's numbers beside them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops
from scipy.special import logit

from habitus.domain.models import behaviour
from habitus.domain.models.batches import batch_of, by_length, pooled
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.models.training import CLIP
from habitus.domain.units import Units
from habitus.errors import SettingsError, TrainingError
from habitus.model_settings import FineTuneSettings

_JUDGED = 256  # units at once
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
    """A net that is trained as often as it is asked to be; its steps are compiled once.

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
        # The same seed gives the same weights on the same machine.
        tf.config.experimental.enable_op_determinism()
        self.shape, self._numbers, self._settings = shape, numbers, settings
        self._weights = weights
        self.model = self._fresh(0, share=0.5)
        body, head = _variables(self.model, settings.frozen)
        rate = settings.learning_rate
        rates = (settings.body_learning_rate if settings.pretrained else rate), rate
        self._parts = [
            (keras.optimizers.Adam(of, global_clipnorm=CLIP), variables)
            for of, variables in zip(rates, (body, head), strict=True)
            if variables
        ]
        for optimizer, variables in self._parts:
            optimizer.build(variables)
        self._begin = [[np.asarray(v) for v in one.variables] for one, _ in self._parts]
        given = [
            tf.TensorSpec((None, None, None), tf.int32),
            tf.TensorSpec((None, None), tf.float32),
            tf.TensorSpec((None, None, None), tf.float32),
            tf.TensorSpec((None, None), tf.float32),
        ]
        flat = tf.TensorSpec((None,), tf.float32)
        # One trace serves all lengths, so that no batch waits for a compilation.
        self._step = tf.function(self._one_step, input_signature=[given, flat, flat])
        self._judge = tf.function(self._one_judgement, input_signature=[given])

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

    def _one_step(self, given: list[tf.Tensor], truth: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        parts = [[variable.value for variable in variables] for _, variables in self._parts]
        with tf.GradientTape() as tape:
            logits = self.model(given, training=True)[:, 0]
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits)
            loss = tf.reduce_mean(counts * losses)
        for (optimizer, variables), gradients in zip(
            self._parts, tape.gradient(loss, parts), strict=True
        ):
            optimizer.apply([tf.convert_to_tensor(one) for one in gradients], variables)
        return loss

    def _one_judgement(self, given: list[tf.Tensor]) -> tf.Tensor:
        return self.model(given, training=False)[:, 0]

    def train(self, training: Examples, held_out: Examples, seed: int) -> None:
        """Train from the start until held-out units are told no better; the best weights stay.

        Raises:
            TrainingError: The loss is no number.
        """
        self._start(float(np.average(training.truth, weights=training.counts)), seed)
        random = np.random.default_rng([seed, 2])
        scale = 1 / float(training.counts.mean())
        best, best_epoch, weights = np.inf, 0, self.model.get_weights()
        for epoch in range(1, self._settings.epochs + 1):
            for rows in _batches(training.units, self._settings.batch_size, random):
                some = training.take(rows)
                batch = pooled(batch_of(some.units, self.shape), some.units.lengths, self.shape)
                loss = float(self._step([*batch, some.numbers], some.truth, some.counts * scale))
                if not np.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch} of fine_tuned ({len(rows)} units, seed {seed})",
                        f"the loss is {loss:g}",
                        "Set train.fine_tune.learning_rate and body_learning_rate lower.",
                    )
            loss = _loss(self.logits(held_out), held_out)
            if loss < best:
                best, best_epoch, weights = loss, epoch, self.model.get_weights()
            if epoch - best_epoch >= self._settings.patience:
                break
        self.model.set_weights(weights)

    def _start(self, share: float, seed: int) -> None:
        self.model.set_weights(self._fresh(seed, share).get_weights())
        for (optimizer, _), values in zip(self._parts, self._begin, strict=True):
            for variable, value in zip(optimizer.variables, values, strict=True):
                variable.assign(value)
        random = np.random.default_rng([seed, 3])
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
                layer.seed_generator.state.assign(random.integers(0, 2**31, size=2))

    def logits(self, examples: Examples) -> npt.NDArray[np.float64]:
        """[N] what the net makes of each unit."""
        found = np.empty(len(examples.units))
        lengths = examples.units.lengths
        for chosen, batch in by_length(examples.units, _JUDGED, self.shape):
            given = pooled(batch, lengths[chosen], self.shape)
            found[chosen] = self._judge([*given, examples.numbers[chosen]]).numpy()
        return found


def _variables(model: keras.Model, frozen: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """What is trained of the body, and of the head."""
    layers = [layer for layer in model.layers if layer.trainable_variables]
    head = [layer for layer in layers if layer.name.startswith("classifier_")]
    body = [layer for layer in layers if layer not in head]
    for pattern in frozen:
        if not any(fnmatchcase(layer.name, pattern) for layer in body):
            raise SettingsError(
                "train.fine_tune.frozen",
                f"{pattern!r} names no layer of the body",
                f"Its layers: {', '.join(layer.name for layer in body)}.",
            )
    kept = [one for one in body if not any(fnmatchcase(one.name, name) for name in frozen)]
    return [v for one in kept for v in one.trainable_variables], [
        v for one in head for v in one.trainable_variables
    ]


def _batches(
    units: Units, size: int, random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """All units in random order, by like length so that little is padding; of an epoch."""
    count = max(1, len(units) // size)
    for _ in range(math.ceil(_FEWEST_STEPS / count)):
        mixed = random.permutation(len(units))
        order = mixed[np.argsort(units.lengths[mixed], kind="stable")]
        batches = np.array_split(order, count)
        for index in random.permutation(count):
            yield batches[index]


def _loss(logits: npt.NDArray[np.float64], examples: Examples) -> float:
    """Mean cross-entropy in nats."""
    losses = np.logaddexp(0, np.where(examples.truth > 0, -logits, logits))
    return float(np.average(losses, weights=examples.counts))
