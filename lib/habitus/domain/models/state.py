"""What training goes on from after an epoch: weights, the optimizer's variables, the losses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat, TypeAdapter, ValidationError

from habitus.domain.detectors.files import MEND, arrays_file, read_arrays
from habitus.domain.models.shape import Array
from habitus.errors import ArtefactError

_HISTORY, _GROUPS = "history", ("weights", "optimizer", "best")


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; losses in nats per judged event."""

    epoch: int
    loss: FiniteFloat
    validation_loss: FiniteFloat
    learning_rate: FiniteFloat


_Epochs = TypeAdapter(list[Epoch])


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
        arrays: dict[str, npt.NDArray[Any]] = {
            f"{name}_{index:04d}": array
            for name in _GROUPS
            for index, array in enumerate(getattr(self, name))
        }
        history = np.frombuffer(_Epochs.dump_json(self.history), dtype=np.uint8)
        return arrays_file({_HISTORY: history, **arrays})

    @classmethod
    def from_bytes(cls, content: bytes, name: str, first: "State") -> "State":
        """Read what `to_bytes` wrote after an epoch.

        Args:
            content: The file's.
            name: The file's name.
            first: The state before the first epoch, to whose arrays these must be alike.

        Raises:
            ArtefactError: The file is damaged, or of another model.
        """
        arrays = read_arrays({name: content}, name)
        groups = {
            group: [arrays[key] for key in sorted(arrays) if key.startswith(f"{group}_")]
            for group in _GROUPS
        }
        if any(_forms(groups[group]) != _forms(getattr(first, group)) for group in _GROUPS):
            raise ArtefactError(name, "of another model", MEND)
        try:
            history = _Epochs.validate_json(arrays[_HISTORY].tobytes())
        except (KeyError, ValidationError) as error:
            raise ArtefactError(name, "without the losses of epochs", MEND) from error
        if not history or [one.epoch for one in history] != list(range(1, len(history) + 1)):
            raise ArtefactError(name, "without the losses of every epoch", MEND)
        return cls(history=history, **groups)


def _forms(arrays: Sequence[npt.NDArray[Any]]) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    return [(array.shape, array.dtype) for array in arrays]
