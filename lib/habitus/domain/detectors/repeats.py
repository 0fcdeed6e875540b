"""How often each action happens in a unit, and how rare it is that it happens as often.

Order does not tell all: who reads prices by the hundred does so as anybody would, but for how
often. Up to the counts that hardly any training unit reaches, the share that reaches them tells how
rare they are; a few crawlers among the training units then cost little. Beyond, the share falls as
a power of the count, as it does of much that people do (Newman 2005, "Power laws, Pareto
distributions and Zipf's law"): twice as often is 2.8 nats rarer, of whatever action. The
evidence of a unit is the rarest count alone, -ln P(C >= c): most attacks repeat one thing, and the
sum over all actions is that of a long unit.
"""

from functools import cached_property
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from habitus.domain.detectors.base import Reason
from habitus.domain.detectors.files import MEND
from habitus.domain.detectors.summary import Feature
from habitus.domain.units import Units
from habitus.domain.vocabulary import MISSING, FieldVocabulary, Vocabulary
from habitus.errors import ArtefactError

Reals = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

RAREST_COUNT = Feature("rarest count of an action", "plain", "nats")
_KNOWN = 10  # units that reach a count make its share known
# Of the count, with which the share falls beyond; 3 to 6 find as much on the shops that choices are
# made on.
_POWER = 4.0
_MIDDLE = 0.8  # of the units have a count that is called usual


class Repeats(BaseModel):
    """What is usual: how often each of A tokens of the field action happens in a unit.

    Args:
        units: How many units this was learned from.
        reached: [A] how many of them have it at least 1, 2, ... times, up to the first count that
            fewer than 10 have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: PositiveInt
    reached: tuple[Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)], ...]

    @classmethod
    def fit(cls, units: Units, actions: int) -> Self:
        """Learn from at least one unit, of `actions` tokens."""
        counts = _counts(units, actions)
        return cls(units=len(units), reached=tuple(_reached(column) for column in counts.T))

    def refuse_other(self, place: str, vocabulary: Vocabulary) -> None:
        """Refuse what is not of a vocabulary's actions.

        Raises:
            ArtefactError: A file, the place, holds counts of another number of actions.
        """
        actions = vocabulary.field("action").size
        if len(self.reached) != actions:
            raise ArtefactError(place, f"not every of {actions} actions has its counts", MEND)

    @cached_property
    def _known(self) -> tuple[Counts, Reals]:
        """[A] the last count of each token whose rarity is known; [A, 1 + the most] rarities."""
        known = np.array([len(of_token) for of_token in self.reached])
        nats = np.zeros((len(known), 1 + known.max()))
        for token, of_token in enumerate(self.reached):
            shares = (np.array(of_token) + 1) / (self.units + 1)
            nats[token, 1 : 1 + len(of_token)] = -np.log(shares)
        return known, nats

    def rarest(self, units: Units) -> tuple[Reals, Counts, Counts]:
        """[N] how rare each unit's rarest count is, in nats; of which token it is, and the count.

        0 of a unit in which nothing is judged.
        """
        counts = _counts(units, len(self.reached))
        known, nats_of = self._known
        nats = nats_of[np.arange(len(known)), np.minimum(counts, known)]
        beyond = np.nonzero(counts > known)
        nats[beyond] += _POWER * np.log(counts[beyond] / known[beyond[1]])
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
    """[N, A] how often each token of the field action is judged in each unit.

    What has no value is no action.
    """
    judged = units.scored & (units.tokens["action"] > MISSING)
    cells = units.unit_of_event[judged] * actions + units.tokens["action"][judged]
    return np.bincount(cells, minlength=len(units) * actions).reshape(len(units), actions)
