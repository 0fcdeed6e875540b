"""How often each action happens in a unit, and how rare it is that it happens as often.

Order does not tell all: who reads prices by the hundred does so as anybody would, but for how
often. Up to the counts that hardly any training unit reaches, the share that reaches them tells how
rare they are; a few crawlers among the training units then cost little. Beyond, rarity grows as
that of a negative binomial distribution does, which a Poisson one becomes where people differ in
how much they do (Greenwood and Yule 1920, "An inquiry into the nature of frequency distributions"),
fitted by its moments. The evidence of a unit is the rarest count alone, -ln P(C >= c): most attacks
repeat one thing, and the sum over all actions is that of a long unit.
"""

from functools import cached_property
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt
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
_KNOWN = 10  # units that reach a count make its share known
_TABLE = 1000  # counts up to this are looked up
_MOST = 690.0  # nats
_MIDDLE = 0.8  # of the units have a count that is called usual


class Repeats(BaseModel):
    """What is usual: how often each of A tokens of the field action happens in a unit.

    Args:
        units: How many units this was learned from.
        reached: [A] how many of them have it at least 1, 2, ... times, up to the first count that
            fewer than 10 have.
        means: [A] mean count in a unit.
        sizes: [A] the negative binomial distribution's size, r: its variance is
            mean + mean^2 / r.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: PositiveInt
    reached: tuple[Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)], ...]
    means: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    sizes: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @classmethod
    def fit(cls, units: Units, actions: int) -> Self:
        """Learn from at least one unit, of `actions` tokens."""
        counts = _counts(units, actions)
        means = (counts.sum(axis=0) + _PRIOR) / (len(units) + 1)
        beyond = np.maximum(counts.var(axis=0), _DISPERSION * means) - means
        return cls(
            units=len(units),
            reached=tuple(_reached(column) for column in counts.T),
            means=tuple(means.tolist()),
            sizes=tuple((means**2 / beyond).tolist()),
        )

    def refuse_other(self, place: str, vocabulary: Vocabulary) -> None:
        """Refuse what is not of a vocabulary's actions.

        Raises:
            ArtefactError: A file, the place, holds counts of another number of actions.
        """
        actions = vocabulary.field("action").size
        if not len(self.reached) == len(self.means) == len(self.sizes) == actions:
            raise ArtefactError(place, f"not every of {actions} actions has its counts", MEND)

    @cached_property
    def _table(self) -> Reals:
        """[A, 1 + _TABLE] how rare at least so many are."""
        actions = np.arange(len(self.means))
        return self._nats(actions[:, None], np.arange(1 + _TABLE)[None])

    def _nats(self, tokens: Counts, counts: Counts) -> Reals:
        """How rare at least so many of each of these tokens are; their shapes go together."""
        lengths = np.array([len(of_token) for of_token in self.reached])
        shares = np.zeros((len(lengths), lengths.max() + 1))
        for token, of_token in enumerate(self.reached):
            shares[token, 1 : 1 + len(of_token)] = -np.log(
                (np.array(of_token) + 1) / (self.units + 1)
            )
        known = lengths[tokens]
        nats = shares[tokens, np.minimum(counts, known)]
        nats = nats + np.maximum(self._fitted(tokens, counts) - self._fitted(tokens, known), 0)
        # What has no value is no action.
        return np.where(tokens > MISSING, np.minimum(nats, _MOST), 0.0)

    def _fitted(self, tokens: Counts, counts: Counts) -> Reals:
        """The same by the negative binomial distributions alone."""
        sizes = np.asarray(self.sizes)[tokens]
        shares = sizes / (sizes + np.asarray(self.means)[tokens])
        nats: Reals = -stats.nbinom.logsf(counts - 1, sizes, shares)
        return np.minimum(nats, _MOST)

    def rarest(self, units: Units) -> tuple[Reals, Counts, Counts]:
        """[N] how rare each unit's rarest count is, in nats; of which token it is, and the count.

        0 of a unit in which nothing is judged.
        """
        counts = _counts(units, len(self.means))
        nats = self._table[np.arange(len(self.means)), np.minimum(counts, _TABLE)]
        many = np.nonzero(counts > _TABLE)
        nats[many] = self._nats(many[1], counts[many])
        token = np.where(counts > 0, nats, -1).argmax(axis=1)
        rows = np.arange(len(units))
        return nats[rows, token], token, counts[rows, token]

    def _usual(self, token: int) -> str:
        """The counts between which the middle units are."""
        tails = (1 - _MIDDLE) / 2 * self.units
        reached = np.array(self.reached[token])
        low, high = (np.count_nonzero(reached > most) for most in (self.units - tails, tails))
        return f"{low} to {high}"

    def reasons(self, units: Units, actions: FieldVocabulary, share: Reals) -> list[Reason]:
        """What each unit's rarest count says, at the middle one of the events that are counted.

        Args:
            units: N units, in each of which something is judged.
            actions: The field action.
            share: [N] what it has of each unit's score.
        """
        nats, tokens, counts = self.rarest(units)
        found = []
        for unit, token in enumerate(tokens):
            own = slice(units.offsets[unit] + units.scored_from[unit], units.offsets[unit + 1])
            places = np.flatnonzero(units.tokens["action"][own] == token)
            found.append(
                Reason(
                    event_index=int(units.scored_from[unit] + places[len(places) // 2]),
                    field=f"number of {actions.describe(int(token))}",
                    observed=str(counts[unit]),
                    expected=((self._usual(int(token)), _MIDDLE),),
                    surprise=float(nats[unit] / np.log(2)),
                    share=float(share[unit]),
                    against="peers",
                )
            )
        return found


def _reached(counts: Counts) -> tuple[int, ...]:
    """How many of [N] counts are at least 1, 2, ..., up to the first that fewer than _KNOWN are."""
    at_least = np.bincount(counts)[::-1].cumsum()[::-1][1:]
    known = np.count_nonzero(at_least >= _KNOWN)
    return tuple(np.append(at_least, 0)[: known + 1].tolist())


def _counts(units: Units, actions: int) -> Counts:
    """[N, A] how often each token of the field action is judged in each unit."""
    judged = units.scored
    cells = units.unit_of_event[judged] * actions + units.tokens["action"][judged]
    return np.bincount(cells, minlength=len(units) * actions).reshape(len(units), actions)
