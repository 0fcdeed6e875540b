"""Several detectors as one: how rare each one's score is, weighed and added up.

Scores of different detectors share no scale: one is a log-odds, another a mean path length, a
third a distance that is 0 for most units. What they share is how rare a score is. So a member's
score s counts as its surprise, -log2 p(s) bits, where p(s) is the share of normal validation units
that score at least as high (`habitus.domain.calibration.Curve`, which goes on beyond the largest of
them). Surprise is the same for any increasing function of the score, and a score that every unit
has is none: nothing is divided by a spread that may be 0.

The ensemble's score is a constant and a weighted sum of the members' surprises. No weight is below
0, so it never falls when a member's score rises.

- Where enough validation units of either kind are known, weights and constant are those of a
  logistic regression, and the score is the log-odds of being anomalous. It takes evidence for
  c p^-w, c and w constants, as the calibrators of Vovk and Wang (2021), "E-values: calibration,
  combination and applications", section 2, do.
- Else it is the mean: Fisher's sum of log p-values (1932, "Statistical methods for research
  workers", 4th edition, section 21.1), but for its factor.

Members depend on each other, so Fisher's p-value of that sum would be too small. The score becomes
a p-value as any detector's does, by those of calibration units, which the members judge together.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import optimize
from scipy.special import expit, logit

from habitus.domain.calibration import Curve
from habitus.domain.detectors.labelled import FEWEST
from habitus.errors import TrainingError
from habitus.setting_types import MemberNames

Reals = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_MEDIAN = 1.0  # bits: half of the normal units score as high
# A weight is held to be normal about 0 with deviation 1 nat a bit. Members that say the same then
# share the weight, and one that sets all anomalous units apart does not get an endless one.
_RIDGE = 1.0
_ITERATIONS = 1000


class Combination(BaseModel):
    """What M members' scores are worth together.

    Args:
        members: [M] their names.
        curves: [M] how rare each one's scores are among normal validation units.
        weights: [M] what a bit of surprise adds to the score.
        constant: Score of a unit without any surprise.
        without: [M, M] in row m, what the weights would be without member m.
        learned: Whether weights and constant were learned from labels.
        anomalous: How many validation units were known to be anomalous.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: MemberNames
    curves: tuple[Curve, ...]
    weights: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]
    without: tuple[tuple[Annotated[FiniteFloat, Field(ge=0)], ...], ...]
    constant: FiniteFloat
    learned: bool
    anomalous: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_of_each_for_every_member(self) -> Self:
        width = len(self.members)
        if {len(self.curves), len(self.weights), len(self.without)} != {width} or {
            len(row) for row in self.without
        } != {width}:
            raise ValueError("members, curves and weights differ in number")
        return self

    @classmethod
    def fit(
        cls, members: Sequence[str], scores: Reals, anomalous: Bools, counts: Reals
    ) -> "Combination":
        """Learn how rare scores are, and what they are worth together, from N validation units.

        Args:
            members: [M] names.
            scores: [N, M] each member's score of each unit.
            anomalous: [N] whether a unit is known to be anomalous.
            counts: [N] how many units each stands for.

        Raises:
            TrainingError: There are too few units that are not known to be anomalous.
        """
        known, normal = int(anomalous.sum()), int((~anomalous).sum())
        if normal < FEWEST:
            problem = f"{normal} normal validation units, fewer than {FEWEST}"
            mend = "Move split.train_until or split.calibration_share, or leave the ensemble out."
            raise TrainingError("ensemble", problem, mend)
        curves = tuple(Curve.fit(column) for column in scores[~anomalous].T)
        bits = _surprises(curves, scores)
        others = ~np.eye(len(members), dtype=bool)
        every, *without = (
            _weighed(bits, among, anomalous, counts)
            for among in (np.ones(len(members), dtype=bool), *others)
        )
        return cls(
            members=tuple(members),
            curves=curves,
            weights=tuple(every.weights.tolist()),
            without=tuple(tuple(one.weights.tolist()) for one in without),
            constant=every.constant,
            learned=every.learned,
            anomalous=known,
        )

    def surprises(self, scores: Reals) -> Reals:
        """[N, M] how rare each of the [N, M] scores is, in bits."""
        return _surprises(self.curves, scores)

    def apply(self, scores: Reals) -> Reals:
        """[N] what the [N, M] scores are worth together."""
        total: Reals = self.surprises(scores) @ np.asarray(self.weights) + self.constant
        return total

    def shares(self, scores: Reals) -> Reals:
        """[N, M] each member's share in what a unit scores above a unit of median scores.

        A member that finds the unit no stranger than half of the normal ones has none.
        """
        parts = (self.surprises(scores) - _MEDIAN).clip(min=0) * np.asarray(self.weights)
        shares: Reals = parts / np.where(parts.any(axis=1), parts.sum(axis=1), 1)[:, None]
        return shares

    def rarities_without(self, scores: Reals) -> Reals:
        """[N, 1 + M] how rare the [N, M] scores are, and without each member, by weighted means.

        They rank units as the ensemble, and it without the member, would; no p-values, but of
        their size. A score that is NaN is as usual as can be.
        """
        weights = np.array([self.weights, *self.without])
        weights = weights / weights.sum(axis=1, keepdims=True)
        rarities: Reals = np.exp2(-(self.surprises(scores) @ weights.T))
        return rarities

    def in_words(self) -> str:
        """Where the weights come from, and what they are."""
        told = f"{self.anomalous} validation units are known to be anomalous"
        if self.learned:
            pairs = zip(self.members, self.weights, strict=True)
            weights = ", ".join(f"{name} {weight:.3g}" for name, weight in pairs)
            return f"Weights in nats a bit, learned from labels, by which {told}: {weights}"
        why = f"fewer than {FEWEST}" if self.anomalous < FEWEST else "which no member ranks higher"
        return f"Equal weights of {', '.join(self.members)}: {told}, {why}"


def _surprises(curves: Sequence[Curve], scores: Reals) -> Reals:
    columns = zip(curves, scores.T, strict=True)
    bits: Reals = -np.log2(np.stack([curve.p_values(of) for curve, of in columns], axis=1))
    return bits


class _Weighed(NamedTuple):
    weights: Reals
    constant: float
    learned: bool


def _weighed(bits: Reals, among: Bools, anomalous: Bools, counts: Reals) -> _Weighed:
    """[M] weights of the members `among` all, 0 for others; alike where nothing can be learned."""
    weights = among / max(among.sum(), 1)
    if anomalous.sum() < FEWEST:
        return _Weighed(weights, 0.0, learned=False)
    found, constant = _learned(bits[:, among], anomalous, counts)
    if not found.any():
        return _Weighed(weights, 0.0, learned=False)
    weights[among] = found
    return _Weighed(weights, constant, learned=True)


def _learned(bits: Reals, anomalous: Bools, counts: Reals) -> tuple[Reals, float]:
    """[M] weights >= 0, and the constant, by which [N, M] surprises make the labels likeliest.

    Minimised is sum of counts * log(1 + exp(-y z)) + ridge * |weights|^2 / 2, where y is 1 for an
    anomalous unit, -1 for another, and z = constant + surprises * weights; it is convex.
    """
    width, total = bits.shape[1], counts.sum()
    kind = np.where(anomalous, 1.0, -1.0)
    columns = np.column_stack([bits, np.ones(len(bits))])
    ridge = np.append(np.full(width, _RIDGE), 0)

    def cost(found: Reals) -> tuple[float, Reals]:
        margin = kind * (columns @ found)
        value = counts @ np.logaddexp(0, -margin) + ridge @ found**2 / 2
        slope = ridge * found - (counts * kind * expit(-margin)) @ columns
        return float(value / total), slope / total

    share = float(counts[anomalous].sum() / total)
    best = optimize.minimize(
        cost,
        np.append(np.zeros(width), logit(share)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * width + [(None, None)],
        options={"maxiter": _ITERATIONS, "ftol": 1e-15, "gtol": 1e-10},
    )
    return best.x[:width], float(best.x[width])
