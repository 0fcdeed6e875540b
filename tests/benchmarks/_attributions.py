"""Whether the features that a detector names are what makes its flags strange.

The number that is named first is set to its median of training units, the first two, and so on;
the rival sets as many others, drawn from all.
"""

from collections.abc import Callable

import numpy as np
from _figures import Figure, at_least
from numpy.typing import NDArray

from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.detectors.summary import summarise
from habitus.domain.detectors.trees import GradientBoostingDetector
from habitus.domain.detectors.usual import Usual
from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary

Numbers = NDArray[np.float64]


def opened(
    detector: Detector, units: Units, vocabulary: Vocabulary
) -> tuple[Floats, Usual, Callable[[Floats], Numbers]]:
    """The numbers that a detector sees of units, what is usual of them, and how it scores such."""
    if isinstance(detector, IsolationForestDetector):
        forest = detector._forest
        return summarise(units, vocabulary)[0], forest.usual, forest.scores
    assert isinstance(detector, GradientBoostingDetector)
    matrix, _ = detector._description.of(units)
    return matrix, detector._about.usual, detector._log_odds


def falls(
    detector: Detector, units: Units, vocabulary: Vocabulary, median: float, most: int, draws: int
) -> tuple[Numbers, Numbers]:
    """Falls of the score, as shares of its distance from a median.

    Only units with so many features that are named count for each number.

    Returns:
        [2, most] sums over the units, of what is named and of the rival; [most] how many units.
    """
    random = np.random.default_rng(len(units))
    matrix, usual, score = opened(detector, units, vocabulary)
    medians = np.asarray(usual.medians, dtype=np.float32)
    place = {name: at for at, name in enumerate(usual.features)}
    whole = score(matrix)
    sums, counts = np.zeros((2, most)), np.zeros(most)
    for row, own, reasons in zip(matrix, whole, detector.explain(units, most), strict=True):
        named = np.array([place[reason.field] for reason in reasons], dtype=np.int64)
        if not len(named) or own <= median:
            continue
        orders = [named, *(random.permutation(len(row))[: len(named)] for _ in range(draws))]
        changed = np.repeat(row[None], len(orders) * len(named), axis=0)
        for number, order in enumerate(orders):
            for size in range(len(named)):
                chosen = order[: size + 1]
                changed[number * len(named) + size, chosen] = medians[chosen]
        fall = (own - score(changed).reshape(len(orders), -1)) / (own - median)
        sums[:, : len(named)] += [fall[0], fall[1:].mean(axis=0)]
        counts[: len(named)] += 1
    return sums, counts


def figures(name: str, found: tuple[Numbers, Numbers], times: float) -> list[Figure]:
    """Falls beside the rival's, of which they are to be so many times as much."""
    return [
        at_least(
            f"{name}, fall of the score without the first {number}",
            float(one),
            times * float(other),
            float(other),
        )
        for number, (one, other) in enumerate(zip(*found, strict=True), start=1)
    ]
