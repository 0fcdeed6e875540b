"""How often each action happens in a unit, and how rare it is that it happens as often.

Order does not tell all: who reads prices by the hundred does so as anybody would, but for how
often. The counts of an action follow a negative binomial distribution, which a Poisson one becomes
where people differ in how much they do (Greenwood and Yule 1920, "An inquiry into the nature of
frequency distributions"), fitted by its moments. The evidence of a unit is the rarest count alone,
-ln P(C >= c): most attacks repeat one thing, and the sum over all actions is that of a long unit.
"""

from functools import cached_property
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy import stats

from habitus.domain.detectors.base import Reason
from habitus.domain.detectors.files import MEND
from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Units
from habitus.domain.vocabulary import MISSING, FieldVocabulary, Vocabulary
from habitus.errors import ArtefactError

Reals = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

RAREST_COUNT = Feature("rarest count of an action", "plain", "nats")
_PRIOR = 0.5  # times that an action happens in a unit more than there are
_DISPERSION = 1.01  # of variance to mean, at the least; at 1 it is a Poisson distribution
_COUNTED = 1000  # higher counts are as rare
_LEAST = 1e-300  # probability
_MIDDLE = 0.8  # of the units have a count that is called usual


class Repeats(BaseModel):
    """What is usual: the negative binomial distribution of each of A tokens of the field action.

    Args:
        means: [A] mean count in a unit.
        sizes: [A] the distribution's size, r: the variance is mean + mean^2 / r.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    means: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    sizes: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @classmethod
    def fit(cls, units: Units, actions: int) -> Self:
        """Learn from at least one unit, of `actions` tokens."""
        counts = _counts(units, actions)
        means = (counts.sum(axis=0) + _PRIOR) / (len(units) + 1)
        beyond = np.maximum(counts.var(axis=0), _DISPERSION * means) - means
        return cls(means=tuple(means.tolist()), sizes=tuple((means**2 / beyond).tolist()))

    def refuse_other(self, place: str, vocabulary: Vocabulary) -> None:
        """Refuse what is not of a vocabulary's actions.

        Raises:
            ArtefactError: A file, the place, holds counts of another number of actions.
        """
        actions = vocabulary.field("action").size
        if not len(self.means) == len(self.sizes) == actions:
            raise ArtefactError(place, f"not every of {actions} actions has its counts", MEND)

    @cached_property
    def _nats(self) -> Reals:
        """[A, 1 + _COUNTED] how rare at least so many are."""
        sizes = np.asarray(self.sizes)[:, None]
        shares = sizes / (sizes + np.asarray(self.means)[:, None])
        tails = stats.nbinom.sf(np.arange(1 + _COUNTED) - 1, sizes, shares)
        nats: Reals = -np.log(np.maximum(tails, _LEAST))
        # What has no value is no action.
        nats[: MISSING + 1] = 0
        return nats

    def rarest(self, units: Units) -> tuple[Reals, Counts, Counts]:
        """[N] how rare each unit's rarest count is, in nats; of which token it is, and the count.

        0 of a unit in which nothing is judged.
        """
        counts = _counts(units, len(self.means))
        nats = self._nats[np.arange(len(self.means)), np.minimum(counts, _COUNTED)]
        token = nats.argmax(axis=1)
        rows = np.arange(len(units))
        return nats[rows, token], token, counts[rows, token]

    def reasons(self, units: Units, actions: FieldVocabulary, share: Reals) -> list[Reason]:
        """What each unit's rarest count says, at the middle one of the events that are counted.

        Args:
            units: N units, in each of which something is judged.
            actions: The field action.
            share: [N] what it has of each unit's score.
        """
        nats, tokens, counts = self.rarest(units)
        means, sizes = np.asarray(self.means)[tokens], np.asarray(self.sizes)[tokens]
        tails = (1 - _MIDDLE) / 2
        low, high = stats.nbinom.ppf([[tails], [1 - tails]], sizes, sizes / (sizes + means))
        found = []
        for unit, token in enumerate(tokens):
            own = slice(units.offsets[unit] + units.scored_from[unit], units.offsets[unit + 1])
            places = np.flatnonzero(units.tokens["action"][own] == token)
            usual = f"{low[unit]:.0f} to {high[unit]:.0f}"
            found.append(
                Reason(
                    event_index=int(units.scored_from[unit] + places[len(places) // 2]),
                    field=f"number of {actions.describe(int(token))}",
                    observed=str(counts[unit]),
                    expected=((usual, _MIDDLE),),
                    surprise=float(nats[unit] / np.log(2)),
                    share=float(share[unit]),
                    against="peers",
                )
            )
        return found


def _counts(units: Units, actions: int) -> Counts:
    """[N, A] how often each token of the field action is judged in each unit."""
    judged = units.scored
    cells = units.unit_of_event[judged] * actions + units.tokens["action"][judged]
    return np.bincount(cells, minlength=len(units) * actions).reshape(len(units), actions)
