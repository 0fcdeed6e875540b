"""How surprises of single events add up to the score of a unit, short or long.

A model's surprises alone do not compare units: longer ones have more of them, some fields are
always hard to foresee, and the model may be a little wrong about how hard. So some pieces of
evidence are weighed, each against what it is among units the model was not trained on:

- the total: how far all surprise together is from what the model expected, in its standard
  deviations, as the central limit theorem would have it; finds long units in which everything
  is a little odd, or in which everything goes too regularly to be a person's doing;
- the strongest field: the same within one field;
- the strongest event: the surprise beyond the expected one in a single event, over its fields;
- where it is known, the habit: by how much the unit is less likely of its user than of one of whom
  nothing is known, as the logarithm of the likelihood ratio.

A piece's rarity is minus the logarithm of the share of held-out units that have at least as much
of it, with an exponential tail beyond the 95th percentile. They all look at the same surprises, so
the largest of their rarities counts, the smallest p-value (Tippett 1931). To it is added, where it
is known, the rarity of what order does not tell: how often the unit does a single thing, see
`repeats` (Fisher 1932: the logarithms of independent p-values add up).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Values = npt.NDArray[np.float64]

PIECES = ("total", "field", "event", "habit")
TOTAL, FIELD, EVENT, HABIT = range(len(PIECES))
_TAIL = 0.95
_LEVELS = np.linspace(0, _TAIL, 96)
_SAME = 1e-3  # scores that are the same differ by less from batch to batch
# Few units may show a tail that is too short: deviations have at least a normal distribution's, and
# what is in nats is no rarer than it says.
_NORMAL, _NATS = 0.4, 1.0
_FLOOR = 0.25  # nats squared that keep a field without any uncertainty from dividing by nothing


@dataclass(frozen=True)
class Surprises:
    """What the model made of N units, per field F, all in nats and over judged events only.

    Args:
        excess: [N, F] sum of surprise minus its expectation.
        variance: [N, F] sum of the surprise's variance under the model.
        judged: [N, F] how many tokens were judged.
        strongest: [N] the largest excess of a single event.
        less_likely: [N] surprise less what it would be if nothing were known of the user; none
            where that is not asked.
        rarest_count: [N] from `Repeats.rarest`; none where counts do not count.
    """

    excess: Values
    variance: Values
    judged: Values
    strongest: Values
    less_likely: Values | None = None
    rarest_count: Values | None = None


class Rarity(BaseModel):
    """What is normal, learned from units that the model was not trained on.

    Args:
        bias: [F] mean excess surprise per event.
        spread: [F] variance of a field's excess, as a multiple of what the model expects.
        total_spread: The same for all fields together.
        quantiles: [P, 96] quantiles of each piece, up to the 95th percentile; that of counts last.
        beyond: [P] rarity of what is beyond it, in nats.
        scales: [P] mean of the exponential tail of each piece beyond it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: tuple[float, ...]
    spread: tuple[float, ...]
    total_spread: float
    quantiles: tuple[tuple[float, ...], ...] = ()
    beyond: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    @classmethod
    def fit(cls, surprises: Surprises) -> "Rarity":
        """Learn from at least one unit."""
        judged = np.maximum(surprises.judged.sum(axis=0), 1)
        bias = surprises.excess.sum(axis=0) / judged
        centred = surprises.excess - bias * surprises.judged
        spread = _ratio(centred, surprises.variance)
        total = _ratio(centred.sum(axis=1), surprises.variance.sum(axis=1))
        bare = cls(
            bias=tuple(bias.tolist()), spread=tuple(spread.tolist()), total_spread=float(total)
        )
        pieces = bare._pieces(surprises)
        # Values that units have: of one that many have, none is beyond.
        quantiles = np.quantile(pieces, _LEVELS, axis=0, method="inverted_cdf")
        beyond, scales = [], []
        for index, (piece, start) in enumerate(zip(pieces.T, quantiles[-1], strict=True)):
            excess = piece[piece > start + _SAME] - start
            beyond.append(float(-np.log((len(excess) + 1) / (len(piece) + 1))))
            # By the median, so that the anomalies among the held-out units do not decide it.
            median = np.median(excess) if len(excess) else 0.0
            least = _NORMAL if index in (TOTAL, FIELD) else _NATS
            scales.append(max(float(median) / np.log(2), least))
        return bare.model_copy(
            update={
                "quantiles": tuple(tuple(column.tolist()) for column in quantiles.T),
                "beyond": tuple(beyond),
                "scales": tuple(scales),
            }
        )

    def deviations(self, surprises: Surprises) -> Values:
        """[N, F + 1] standardised excess surprise of each field and of all together.

        Below 0 a unit is more regular than the model expects of such units.
        """
        centred = surprises.excess - np.asarray(self.bias) * surprises.judged
        fields = centred / np.sqrt(surprises.variance * np.asarray(self.spread) + _FLOOR)
        variance = surprises.variance.sum(axis=1) * self.total_spread + _FLOOR
        total = centred.sum(axis=1) / np.sqrt(variance)
        return np.concatenate([fields, total[:, None]], axis=1)

    def _pieces(self, surprises: Surprises) -> Values:
        """[N, P] the pieces of evidence, in the order of PIECES."""
        size = np.abs(self.deviations(surprises))
        pieces = [size[:, -1], size[:, :-1].max(axis=1), surprises.strongest]
        if surprises.less_likely is not None:
            pieces.append(surprises.less_likely)
        if surprises.rarest_count is not None:
            pieces.append(surprises.rarest_count)
        return np.stack(pieces, axis=1)

    def rarities(self, surprises: Surprises) -> tuple[Values, Values]:
        """[N, P] rarity of each piece, in nats, in the order of PIECES; [N] of counts, or 0."""
        rarities = []
        pieces = self._pieces(surprises).T
        tails = zip(pieces, self.quantiles, self.beyond, self.scales, strict=True)
        for piece, quantiles, beyond, scale in tails:
            # Of a value that many units have, as many have at least as much as at its first level.
            values, first = np.unique(quantiles, return_index=True)
            inside = np.interp(piece, values, -np.log1p(-_LEVELS[first]))
            excess = np.maximum(piece - quantiles[-1], 0)
            start = np.where(excess > _SAME, np.maximum(inside, beyond), inside)
            rarities.append(start + excess / scale)
        of_counts = np.zeros(len(pieces[0]))
        if surprises.rarest_count is not None:
            of_counts = rarities.pop()
        return np.stack(rarities, axis=1), of_counts

    def score(self, surprises: Surprises) -> Values:
        """[N] the largest rarity of the pieces, and that of counts, in nats."""
        pieces, of_counts = self.rarities(surprises)
        score: Values = pieces.max(axis=1) + of_counts
        return score


def _ratio(centred: Values, variance: Values) -> Values:
    """Mean square over mean variance, without the largest hundredth of the squares."""
    squares = centred**2
    squares = np.minimum(squares, np.quantile(squares, 0.99, axis=0))
    ratio: Values = np.maximum(squares.sum(axis=0) / np.maximum(variance.sum(axis=0), 1e-9), 1e-3)
    return ratio
