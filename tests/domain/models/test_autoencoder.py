"""The autoencoder in Keras: what it learns, and that numpy tells what it tells."""

import keras
import numpy as np
import pytest

from habitus.domain.detectors.reconstruction import Network
from habitus.domain.models.autoencoder import build, fit
from habitus.errors import TrainingError

pytestmark = pytest.mark.train

WIDTH, GROUPS = 6, 3
ORDER = np.array([0, 1, 2, 0, 1, 2])


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which the last three numbers say what the first three say; one in ten is missing."""
    random = np.random.default_rng(seed)
    first = random.normal(size=(count, 3))
    known = random.random((count, WIDTH)) < 0.9
    values = np.hstack([first, -first])
    return np.where(known, values, 0).astype(np.float32), known


def trained(seed: int) -> list[np.ndarray]:
    return fit(*rows(500, 1), rows(100, 2), GROUPS, seed)


def test_a_hidden_number_is_told_from_one_that_says_the_same() -> None:
    values, known = rows(300, 3)
    weights = trained(7)
    network = Network(weights[::2], weights[1::2])

    last = network.told(values, known, np.array([0, 0, 0, 1, 1, 1]))[:, 3:]
    first = network.told(values, known, ORDER)[:, 0]

    both = known[:, :3] & known[:, 3:]
    assert np.abs(last - values[:, 3:])[both].mean() < 0.2
    assert np.abs(last[~known[:, :3]]).mean() < 0.35
    # Nothing is seen yet, whatever it is; how rows are summed depends on the processor.
    assert np.array_equal(first, network.told(-2 * values, known[::-1], ORDER)[:, 0])
    assert np.ptp(first) < 1e-6


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    one, same, other = trained(7), trained(7), trained(8)

    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_numpy_tells_what_keras_tells() -> None:
    values, known = rows(50, 4)
    weights = trained(7)
    model = build(WIDTH, 1)
    model.set_weights(weights)

    told = Network(weights[::2], weights[1::2]).told(values, known, ORDER)

    assert isinstance(model, keras.Model)
    for group in range(GROUPS):
        seen = known & (group > ORDER)
        given = np.hstack([np.where(seen, values, 0), ~seen]).astype(np.float32)
        found = np.asarray(model(given))[:, group == ORDER]
        np.testing.assert_allclose(told[:, group == ORDER], found, atol=1e-5)


def test_missing_numbers_are_not_learned_from() -> None:
    values, known = rows(200, 5)
    held_out = rows(50, 6)
    strange = np.where(known, values, 5).astype(np.float32)

    # What stands where a number is missing counts neither as seen nor as wanted.
    one, other = (fit(some, known, held_out, GROUPS, 7) for some in (values, strange))

    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))


def test_a_loss_that_is_no_number_ends_the_training_in_words() -> None:
    values, known = rows(200, 5)
    values[0, 0], known[0, 0] = np.nan, True

    with pytest.raises(
        TrainingError, match=r"epoch 1 of autoencoder \(200 units, seed 7\): .* 50 others is nan"
    ):
        fit(values, known, rows(50, 6), GROUPS, 7)
