"""How long people take after each action."""

from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Units

Reals = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SHORTEST = 0.05  # seconds; all shorter gaps are as short
_PRIOR = 20.0  # an action seen this often weighs as much as all actions together
_LEAST_DEVIATION = 0.1  # of the logarithm of a gap
PACES = tuple(
    Feature(f"{name} of gaps beside usual ones", "plain", "deviations", "sequence")
    for name in ("mean", "sum", "spread")
)


class Pace(BaseModel):
    """How long people take after each action.

    Args:
        means: [A] mean logarithm of the gap in seconds after the action of each token.
        deviations: [A] its standard deviation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    means: tuple[FiniteFloat, ...]
    deviations: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @classmethod
    def fit(cls, units: Units, actions: int) -> Self:
        """Learn from units, of `actions` tokens; those seen rarely are drawn to all together."""
        before, logs, *_ = _gaps(units)
        if not len(logs):
            return cls(means=(0.0,) * actions, deviations=(1.0,) * actions)
        times = np.bincount(before, minlength=actions) + _PRIOR
        means = (np.bincount(before, logs, actions) + _PRIOR * logs.mean()) / times
        squares = np.bincount(before, (logs - means[before]) ** 2, actions)
        deviations = np.sqrt((squares + _PRIOR * logs.var()) / times).clip(min=_LEAST_DEVIATION)
        return cls(means=tuple(means.tolist()), deviations=tuple(deviations.tolist()))

    def of(self, units: Units) -> Reals:
        """[N, 3] columns as in `PACES`; NaN for a unit none of whose gaps is judged."""
        before, logs, unit, _ = _gaps(units)
        beside = (logs - np.asarray(self.means)[before]) / np.asarray(self.deviations)[before]
        times = np.bincount(unit, minlength=len(units)).astype(np.float64)
        count = np.where(times > 0, times, np.nan)
        total, squares = (np.bincount(unit, one, len(units)) for one in (beside, beside**2))
        mean = total / count
        spread = np.sqrt((squares / count - mean**2).clip(min=0))
        return np.stack([mean, total / np.sqrt(count), spread], axis=1)

    def seconds(self, units: Units) -> Reals:
        """[N, 3] the geometric mean of each unit's gaps in seconds, and what moves it.

        The other two are by how much its logarithm grows with a deviation more of the mean, and of
        the sum, as `of` has them. NaN as there.
        """
        before, logs, unit, _ = _gaps(units)
        count = np.bincount(unit, minlength=len(units)).astype(np.float64)
        count[count == 0] = np.nan
        mean, deviation = (
            np.bincount(unit, one, len(units)) / count
            for one in (logs, np.asarray(self.deviations)[before])
        )
        return np.stack([np.exp(mean), deviation, deviation / np.sqrt(count)], axis=1)

    def furthest(self, units: Units) -> Indices:
        """[N] index within the unit of the event whose gap is the most too short, or too long.

        Which of the two is what the gaps of the unit are on average; 0 if none of them is judged.
        """
        before, logs, unit, event = _gaps(units)
        beside = (logs - np.asarray(self.means)[before]) / np.asarray(self.deviations)[before]
        side = np.sign(np.bincount(unit, beside, len(units)))
        order = np.lexsort((-beside * side[unit], unit))
        units_with_gaps, first = np.unique(unit[order], return_index=True)
        index = np.zeros(len(units), dtype=np.int64)
        index[units_with_gaps] = units.position[event[order[first]]]
        return index


def _gaps(units: Units) -> tuple[Indices, Reals, Indices, Indices]:
    """Of each judged event but the first ones: action before it, log of its gap, unit, own index.

    What is history is no event of the unit's own.
    """
    later = np.flatnonzero((units.position > 0) & units.scored)
    before = units.tokens["action"][later - 1].astype(np.int64)
    logs = np.log(units.gaps[later].astype(np.float64).clip(min=_SHORTEST))
    return before, logs, units.unit_of_event[later], later
