"""Units in columns: what detectors fit on and score.

The events of all units lie end to end in flat arrays; `offsets` says where each unit begins, as
in an Arrow list array. Nothing is padded and nothing is a Python list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Units:
    """A batch of N units with M events in all.

    Args:
        offsets: [N + 1] where each unit's events begin, int64, starting at 0.
        tokens: field -> [M] token of each event; 0 is never used (it pads), see `Vocabulary`.
        amounts: [M] amount of each event, 0 where there is none.
        gaps: [M] seconds since the event before, 0 for a unit's first.
        context: [N, C] the unit's features, NaN where there is no history.
        scored_from: [N] index within the unit of the first event that is judged; the events
            before it are history.
        closed: [N] whether the last event ends the unit, so that its end can be judged too.
    """

    offsets: npt.NDArray[np.int64]
    tokens: Mapping[str, Ints]
    amounts: Floats
    gaps: Floats
    context: Floats
    scored_from: Ints
    closed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[N] events of each unit."""
        lengths: npt.NDArray[np.int64] = self.offsets[1:] - self.offsets[:-1]
        return lengths

    @cached_property
    def unit_of_event(self) -> npt.NDArray[np.int64]:
        """[M] index of the unit that each event belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def position(self) -> npt.NDArray[np.int64]:
        """[M] index of each event within its unit."""
        events: npt.NDArray[np.int64] = np.arange(self.offsets[-1], dtype=np.int64)
        return events - self.offsets[:-1][self.unit_of_event]

    @cached_property
    def scored(self) -> npt.NDArray[np.bool_]:
        """[M] whether an event is judged rather than history."""
        return self.position >= self.scored_from[self.unit_of_event]

    def take(self, indices: npt.NDArray[np.int64]) -> "Units":
        """The units at these indices, in this order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        events = np.repeat(self.offsets[indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Units(
            offsets=offsets,
            tokens={name: values[events] for name, values in self.tokens.items()},
            amounts=self.amounts[events],
            gaps=self.gaps[events],
            context=self.context[indices],
            scored_from=self.scored_from[indices],
            closed=self.closed[indices],
        )

    def without_history(self) -> "Units":
        """The units less the events that are not judged."""
        if not self.scored_from.any():
            return self
        kept = self.scored
        lengths = np.bincount(self.unit_of_event[kept], minlength=len(self))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            tokens={name: values[kept] for name, values in self.tokens.items()},
            amounts=self.amounts[kept],
            gaps=self.gaps[kept],
            scored_from=np.zeros_like(self.scored_from),
        )

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch, fields: tuple[str, ...]) -> "Units":
        """Read the columns of `sequences`, without copying where Arrow allows."""
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])

        def flat(name: str) -> pa.ListArray:
            return table.column(name).combine_chunks()

        first = flat(fields[0])
        lengths = first.value_lengths().to_numpy(zero_copy_only=False)
        context = flat("context").flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        width = len(context) // max(len(table), 1)
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            tokens={
                name: flat(name).flatten().to_numpy(zero_copy_only=False).astype(np.int32)
                for name in fields
            },
            amounts=flat("amounts").flatten().to_numpy(zero_copy_only=False).astype(np.float32),
            gaps=flat("gaps").flatten().to_numpy(zero_copy_only=False).astype(np.float32),
            context=context.reshape(len(table), width),
            scored_from=table.column("scored_from").to_numpy().astype(np.int32),
            closed=table.column("closed").to_numpy().astype(bool),
        )
