"""A unit as one row of numbers, for detectors that look at features rather than sequences.

A session is summed up by its counts, times and amounts; an event by its own values, and by how
they compare with the same user's history. Both carry the unit's features. Heavy-tailed numbers
are on a logarithmic scale, log(1 + x), with the sign of x; of amounts, whatever their currency, x
counts a unit that is not above usual ones.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from habitus.domain.detectors.base import Against
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import FIRST_VALUE, MISSING, RARE, FieldVocabulary, Vocabulary

Numbers = npt.NDArray[np.float64]
_GRAINS = {"log": 0.1, "share": 0.02, "plain": 0.1}
_FEW = 8  # a field with at most this many values is summed up by the share of each of them
# Features by their measure, which their name tells.
_SHARES = re.compile(r"_(share|risk)_")
_MONEY = re.compile(r"_amount_(sum|mean|median|max|anomalous_mean)_")


@dataclass(frozen=True)
class Feature:
    """A column of the summary.

    Args:
        name: What it is, readable; the features table's own name for what comes from there.
        scale: How its numbers are stored: log(1 + x) with the sign of x, a share of 1, or plain.
        unit: Of the number in words.
        against: What the number compares the unit with, or is to be compared with.
        one: What x counts on the logarithmic scale.
    """

    name: str
    scale: Literal["log", "share", "plain"] = "log"
    unit: str = ""
    against: Against = "peers"
    one: float = 1.0

    @property
    def grain(self) -> float:
        """A difference between two stored numbers that tells nothing."""
        return _GRAINS[self.scale]

    def numbers(self, stored: Numbers) -> Numbers:
        """The numbers that are stored so, of any shape."""
        if self.scale != "log":
            return stored
        numbers: Numbers = np.sign(stored) * np.expm1(np.abs(stored)) * self.one
        return numbers

    def in_words(self, value: float) -> str:
        """A stored number, readable."""
        if self.scale == "share":
            return f"{value:.0%}"
        value = float(self.numbers(np.array(value)))
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{text} {self.unit}".rstrip()


def summarise(units: Units, vocabulary: Vocabulary) -> tuple[Floats, tuple[Feature, ...]]:
    """Sum up N units.

    Args:
        units: The units; of sessions all events that are judged are summed up, of event units the
            last event.
        vocabulary: What the tokens mean.

    Returns:
        [N, D] float32, NaN where a feature of the unit is not known, and the D columns' meaning.
    """
    of_kind = _session if vocabulary.unit_kind == "session" else _event
    columns = [*of_kind(units, vocabulary), *_context(units, vocabulary)]
    features = tuple(feature for feature, _ in columns)
    matrix = np.empty((len(units), len(columns)), dtype=np.float32)
    for index, (feature, values) in enumerate(columns):
        matrix[:, index] = _log(values / feature.one) if feature.scale == "log" else values
    return matrix, features


def _session(units: Units, vocabulary: Vocabulary) -> Iterator[tuple[Feature, Numbers]]:
    units = units.without_history()
    number = units.lengths.astype(np.float64)
    yield Feature("number of events"), number
    first = units.position == 0
    gaps = np.where(first, 0, units.gaps).astype(np.float64)
    duration = _total(units, gaps)
    mean = duration / (number - 1).clip(min=1)
    squares = _total(units, np.where(first, 0, (gaps - mean[units.unit_of_event]) ** 2))
    yield Feature("duration", unit="s"), duration
    # The fastest of bots has gaps near 0: who made none, or one, is not like it.
    yield Feature("mean gap", unit="s"), np.where(number > 1, mean, np.nan)
    spread = np.sqrt(squares / (number - 1).clip(min=1))
    yield Feature("spread of gaps", unit="s"), np.where(number > 2, spread, np.nan)
    if "amount" in vocabulary.field_names:
        total, paid = _total(units, units.amounts), _total(units, units.amounts != 0)
        largest = np.zeros(len(units))
        np.maximum.at(largest, units.unit_of_event, units.amounts)
        one = _money(vocabulary)
        yield Feature("sum of amounts", one=one), total
        yield Feature("mean amount", one=one), total / paid.clip(min=1)
        yield Feature("largest amount", one=one), largest
    for field in vocabulary.fields:
        if field.kind != "values":
            continue
        counts = _counts(units, field)
        if field.name == "action" or len(field.values) > _FEW:
            # Each rare value may be another one.
            different = (counts > 0).sum(axis=1) + (counts[:, RARE] - 1).clip(min=0)
            yield Feature(f"different values of {field.name}"), different.astype(np.float64)
        few = field.name == "action" or len(field.values) <= _FEW
        for token in (RARE, *range(FIRST_VALUE, field.size)) if few else (RARE,):
            name = field.describe(token)
            if field.name == "action":
                yield Feature(f"number of {name}"), counts[:, token].astype(np.float64)
            else:
                name = f"{field.name} {name}"
            yield Feature(f"share of {name}", "share"), counts[:, token] / number.clip(min=1)


def _event(units: Units, vocabulary: Vocabulary) -> Iterator[tuple[Feature, Numbers]]:
    last = units.offsets[1:] - 1
    earlier = np.ones(len(units.amounts), dtype=bool)
    earlier[last] = False
    history = (units.lengths - 1).astype(np.float64)
    yield Feature("earlier events known"), history
    measured = (("amount", "", _money(vocabulary), units.amounts), ("gap", "s", 1.0, units.gaps))
    for name, unit, one, values in measured:
        own = values[last].astype(np.float64)
        counted = earlier & (values > 0)
        times = _total(units, counted)
        logs = np.log(np.where(counted, values, 1).astype(np.float64))
        usual = np.exp(_total(units, logs) / times.clip(min=1))
        yield Feature(name, unit=unit, one=one), own
        times_usual = np.where(times > 0, own.clip(min=0) / usual, 1.0)
        yield Feature(f"{name} as a multiple of the usual one", against="history"), times_usual
    for field in vocabulary.fields:
        if field.kind != "values":
            continue
        tokens = units.tokens[field.name]
        own_token = tokens[last]
        # Two rare values are hardly ever the same.
        same = earlier & (tokens == own_token[units.unit_of_event]) & (tokens != RARE)
        yield Feature(f"rank of {field.name}", "plain"), _rank(own_token, field)
        share = _total(units, same) / history.clip(min=1)
        yield (
            Feature(
                f"share of earlier events with the same {field.name}", "share", against="history"
            ),
            np.where(history > 0, share, np.nan),
        )


def _context(units: Units, vocabulary: Vocabulary) -> Iterator[tuple[Feature, Numbers]]:
    money = _money(vocabulary)
    for index, name in enumerate(vocabulary.context):
        of_money = money if _MONEY.search(name) else 1.0
        feature = Feature(name, "share" if _SHARES.search(name) else "log", one=of_money)
        yield feature, units.context[:, index].astype(np.float64)
    if vocabulary.context:
        missing = np.isnan(units.context).sum(axis=1).astype(np.float64)
        yield Feature("features without a value", "plain"), missing


def _money(vocabulary: Vocabulary) -> float:
    """A power of ten that hardly any amount is below, at most 1."""
    bounds = [
        bound
        for field in vocabulary.fields
        if field.name == "amount"
        for bound in field.bounds
        if bound > 0
    ]
    return float(10.0 ** min(0, math.floor(math.log10(min(bounds))))) if bounds else 1.0


def _rank(tokens: npt.NDArray[np.int32], field: FieldVocabulary) -> Numbers:
    """[N] place of each value among the field's, the most frequent first; 0 for no value."""
    ranks = np.arange(field.size) - FIRST_VALUE + 1.0
    ranks[:FIRST_VALUE] = 0
    ranks[RARE] = len(field.values) + 1
    of_tokens: Numbers = ranks[tokens]
    return of_tokens


def _counts(units: Units, field: FieldVocabulary) -> npt.NDArray[np.int64]:
    """[N, size] how often each value happens in each unit; missing ones are not counted."""
    cell = units.unit_of_event * field.size + units.tokens[field.name]
    counts = np.bincount(cell, minlength=len(units) * field.size).reshape(-1, field.size)
    counts[:, : MISSING + 1] = 0
    return counts


def _total(units: Units, values: npt.NDArray[np.generic]) -> Numbers:
    """[N] sums of a flat [M] array over each unit."""
    # Without any event numpy returns whole numbers, whatever the weights are.
    return np.bincount(units.unit_of_event, values, len(units)).astype(np.float64)


def _log(values: Numbers) -> Numbers:
    logs: Numbers = np.sign(values) * np.log1p(np.abs(values))
    return logs
