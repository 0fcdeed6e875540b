"""What a behaviour model in ONNX makes of units: how much each surprises it, and where."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.rarity import Surprises
from habitus.domain.models.batches import Batch, by_length, padding
from habitus.domain.models.onnx_session import session_of
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.domain.representations import pooled
from habitus.domain.units import Floats, Units
from habitus.setting_types import UnitKind

# Of units of like length that are scored together: what is made of more leaves the cache.
BATCH_POSITIONS = 1024
# The model's outputs: of each token its surprise, what surprise the model expected and how far that
# may vary; its body's state; how likely each token of each field is.
MEASURES = ("surprise", "entropy", "variance")
STATE, LOG_PROBABILITIES = "state", "log_probabilities"


class BehaviourModel:
    """Asks a model about units, those of like length together.

    Args:
        shape: The model's.
        content: The model as ONNX.
    """

    def __init__(self, shape: BehaviourShape, content: bytes) -> None:
        self.shape = shape
        self._session = session_of(content)

    def by_length(self, units: Units) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
        """All units in batches, each with the indices of its units."""
        return by_length(units, BATCH_POSITIONS, self.shape, BATCH_POSITIONS)

    def padding(self, units: Units) -> tuple[int, int]:
        """How many positions these units are laid out to, and how many of them are padding."""
        lengths = self.shape.lengths(units)
        return padding(lengths, BATCH_POSITIONS, self.shape, BATCH_POSITIONS)

    def run(self, outputs: Sequence[str], batch: Batch) -> list[Array]:
        """[B, T, ...] outputs of the model."""
        given = {"tokens": batch.tokens, "context": batch.context}
        return [
            values.reshape(*batch.judged.shape, -1)
            for values in self._session.run(list(outputs), given)
        ]

    def surprise_to_anyone(self, batch: Batch) -> Array:
        """[B, T, F] surprise, in nats, as if nothing were known of the users."""
        nothing = np.full_like(batch.context, np.nan)
        (surprise,) = self.run(MEASURES[:1], replace(batch, context=nothing))
        return surprise

    def surprises(self, units: Units) -> Surprises:
        """What the model makes of each unit."""
        size = (len(units), len(self.shape.fields))
        excess, variance, judged = np.zeros(size), np.zeros(size), np.zeros(size)
        strongest, less_likely = np.zeros(len(units)), np.zeros(len(units))
        fields = np.ones(size[1], dtype=np.float32)
        for chosen, batch in self.by_length(units):
            surprise, entropy, spread = self.run(MEASURES, batch)
            beyond = surprise - entropy
            # Products, as numpy adds along a middle axis slowly. Where there is no token all is 0.
            counts = batch.judged[:, None].astype(np.float32)
            excess[chosen] = (counts @ beyond)[:, 0]
            variance[chosen] = (counts @ spread)[:, 0]
            judged[chosen] = (counts @ (batch.tokens > 0).astype(np.float32))[:, 0]
            # What is not judged, padding above all, is no event that could be the strongest.
            strongest[chosen] = np.where(batch.judged, beyond @ fields, -np.inf).max(axis=1)
            if self.shape.own_habit:
                less = counts @ (surprise - self.surprise_to_anyone(batch))
                less_likely[chosen] = less[:, 0] @ fields
        strongest[np.isinf(strongest)] = 0.0  # where nothing is judged
        habit = less_likely if self.shape.own_habit else None
        return Surprises(excess, variance, judged, strongest, habit)

    def nats(self, units: Units) -> Scores:
        """[N] surprise of all that is judged in each unit, its end included if it is closed."""
        nats = np.zeros(len(units))
        for chosen, batch in self.by_length(units):
            (surprise,) = self.run(MEASURES[:1], batch)
            nats[chosen] = np.where(told(batch), surprise, 0).sum(axis=(1, 2))
        return nats

    def pooled(self, units: Units, unit_kind: UnitKind) -> Floats:
        """[N, H] the pooled states of each unit, see `representations.pooled`.

        An event unit's own are those of its history, too.
        """
        since = units.scored_from * (unit_kind == "session")
        states = np.zeros((len(units), self.shape.hidden), dtype=np.float32)
        for chosen, batch in self.by_length(units):
            # The state that has read a unit's last event is one position further.
            longer = replace(
                batch,
                tokens=np.pad(batch.tokens, ((0, 0), (0, 1), (0, 0))),
                judged=np.pad(batch.judged, ((0, 0), (0, 1))),
            )
            (found,) = self.run([STATE], longer)
            states[chosen] = pooled(found, units.lengths[chosen], since[chosen])
        return states


def told(batch: Batch) -> npt.NDArray[np.bool_]:
    """[B, T, F] which tokens are judged."""
    return batch.judged[:, :, None] & (batch.tokens > 0)
