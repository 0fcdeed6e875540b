"""Units as vectors, for similarity, clustering and models of other things."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from habitus.domain.units import Floats, Ints, Units
from habitus.domain.vocabulary import Vocabulary

# A vector differs in the last bits with the other units of its batch; it is rounded to what hardly
# does, far below what tells two units apart.
_DECIMALS = 4
# Of the mean variance, so much is added to that of every direction.
_NOISE = 0.01
_CARRIED = (
    "unit_kind",
    "unit_id",
    "user_id",
    "event_time",
    "ended_at",
    "event_date",
    "fingerprint",
)
EMBEDDED = (
    "unit_kind string, unit_id string, user_id string, event_time timestamp, ended_at timestamp, "
    "event_date date, fingerprint bigint, vector array<float>"
)


class Embedder(Protocol):
    """What makes vectors of units."""

    def vectors(self, units: Units) -> Floats:
        """[N, H] a vector of length 1 for each unit."""
        ...


def pooled(states: Floats, lengths: npt.NDArray[np.int64], since: Ints) -> Floats:
    """One vector of each unit's states: their mean, as the last one has forgotten the first events.

    Args:
        states: [N, T, H] the state at each position, of the events before it; T > all lengths.
        lengths: [N] events of each unit, at least 1.
        since: [N] how many of them, at its begin, are not the unit's own.

    Returns:
        [N, H] the mean over the states that have read at least one event of its own.
    """
    steps = np.arange(states.shape[1])
    read = (steps > since[:, None]) & (steps <= lengths[:, None])
    sums = (read[:, None].astype(np.float32) @ states)[:, 0]
    return sums / (lengths - since)[:, None].astype(np.float32)


@dataclass(frozen=True)
class Whitening:
    """Turns pooled states into vectors whose cosines tell units apart.

    Pooled states point much the same way, and vary most in what tells little. Centred, turned to
    their main directions and scaled there to like variance, they do not: Su et al., Whitening
    sentence representations for better semantics and faster retrieval (2021), section 3.

    Args:
        centre: [H] mean of the pooled states.
        matrix: [H, H] to multiply with what is centred, symmetric.
    """

    centre: Floats
    matrix: Floats

    @classmethod
    def fit(cls, states: Floats) -> "Whitening":
        """Measure [N, H] pooled states, at least one."""
        centre = states.mean(axis=0, dtype=np.float64)
        centred = states - centre
        variances, directions = np.linalg.eigh(centred.T @ centred / len(states))
        # What hardly varies is rather noise than something to be told by.
        least = max(_NOISE * float(variances.mean()), np.finfo(np.float32).tiny)
        scaled = directions / np.sqrt(np.maximum(variances, 0) + least)
        return cls(centre.astype(np.float32), (scaled @ directions.T).astype(np.float32))

    def vectors(self, states: Floats) -> Floats:
        """[N, H] pooled states as vectors of length 1."""
        white = (states - self.centre) @ self.matrix
        lengths = np.linalg.norm(white, axis=1, keepdims=True)
        vectors: Floats = white / np.maximum(lengths, np.finfo(np.float32).tiny)
        return vectors


def embed_batch(
    batch: pa.RecordBatch, embedder: Embedder, vocabulary: Vocabulary
) -> pa.RecordBatch:
    """The vectors of a batch of `sequences` with columns `event_time` and `fingerprint`.

    Returns:
        Columns as in EMBEDDED.
    """
    units = Units.from_arrow(batch, vocabulary.field_names)
    vectors = embedder.vectors(units).round(_DECIMALS)
    offsets = np.arange(len(batch) + 1, dtype=np.int32) * vectors.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel(), pa.float32()))
    return pa.RecordBatch.from_pydict(
        {name: batch.column(name) for name in _CARRIED} | {"vector": lists}
    )
