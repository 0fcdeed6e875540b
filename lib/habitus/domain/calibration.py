"""From a score to a p-value: the share of normal units that are at least as strange.

Where calibration units are plenty, the p-value is conformal: p(s) = (1 + #{scores >= s}) /
(n + 1). It holds for any score, as long as units are exchangeable (Vovk, Gammerman and Shafer
2005, "Algorithmic learning in a random world", section 2.2; for outliers Bates et al. 2023,
"Testing for outliers with conformal p-values", section 1).

It ends at 1 / (n + 1), where all that is stranger would be alike. So beyond one of the largest
calibration scores a generalised Pareto tail takes over, which excesses over a high threshold
follow whatever the scores are like below it (Coles 2001, "An introduction to statistical modeling
of extreme values", section 4.2). A shape below 0 is not allowed: it would call everything beyond
some score impossible.

Labels are not used. Anomalies among the calibration units make p-values larger, never smaller.
"""

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import optimize

from habitus.errors import TrainingError

Reals = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

ALL: Final = "all"
LEAST_P_VALUE: Final = 1e-12
MINIMUM_UNITS: Final = 500  # a tenth of fewer scores, < 50, is too few to fit a tail's shape to
FEWEST = 20  # with fewer, ranks cannot tell a p-value of .05
_TAIL_SHARE = 0.1  # the largest scores, which the tail is fitted to
_TAIL_FROM = 10  # the tail takes over at the 10th largest score, where ranks get coarse
_POINTS = 4096  # most scores kept of a segment


class Curve(BaseModel):
    """The p-values of one segment.

    Args:
        units: Number n of calibration units.
        scores: [K] their distinct scores up to where the tail begins, ascending; of many, some.
        above: [K] number of units that score more than that.
        scale: Of the tail beyond the last of the scores; 0 where there is no excess to fit.
        shape: Of the tail.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int = Field(ge=1)
    scores: tuple[float, ...] = Field(min_length=1)
    above: tuple[int, ...]
    scale: float = Field(ge=0)
    shape: float = Field(ge=0)

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
        start = distinct[join]
        threshold = min(float(np.quantile(scores, 1 - _TAIL_SHARE)), float(start))
        scale, shape = _fit_tail(scores[scores > threshold] - threshold)
        # All of the upper half of the points, and evenly many ranks below it.
        kept = np.arange(join + 1)
        if len(kept) > _POINTS:
            few = np.linspace(0, join - _POINTS // 2, _POINTS // 2, endpoint=False)
            kept = np.concatenate([few.astype(np.int64), kept[-_POINTS // 2 :]])
        return cls(
            units=units,
            scores=tuple(distinct[kept].tolist()),
            above=tuple((at_least - times)[kept].tolist()),
            # An excess over a higher threshold is Pareto too (Coles 2001, section 4.2.2).
            scale=scale + shape * (float(start) - threshold),
            shape=shape,
        )

    def p_values(self, scores: Reals) -> Reals:
        """[N] p-values, from LEAST_P_VALUE to 1, never larger for a larger score."""
        known = np.asarray(self.scores)
        counts = np.concatenate([[self.units], self.above])
        start = known[-1]
        inside = counts[np.searchsorted(known, np.minimum(scores, start))]
        ranks: Reals = (1 + inside) / (self.units + 1)
        excess = np.maximum(scores - start, 0)
        if self.scale == 0:
            return np.where(excess > 0, 1 / (self.units + 1), ranks)
        tail = (
            np.log1p(self.shape * excess / self.scale) / self.shape
            if self.shape
            else (excess / self.scale)
        )
        p_values: Reals = np.maximum(ranks * np.exp(-tail), LEAST_P_VALUE)
        return p_values


class Calibration(BaseModel):
    """The p-values of a detector's scores, each within its segment.

    Args:
        overall: Of all calibration units; stands in for segments that have too few.
        segments: Of each segment with at least MINIMUM_UNITS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall: Curve
    segments: dict[str, Curve]

    @classmethod
    def fit(cls, scores: Reals, segments: Names) -> "Calibration":
        """Learn what is normal.

        Args:
            scores: [n] scores of calibration units.
            segments: [n] name of each unit's segment, or None.

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
        codes, names = pd.factorize(segments)
        large = {
            str(name): Curve.fit(scores[codes == code])
            for code, name in enumerate(names)
            if name != ALL and (codes == code).sum() >= MINIMUM_UNITS
        }
        return cls(overall=Curve.fit(scores), segments=dict(sorted(large.items())))

    def p_values(self, scores: Reals, segments: Names) -> tuple[Reals, Names]:
        """Judge units within their segments.

        Args:
            scores: [N] scores.
            segments: [N] name of each unit's segment, or None.

        Returns:
            [N] p-values, and [N] the segment each was compared with: its own, or ALL.
        """
        p_values = self.overall.p_values(scores)
        used = np.full(len(scores), ALL, dtype=object)
        codes, names = pd.factorize(segments)
        for code, name in enumerate(names):
            if name in self.segments:
                units = codes == code
                p_values[units] = self.segments[name].p_values(scores[units])
                used[units] = name
        return p_values, used


def _fit_tail(excesses: Reals) -> tuple[float, float]:
    """Scale and shape >= 0 of a generalised Pareto distribution, by maximum likelihood.

    In theta = shape / scale the likelihood has one free parameter: the shape is the mean of
    log(1 + theta x), and what is minimised is log(shape / theta) + shape (Grimshaw 1993,
    "Computing maximum likelihood estimates for the generalized Pareto distribution").
    """
    if not len(excesses):
        return 0.0, 0.0
    mean = float(excesses.mean())
    if len(excesses) < MINIMUM_UNITS * _TAIL_SHARE:
        return mean, 0.0
    relative = excesses / mean

    def shape_at(log_theta: float) -> float:
        return float(np.log1p(np.exp(log_theta) * relative).mean())

    def cost(log_theta: float) -> float:
        return float(np.log(shape_at(log_theta))) - log_theta + shape_at(log_theta)

    found = optimize.minimize_scalar(cost, bounds=(-10, 5), method="bounded")
    if found.fun >= 0:  # the cost of the exponential distribution, shape 0 and scale 1
        return mean, 0.0
    shape = shape_at(found.x)
    return mean * shape / float(np.exp(found.x)), shape
