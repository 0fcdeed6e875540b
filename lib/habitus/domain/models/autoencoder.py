"""A denoising autoencoder over rows of numbers, in Keras: tells hidden numbers from those seen.

Noise hides numbers (Vincent et al. 2010, "Stacked denoising autoencoders", masking noise), any
share of a row, and the loss is on what was hidden, so that one network comes to tell every number
from any of the others (Uria, Murray and Larochelle 2014, "A deep and tractable density estimator").
A number that is hidden and one that is missing look the same; no loss is on a missing one.
"""

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from habitus.domain.models.shape import Array
from habitus.errors import TrainingError

Known = npt.NDArray[np.bool_]

# By what is left unexplained of held-out units: one layer, or two of 64, leave more; two of 256
# little less, if at all.
_HIDDEN = (128, 128)
_RATE, _BATCH = 0.003, 128
_EPOCHS, _PATIENCE = 100, 5
_EPOCH = 20_000  # most rows of an epoch, each of which takes others
_JUDGED = 4  # times that each held-out row is judged, each with other numbers hidden


def fit(
    values: Array,
    known: Known,
    held_out: tuple[Array, Known],
    groups: int,
    seed: int,
) -> list[Array]:
    """Train until held-out rows are told no better.

    Args:
        values: [N, D] rows, near 0 with a variance near 1; at least one.
        known: [N, D] whether a number is known.
        held_out: The same of [H, D] others.
        groups: A row is seen by none to all but one of so many equal shares.
        seed: Of the first weights, of the order of rows and of what is hidden.

    Returns:
        Kernel and bias of each layer in turn, those of the epoch that told held-out rows best. The
        first kernel is [2 D, .], for the numbers seen and for whether each is not.

    Raises:
        TrainingError: The loss is no number.
    """
    model = build(values.shape[1], seed)
    # Compilation by XLA would take longer than all the steps.
    model.compile(keras.optimizers.Adam(_RATE), loss=_squares, jit_compile=False)
    random = np.random.default_rng([seed, 1])
    noisy = [_noisy(*held_out, groups, random) for _ in range(_JUDGED)]
    judged = [np.concatenate(parts) for parts in zip(*noisy, strict=True)]
    best, best_epoch, weights = np.inf, 0, model.get_weights()
    for epoch in range(_EPOCHS):
        chosen = random.permutation(len(values))[:_EPOCH]
        for start in range(0, len(chosen), _BATCH):
            rows = chosen[start : start + _BATCH]
            model.train_on_batch(*_noisy(values[rows], known[rows], groups, random))
        # Keras returns the mean since the last reset, batches trained on included.
        model.reset_metrics()
        loss = float(model.test_on_batch(*judged))
        if not np.isfinite(loss):
            raise TrainingError(
                f"epoch {epoch + 1} of autoencoder ({len(values)} units, seed {seed})",
                f"the loss on {len(held_out[0])} others is {loss:g}",
                "Look for amounts or features that are no numbers, or too large for such.",
            )
        if loss < best:
            best, best_epoch, weights = loss, epoch, model.get_weights()
        if epoch - best_epoch >= _PATIENCE:
            break
    return list(weights)


def build(width: int, seed: int) -> keras.Model:
    """The network with fresh weights, from [B, 2 D] numbers seen and hidden to [B, D] guesses."""
    given = keras.Input((2 * width,))
    state = given
    for layer, size in enumerate((*_HIDDEN, width)):
        state = keras.layers.Dense(
            size,
            activation="linear" if layer == len(_HIDDEN) else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed * 1000 + layer),
        )(state)
    return keras.Model(given, state, name="autoencoder")


def _noisy(
    values: Array, known: Known, groups: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """[B, 2 D] rows with numbers hidden, and [B, 2 D] what they were and whether it counts."""
    share = random.integers(0, groups, (len(values), 1)) / groups
    seen = known & (random.random(values.shape) < share)
    given = np.hstack([np.where(seen, values, 0), ~seen])
    wanted = np.hstack([values, known & ~seen])
    return given.astype(np.float32), wanted.astype(np.float32)


def _squares(wanted: keras.KerasTensor, found: keras.KerasTensor) -> keras.KerasTensor:
    """[B] the mean squared error over the numbers that count, however many they are."""
    values, counts = ops.split(wanted, 2, axis=-1)
    errors = ops.sum(counts * ops.square(values - found), axis=-1)
    return errors / ops.maximum(ops.sum(counts, axis=-1), 1)
