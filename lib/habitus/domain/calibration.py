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
stands in for them, is kept. A segment of some hundred units knows how far its largest scores reach,
but not the shape of what is beyond; that it has from the much larger segment it lies within, as
hydrologists have that of a river's floods from all rivers of its region (Hosking and Wallis 1997,
"Regional frequency analysis", chapter 1).

Labels are not used. Anomalies among the calibration units make p-values larger, never smaller.
"""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from habitus.domain.tails import FEWEST_EXCESSES, Tail, beyond, fit_scales, fit_tails, survival
from habitus.errors import TrainingError

Reals = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

ALL: Final = "all"
LEAST_P_VALUE: Final = 1e-12
FEWEST = 20  # with fewer, ranks cannot tell a p-value of .05
_TAIL_SHARE = 0.1  # the largest scores, which tails are fitted to,
MINIMUM_UNITS: Final = round(FEWEST_EXCESSES / _TAIL_SHARE)
_TAIL_ROOTS = 3  # and no more than so many times the root of how many scores there are
_TAIL_FROM = 10  # the tail takes over at the 10th largest score, where ranks get coarse
_OWN_SHAPE = 5_000  # units of a segment that know the shape of its tail,
_MUCH_LARGER = 4  # where it does not lie within one of so many times its size
_POINTS = 4096  # most scores kept of a segment
_TOLD = 20  # segments of either sort that are told of, of perhaps thousands


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
    def fit(cls, scores: Reals, whole: "Curve | None" = None) -> "Curve":
        """Fit to the scores of n normal units, n >= 10, who are some of those of a whole."""
        units = len(scores)
        distinct, times = np.unique(scores, return_counts=True)
        at_least = times[::-1].cumsum()[::-1]
        join = int(np.flatnonzero(at_least >= _TAIL_FROM)[-1])
        start = float(distinct[join])
        share = min(_TAIL_SHARE, _TAIL_ROOTS / np.sqrt(units))
        threshold = min(float(np.quantile(scores, 1 - share)), start)
        excesses = scores[scores > threshold] - threshold
        if whole and whole.tails and units < min(_OWN_SHAPE, whole.units / _MUCH_LARGER):
            tails = fit_scales(excesses, whole.tails)
        else:
            tails = fit_tails(excesses)
        # All of the upper half of the points, and evenly many ranks below it.
        kept = np.arange(join + 1)
        if len(kept) > _POINTS:
            few = np.linspace(0, join - _POINTS // 2, _POINTS // 2, endpoint=False)
            kept = np.concatenate([few.astype(np.int64), kept[-_POINTS // 2 :]])
        return cls(
            units=units,
            scores=tuple(distinct[kept].tolist()),
            above=tuple((at_least - times)[kept].tolist()),
            tails=beyond(tails, start - threshold),
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
        rarer = scores > start
        rarest = (1 + self.above[-1]) / (self.units + 1)
        p_values[rarer] = rarest * survival(self.tails, scores[rarer] - start)
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
        curves = {ALL: Curve.fit(scores)}
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
                    curves[name] = Curve.fit(scores[units], curves[within[units[0]]])
                    within[units] = name
        return cls(
            overall=curves.pop(ALL),
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
