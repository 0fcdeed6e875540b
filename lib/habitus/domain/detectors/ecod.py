"""How far out a unit's numbers are, each among those of training units.

After ECOD (Li et al. 2022, "ECOD: unsupervised outlier detection using empirical cumulative
distribution functions", IEEE TKDE). A number's p-value is the share of training units whose number
is at least as far out on the side to which the feature is skewed (section 3.2); a feature that is
not skewed has two sides, and the smaller of their p-values is doubled. The score adds up the
surprises, -log2 p, over features: Fisher's (1932) way to combine p-values, which finds what shows a
little in several features as well as what shows in one. Of the three sums of the paper this is the
one over the skewed sides. Where `EcodSettings` say so it is their Minkowski norm instead, in which
the strangest number weighs more: of power 1 it is the sum, of a high one the largest surprise alone
(Tippett 1931).

A rank among n units tells no p-value below 1 / (n + 1), and anomalies in training would hide others
like them. So beyond the second value in the last _TAIL of units an exponential tail takes over, by
the mean excess. On a logarithmic scale that is a Pareto tail of the number itself (Hill 1975, "A
simple general approach to inference about the tail of a distribution"). It never falls faster than
by one e-fold a grain of the column. Up to there p-values are exact, however many units are tied;
columns of more than _POINTS values are exact to a share of 1 / _POINTS.

That the sum is over one side, and how long the tail is, was chosen on other data than the README's
figures are for: on the Handbook's payments before 2018-07-18, on BankSim's steps before 126 and on
the shop of seed 7.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.files import read_about, refuse_another_vocabulary
from habitus.domain.detectors.summary import Feature, Numbers, summarise
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import SettingsError, TrainingError, nearest
from habitus.model_settings import EcodSettings

AS_PUBLISHED = EcodSettings(features=("*",), power=1)
_FEWEST = 20  # training units; a tail of fewer is none
_TAIL = 0.05
_POINTS = 1000
_SYMMETRIC = 1e-6  # a skewness this small is rounding
_ABOUT = "ecod.json"


class Tail(BaseModel):
    """One side of a feature.

    Args:
        upwards: Whether larger numbers are farther out; else all numbers change their sign.
        units: Number n of training units.
        values: [K] distinct numbers up to the first in the tail, ascending; of many, some.
        above: [K] number of units with a larger one.
        start: The next number after them; the last of them where there is none.
        scale: Mean excess over `start` in the tail.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upwards: bool
    units: int = Field(ge=1)
    values: tuple[float, ...] = Field(min_length=1)
    above: tuple[int, ...]
    start: float
    scale: PositiveFloat

    @model_validator(mode="after")
    def _a_number_for_every_value(self) -> Self:
        if len(self.above) != len(self.values):
            raise ValueError("values and above differ in number")
        return self

    @classmethod
    def fit(cls, numbers: Numbers, upwards: bool, grain: float) -> Self:
        """Learn one side of the [n] numbers of a feature.

        Args:
            numbers: Of training units.
            upwards: Which side.
            grain: A difference between two numbers that tells nothing.
        """
        outwards = numbers if upwards else -numbers
        distinct, times = np.unique(outwards, return_counts=True)
        at_least = times[::-1].cumsum()[::-1]
        is_tail = at_least <= _TAIL * len(numbers)
        join = int(is_tail.argmax()) if is_tail.any() else len(distinct) - 1
        beyond = outwards[outwards > distinct[join]]
        start = beyond.min(initial=np.inf) if len(beyond) else distinct[join]
        kept = np.arange(join + 1)
        if join >= _POINTS:  # evenly many ranks
            ranks = np.linspace(at_least[0], at_least[join], _POINTS)
            kept = np.unique(np.searchsorted(-at_least[: join + 1], -ranks))
        return cls(
            upwards=upwards,
            units=len(numbers),
            values=tuple(distinct[kept].tolist()),
            above=tuple((at_least - times)[kept].tolist()),
            start=float(start),
            scale=max(float((beyond - start).mean()) if len(beyond) else 0.0, grain),
        )

    def bits(self, numbers: Numbers) -> Numbers:
        """[N] surprise, -log2 p, of each number."""
        outwards = numbers if self.upwards else -numbers
        counts = np.concatenate([[self.units], self.above])
        at_least = counts[np.searchsorted(self.values, outwards)]
        nats = np.log((self.units + 1) / (at_least + 1))
        nats += np.maximum(outwards - self.start, 0) / self.scale
        bits: Numbers = nats / np.log(2)
        return bits


class Tails(BaseModel):
    """The tails of every feature, D of them.

    Args:
        usual: What the training units were like.
        sides: [D] the one or two sides of each.
        power: Of the norm by which surprises are added up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: Usual
    sides: tuple[tuple[Tail, ...], ...]
    power: float = Field(ge=1)

    @model_validator(mode="after")
    def _sides_of_every_feature(self) -> Self:
        width = len(self.usual.features)
        if len(self.sides) != width or not all(self.sides):
            raise ValueError(f"not every of {width} features has a side")
        return self

    @classmethod
    def fit(
        cls,
        matrix: Floats,
        features: Sequence[Feature],
        vocabulary: Vocabulary,
        power: float = AS_PUBLISHED.power,
    ) -> Self:
        """Learn from [N, D] summaries; NaN where a number is not known."""
        usual = Usual.fit(matrix, features, vocabulary)
        filled = usual.filled(matrix).astype(np.float64)
        sides = [
            tuple(Tail.fit(column, upwards, feature.grain) for upwards in _sides(column, feature))
            for column, feature in zip(filled.T, features, strict=True)
        ]
        return cls(usual=usual, sides=tuple(sides), power=power)

    def bits(self, matrix: Floats) -> Scores:
        """[N, D] the surprise of each number, at least 0; of the median where it is not known."""
        filled = self.usual.filled(matrix).astype(np.float64)
        bits = np.empty(filled.shape)
        for index, sides in enumerate(self.sides):
            each = [tail.bits(filled[:, index]) for tail in sides]
            bits[:, index] = np.maximum.reduce(each) - np.log2(len(sides))
        return bits.clip(min=0)

    def together(self, bits: Scores) -> Scores:
        """[N] what [N, D] surprises come to."""
        score: Scores = (bits**self.power).sum(axis=1) ** (1 / self.power)
        return score


class EcodDetector:
    """The surprises of a unit's numbers together."""

    name: ClassVar[str] = "ecod"

    def __init__(self, vocabulary: Vocabulary, tails: Tails) -> None:
        self._vocabulary = vocabulary
        self._tails = tails

    @classmethod
    def fit(
        cls,
        units: Units,
        vocabulary: Vocabulary,
        seed: int,
        settings: EcodSettings = AS_PUBLISHED,
    ) -> Self:
        """Learn the tails of training units.

        Args:
            units: Training units.
            vocabulary: What the tokens mean.
            seed: Of nothing: there is no chance in it.
            settings: Which numbers it looks at, and how their surprises are added up.

        Raises:
            TrainingError: There are fewer than 20 units.
            SettingsError: A pattern of features names none.
        """
        if len(units) < _FEWEST:
            problem = f"{len(units)} training units, fewer than {_FEWEST}"
            raise TrainingError("sequences", problem, "Move the split.")
        matrix, features = summarise(units, vocabulary)
        kept = _named([feature.name for feature in features], settings.features)
        seen = [features[column] for column in kept]
        return cls(vocabulary, Tails.fit(matrix[:, kept], seen, vocabulary, settings.power))

    def score(self, units: Units) -> Scores:
        """[N] bits; an ordinary unit has about 1.4 a feature, fewer where many units are alike."""
        return self._tails.together(self._tails.bits(self._seen(units)[0]))

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        """The first `count` features of each unit with unusual values, by their surprise."""
        matrix, features = self._seen(units)
        usual, bits = self._tails.usual, self._tails.bits(matrix)
        worth = np.where(usual.is_unusual(usual.filled(matrix)), bits**self._tails.power, 0)
        return usual.reasons(matrix, worth, features, count, bits)

    def _seen(self, units: Units) -> tuple[Floats, list[Feature]]:
        """The numbers that it looks at: [N, D] of each unit, and what they mean."""
        matrix, features = summarise(units, self._vocabulary)
        kept = set(self._tails.usual.features)
        columns = [column for column, one in enumerate(features) if one.name in kept]
        return matrix[:, columns], [features[column] for column in columns]

    def to_files(self) -> dict[str, bytes]:
        """All of it as JSON."""
        return {_ABOUT: self._tails.model_dump_json(indent=1).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        """Read what `to_files` wrote.

        Raises:
            ArtefactError: The file is missing, damaged, or made for another vocabulary.
        """
        tails = read_about(Tails, files, _ABOUT)
        refuse_another_vocabulary(_ABOUT, tails.usual.vocabulary_id, vocabulary)
        return cls(vocabulary, tails)


def _named(names: Sequence[str], patterns: Sequence[str]) -> list[int]:
    """Which names a pattern holds for.

    Raises:
        SettingsError: A pattern holds for none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            problem = f"{pattern!r} names none of the {len(names)} numbers of a unit"
            raise SettingsError("train.ecod.features", problem, nearest(pattern, names))
    return [
        column
        for column, name in enumerate(names)
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _sides(column: Numbers, feature: Feature) -> tuple[bool, ...]:
    """The side to which the numbers themselves, not their logarithms, are skewed; else both."""
    numbers = feature.numbers(column)
    deviation = numbers.std()
    if deviation <= _SYMMETRIC * np.abs(numbers).max():
        return (True, False)
    skewness = float((((numbers - numbers.mean()) / deviation) ** 3).mean())
    return (skewness > 0,) if abs(skewness) > _SYMMETRIC else (True, False)
