"""From a score to a p-value: the share of normal units that are at least as strange.

Where calibration units are plenty, the p-value is conformal: p(s) = (1 + #{scores >= s}) /
(n + 1). It holds for any score, as long as units are exchangeable (Vovk, Gammerman and Shafer
2005, "Algorithmic learning in a random world", section 2.2; for outliers Bates et al. 2023,
"Testing for outliers with conformal p-values", section 1).

It ends at 1 / (n + 1), where all that is stranger would be alike. So beyond one of the largest
calibration scores generalised Pareto tails take over, which excesses over a high threshold follow
whatever the scores are like below it (Coles 2001, "An introduction to statistical modeling of
extreme values", section 4.2), fitted to the largest min(n / 10, 3 sqrt(n)) scores: few enough for
that to hold, more where there are more (after Vehtari et al. 2024, "Pareto smoothed importance
sampling", whose bounds are n / 5 and 3 sqrt(n)). Few scores do not tell one shape, so the p-value
is the mean over tails of many shapes, each weighed by how well it fits; where one of them ends, and
would call all beyond impossible, others go on.

Segments lie within each other, like new users within a promotion. A unit is compared with the
smallest segment it belongs to that has enough calibration units; which ones have too few, and what
stands in for them, is kept.

Labels are not used. Anomalies among the calibration units make p-values larger, never smaller.
"""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from habitus.errors import TrainingError

Reals = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

ALL: Final = "all"
LEAST_P_VALUE: Final = 1e-12
MINIMUM_UNITS: Final = 500  # a tenth of fewer scores, < 50, is too few to fit a tail's shape to
FEWEST = 20  # with fewer, ranks cannot tell a p-value of .05
_TAIL_SHARE = 0.1  # the largest scores, which tails are fitted to,
_TAIL_ROOTS = 3  # and no more than so many times the root of how many scores there are
_TAIL_FROM = 10  # the tail takes over at the 10th largest score, where ranks get coarse
_POINTS = 4096  # most scores kept of a segment
_NEAR_EXPONENTIAL = 1e-6  # of theta, in means of the excesses; at 0 the formulas divide by 0
_LEAST_WEIGHT = 1e-9  # of a tail that is kept
_TOLD = 20  # segments of either sort that are told of, of perhaps thousands


class Tail(BaseModel):
    """A generalised Pareto distribution of what is beyond the last of a curve's scores.

    Args:
        weight: How far it is believed; those of a curve's tails sum to 1.
        scale: Of the excess.
        shape: Below 0 it ends; above 0 it is heavier than an exponential one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(ge=0, le=1)
    scale: float = Field(gt=0)
    shape: float


class Curve(BaseModel):
    """The p-values of one segment.

    Args:
        units: Number n of calibration units.
        scores: [K] their distinct scores up to where the tails begin, ascending; of many, some.
        above: [K] number of units that score more than that.
        tails: What goes on beyond the last of the scores; none where no unit scores more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int = Field(ge=1)
    scores: tuple[float, ...] = Field(min_length=1)
    above: tuple[int, ...]
    tails: tuple[Tail, ...]

    @model_validator(mode="after")
    def _a_number_for_every_score(self) -> Self:
        if len(self.above) != len(self.scores):
            raise ValueError("scores and above differ in number")
        return self

    @classmethod
    def fit(cls, scores: Reals) -> "Curve":
        """Fit to the scores of n normal units, n >= 10."""
        units = len(scores)
        distinct, times = np.unique(scores, return_counts=True)
        at_least = times[::-1].cumsum()[::-1]
        join = int(np.flatnonzero(at_least >= _TAIL_FROM)[-1])
        start = float(distinct[join])
        share = min(_TAIL_SHARE, _TAIL_ROOTS / np.sqrt(units))
        threshold = min(float(np.quantile(scores, 1 - share)), start)
        # All of the upper half of the points, and evenly many ranks below it.
        kept = np.arange(join + 1)
        if len(kept) > _POINTS:
            few = np.linspace(0, join - _POINTS // 2, _POINTS // 2, endpoint=False)
            kept = np.concatenate([few.astype(np.int64), kept[-_POINTS // 2 :]])
        return cls(
            units=units,
            scores=tuple(distinct[kept].tolist()),
            above=tuple((at_least - times)[kept].tolist()),
            tails=_beyond(_fit_tails(scores[scores > threshold] - threshold), start - threshold),
        )

    def p_values(self, scores: Reals) -> Reals:
        """[N] p-values, from LEAST_P_VALUE to 1, never larger for a larger score.

        What is no number is not strange: its p-value is 1.
        """
        known = np.asarray(self.scores)
        # NaN would be sorted behind the last score, among the rarest.
        scores = np.where(np.isnan(scores), -np.inf, scores)
        counts = np.concatenate([[self.units], self.above])
        start = known[-1]
        inside = counts[np.searchsorted(known, np.minimum(scores, start))]
        p_values: Reals = (1 + inside) / (self.units + 1)
        beyond = scores > start
        rarest = (1 + self.above[-1]) / (self.units + 1)
        p_values[beyond] = rarest * _survival(self.tails, scores[beyond] - start)
        return np.maximum(p_values, LEAST_P_VALUE)


class Small(BaseModel):
    """A segment with too few calibration units.

    Args:
        name: Its name.
        units: How many it has.
        within: The segment that stands in for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    units: int
    within: str


class Calibration(BaseModel):
    """The p-values of a detector's scores, each within its segment.

    Args:
        overall: Of all calibration units.
        segments: Of each segment with at least MINIMUM_UNITS.
        small: The other segments, the largest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall: Curve
    segments: dict[str, Curve]
    small: tuple[Small, ...]

    @classmethod
    def fit(cls, scores: Reals, segments: Names) -> "Calibration":
        """Learn what is normal.

        Args:
            scores: [n] scores of calibration units.
            segments: [n, L] names of the segments that each unit belongs to, each within the one
                before; None where there is none. L may be 0.

        Raises:
            TrainingError: There are too few units, or a score is not a number.
        """
        if len(scores) < FEWEST:
            raise TrainingError(
                "calibration",
                f"{len(scores)} units to calibrate on, fewer than {FEWEST}",
                "Raise split.calibration_share or split.validation_until.",
            )
        if not np.isfinite(scores).all():
            raise TrainingError("calibration", "a score is not a number", "Train the model again.")
        curves: dict[str, Curve] = {}
        small: list[Small] = []
        within = np.full(len(scores), ALL, dtype=object)
        for level in segments.T:
            codes, names = pd.factorize(level)
            for code, name in enumerate(names):
                units = np.flatnonzero(codes == code)
                if name == ALL:
                    continue
                if len(units) < MINIMUM_UNITS:
                    small.append(Small(name=name, units=len(units), within=within[units[0]]))
                else:
                    curves[name] = Curve.fit(scores[units])
                    within[units] = name
        return cls(
            overall=Curve.fit(scores),
            segments=dict(sorted(curves.items())),
            small=tuple(sorted(small, key=lambda one: (-one.units, one.name))),
        )

    def p_values(self, scores: Reals, segments: Names) -> tuple[Reals, Names]:
        """Judge units within their segments.

        Args:
            scores: [N] scores.
            segments: [N, L] names of the segments of each unit, as in `fit`.

        Returns:
            [N] p-values, and [N] the segment each was compared with: the smallest of its own that
            has a curve, or ALL.
        """
        p_values = self.overall.p_values(scores)
        used = np.full(len(scores), ALL, dtype=object)
        for level in segments.T:
            codes, names = pd.factorize(level)
            for code, name in enumerate(names):
                if name in self.segments:
                    units = codes == code
                    p_values[units] = self.segments[name].p_values(scores[units])
                    used[units] = name
        return p_values, used

    def in_words(self) -> str:
        """Which segments have p-values of their own, and what stands in for the others."""
        largest = sorted(self.segments.items(), key=lambda one: -one[1].units)
        own = [f"{name} ({curve.units:,})" for name, curve in largest]
        small = [f"{one.name} ({one.units:,}, judged within {one.within})" for one in self.small]
        return (
            f"Segments with p-values of their own: {_first(own)}; with fewer than "
            f"{MINIMUM_UNITS} units: {_first(small)}"
        )


def _first(told: Sequence[str]) -> str:
    """The first of many, and how many more there are."""
    more = [f"{len(told) - _TOLD:,} more"] if len(told) > _TOLD else []
    return ", ".join([*told[:_TOLD], *more]) or "none"


def _fit_tails(excesses: Reals) -> tuple[Tail, ...]:
    """Generalised Pareto distributions of k excesses, each weighed by its likelihood.

    With theta = shape / scale the best shape is the mean of log(1 + theta x), so one number tells a
    tail; the thetas are quantiles of the prior of Zhang and Stephens (2009, "A new and efficient
    estimation method for the generalized Pareto distribution"), who take their mean, weighed so.
    Where excesses are too few to tell a shape, the predictive distribution of an exponential
    tail's next excess, which is Pareto with shape 1 / k.
    """
    count = len(excesses)
    if not count:
        return ()
    mean = float(excesses.mean())
    if count < MINIMUM_UNITS * _TAIL_SHARE:
        return (Tail(weight=1, scale=mean, shape=1 / count),)
    relative = np.sort(excesses) / mean
    points = 20 + int(np.sqrt(count))
    place = np.sqrt(points / (np.arange(points) + 0.5)) - 1
    theta = place / (3 * relative[int(count / 4 + 0.5) - 1]) - 1 / relative[-1]
    theta = np.where(np.abs(theta) < _NEAR_EXPONENTIAL, _NEAR_EXPONENTIAL, theta)
    shape = np.log1p(theta[:, None] * relative).mean(axis=1)
    likelihood = count * (np.log(theta / shape) - shape)
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    return tuple(
        Tail(weight=float(w), scale=float(mean * s / t), shape=float(s))
        for w, s, t in zip(weight, shape, theta, strict=True)
        if w > _LEAST_WEIGHT
    )


def _beyond(tails: tuple[Tail, ...], excess: float) -> tuple[Tail, ...]:
    """The tails of what is beyond an excess, which are Pareto too (Coles 2001, section 4.2.2)."""
    weights = [one.weight * float(_survival((one,), np.array([excess]))[0]) for one in tails]
    return tuple(
        Tail(weight=w / sum(weights), scale=one.scale + one.shape * excess, shape=one.shape)
        for w, one in zip(weights, tails, strict=True)
        if w
    )


def _survival(tails: tuple[Tail, ...], excesses: Reals) -> Reals:
    """[N] the share of units beyond the start that are beyond each excess; 1 without tails."""
    if not tails:
        return np.ones(len(excesses))
    weight, scale, shape = np.array([(one.weight, one.scale, one.shape) for one in tails]).T
    left = np.maximum(1 + np.outer(excesses, shape / scale), 0)
    with np.errstate(divide="ignore"):  # nothing is left beyond the end of a tail
        shares: Reals = np.exp(-np.log(left) / shape) @ weight
    return shares
