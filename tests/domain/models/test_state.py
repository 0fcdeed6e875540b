"""What training stores after an epoch is read again, or refused where it is not that."""

import json
from dataclasses import replace

import numpy as np
import pytest

from habitus.domain.detectors.files import arrays_file, read_arrays
from habitus.domain.models.state import Epoch, State
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

KERNEL, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, dtype=np.float32)
FIRST = State([KERNEL, BIAS], [np.array(0), KERNEL * 0], best=[KERNEL, BIAS])
HISTORY = [Epoch(1, 2.5, 2.0, 0.01), Epoch(2, 1 / 3, 0.1 + 0.2, 0.001)]
AFTER_TWO = State([KERNEL * 2, BIAS], [np.array(7), KERNEL], [KERNEL, BIAS * 3], HISTORY)


def test_a_state_comes_back_to_the_last_bit() -> None:
    found = State.from_bytes(AFTER_TWO.to_bytes(), "state.npz", FIRST)

    assert found.history == HISTORY
    for group in ("weights", "optimizer", "best"):
        for mine, other in zip(getattr(found, group), getattr(AFTER_TWO, group), strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    "other",
    [
        replace(AFTER_TWO, weights=[KERNEL.T, BIAS]),
        replace(AFTER_TWO, weights=[KERNEL, BIAS.astype(np.float64)]),
        replace(AFTER_TWO, optimizer=[np.array(7)]),
        replace(AFTER_TWO, best=[]),
    ],
    ids=["shape", "type", "optimizer", "best"],
)
def test_a_state_of_another_model_is_refused(other: State) -> None:
    with pytest.raises(ArtefactError, match=r"state.npz: of another model"):
        State.from_bytes(other.to_bytes(), "state.npz", FIRST)


def with_history(history: bytes) -> bytes:
    arrays = read_arrays({"": AFTER_TWO.to_bytes()}, "")
    return arrays_file(arrays | {"history": np.frombuffer(history, dtype=np.uint8)})


@pytest.mark.parametrize(
    "history",
    [
        b"",
        b"{}",
        b"[]",
        b'[{"epoch": 1}]',
        json.dumps([vars(HISTORY[1])]).encode(),
        json.dumps([vars(replace(HISTORY[0], validation_loss=np.nan))]).encode(),
    ],
)
def test_a_state_without_the_losses_of_its_epochs_is_refused(history: bytes) -> None:
    with pytest.raises(ArtefactError, match=r"state.npz: without the losses"):
        State.from_bytes(with_history(history), "state.npz", FIRST)


def test_a_file_of_something_else_is_refused() -> None:
    for content in (b"", AFTER_TWO.to_bytes()[:-9], arrays_file({"weights": KERNEL})):
        with pytest.raises(ArtefactError, match=r"state.npz: "):
            State.from_bytes(content, "state.npz", FIRST)
