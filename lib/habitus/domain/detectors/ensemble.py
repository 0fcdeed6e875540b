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
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy import optimize
from scipy.special import expit, logit

from habitus.domain.calibration import Curve
from habitus.domain.detectors import load_detector
from habitus.domain.detectors.base import Detector, Reason, Scores
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.labelled import FEWEST, Labelled
from habitus.domain.scoring import scores_of
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import MemberNames

Reals = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ABOUT = "ensemble.json"
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
        learned: Whether weights and constant were learned from labels.
        anomalous: How many validation units were known to be anomalous.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: MemberNames
    curves: tuple[Curve, ...]
    weights: tuple[Annotated[FiniteFloat, Field(ge=0)], ...]
    constant: FiniteFloat
    learned: bool
    anomalous: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_of_each_for_every_member(self) -> Self:
        if not len(self.members) == len(self.curves) == len(self.weights):
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
        width = len(members)
        found = cls(
            members=tuple(members),
            curves=tuple(Curve.fit(column) for column in scores[~anomalous].T),
            weights=(1 / width,) * width,
            constant=0.0,
            learned=False,
            anomalous=known,
        )
        if known < FEWEST:
            return found
        weights, constant = _learned(found.surprises(scores), anomalous, counts)
        if not weights.any():
            return found
        told = {"weights": tuple(weights.tolist()), "constant": constant, "learned": True}
        return found.model_copy(update=told)

    def surprises(self, scores: Reals) -> Reals:
        """[N, M] how rare each of the [N, M] scores is, in bits."""
        columns = zip(self.curves, scores.T, strict=True)
        bits: Reals = -np.log2(np.stack([curve.p_values(of) for curve, of in columns], axis=1))
        return bits

    def apply(self, scores: Reals) -> Scores:
        """[N] what the [N, M] scores are worth together."""
        total: Scores = self.surprises(scores) @ np.asarray(self.weights) + self.constant
        return total

    def shares(self, scores: Reals) -> Reals:
        """[N, M] each member's share in what a unit scores above a unit of median scores.

        A member that finds the unit no stranger than half of the normal ones has none.
        """
        parts = (self.surprises(scores) - _MEDIAN).clip(min=0) * np.asarray(self.weights)
        shares: Reals = parts / np.where(parts.any(axis=1), parts.sum(axis=1), 1)[:, None]
        return shares

    def in_words(self) -> str:
        """Where the weights come from, and what they are."""
        told = f"{self.anomalous} validation units are known to be anomalous"
        if self.learned:
            pairs = zip(self.members, self.weights, strict=True)
            weights = ", ".join(f"{name} {weight:.3g}" for name, weight in pairs)
            return f"Weights in nats a bit, learned from labels, by which {told}: {weights}"
        why = f"fewer than {FEWEST}" if self.anomalous < FEWEST else "which no member ranks higher"
        return f"Equal weights of {', '.join(self.members)}: {told}, {why}"


class EnsembleDetector:
    """Fitted detectors, and what their scores are worth together."""

    name: ClassVar[str] = "ensemble"

    def __init__(
        self, vocabulary: Vocabulary, members: Mapping[str, Detector], combination: Combination
    ) -> None:
        self._vocabulary = vocabulary
        self._members = dict(members)
        self.combination = combination

    @classmethod
    def fit(
        cls, members: Mapping[str, Detector], validation: Labelled, vocabulary: Vocabulary
    ) -> Self:
        """Weigh detectors by validation units, which none of them was fitted on.

        Args:
            members: The detectors by name.
            validation: Validation units and what is known of them.
            vocabulary: What the tokens mean.

        Raises:
            TrainingError: There are too few validation units.
        """
        combination = Combination.fit(
            tuple(members),
            _scores(members, validation.units),
            validation.anomalous,
            validation.weights,
        )
        return cls(vocabulary, members, combination)

    def score(self, units: Units) -> Scores:
        """[N] mean surprise of the members' scores, in bits; with learned weights, log-odds."""
        return self.combination.apply(_scores(self._members, units))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` of the members' own reasons for each unit.

        Each counts by its member's share in the unit's score, and what several members say of the
        same field of the same event is one reason, in the words of the one it counts most for.
        """
        shares = self.combination.shares(_scores(self._members, units))
        found: list[dict[tuple[str, int | None], Reason]] = [{} for _ in range(len(units))]
        for member, of_member in zip(self._members.values(), shares.T, strict=True):
            for own, reasons, share in zip(
                found, member.explain(units, count), of_member, strict=True
            ):
                for reason in reasons:
                    _add(own, replace(reason, share=float(share) * reason.share))
        return [
            sorted((one for one in own.values() if one.share > 0), key=lambda r: -r.share)[:count]
            for own in found
        ]

    def to_files(self) -> dict[str, bytes]:
        """The members' files, each in a folder of the member's name, and what they are worth."""
        files = {
            f"{name}/{file}": content
            for name, member in self._members.items()
            for file, content in member.to_files().items()
        }
        about = _About(vocabulary_id=self._vocabulary.vocabulary_id, combination=self.combination)
        return {**files, _ABOUT: about.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: A file, or one of a member, is missing, damaged, or made for another
                vocabulary.
        """
        about = read_about(_About, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, about.vocabulary_id, vocabulary)
        names = about.combination.members
        members: dict[str, Detector] = {n: _member(n, files, vocabulary) for n in names}
        return cls(vocabulary, members, about.combination)


class _About(BaseModel):
    """What is known of an ensemble beside its members' files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_id: str
    combination: Combination


def _scores(members: Mapping[str, Detector], units: Units) -> Reals:
    """[N, M] the members' scores as they are kept, which are the same in any batch."""
    return np.stack([scores_of(member, units) for member in members.values()], axis=1)


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


def _add(own: dict[tuple[str, int | None], Reason], reason: Reason) -> None:
    key = reason.field, reason.event_index
    other = own.get(key)
    if other is not None:
        stronger = max(other, reason, key=lambda one: one.share)
        reason = replace(stronger, share=other.share + reason.share)
    own[key] = reason


def _member(name: str, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Detector:
    folder = f"{name}/"
    own = {
        file.removeprefix(folder): content
        for file, content in files.items()
        if file.startswith(folder)
    }
    try:
        return load_detector(name, own, vocabulary)
    except ArtefactError as error:
        raise ArtefactError(f"{folder}{error.place}", error.problem, error.mend) from error
