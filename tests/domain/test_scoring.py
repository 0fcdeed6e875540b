"""What units are scored and judged: in a promotion, beside others like them."""

from dataclasses import replace

import builders
import numpy as np
import pytest
from scipy import stats

from habitus.domain.calibration import ALL, Calibration, Names
from habitus.domain.detectors.ecod import EcodDetector
from habitus.domain.scoring import scores_of
from habitus.domain.units import Units

pytestmark = pytest.mark.plain

WORDS = builders.vocabulary()
RATE = 0.01


def traffic(ordinary: int, promoted: int, seed: int) -> tuple[Units, Names]:
    """Sessions of ordinary days, then of a promotion: users come ten times as often."""
    units = builders.units(ordinary + promoted, seed, WORDS)
    number = np.arange(len(units))
    context = units.context * np.where(number < ordinary, 1, 10)[:, None] ** np.array([1, 0])
    names = np.where(number < ordinary, "ordinary", "promotion").astype(object)
    return replace(units, context=context.astype(np.float32)), names[:, None]


def test_a_promotion_like_one_before_does_not_flood_the_queue() -> None:
    detector = EcodDetector.fit(traffic(3000, 0, 1)[0], WORDS, 7)
    before, segments = traffic(6000, 3000, 2)
    calibration = Calibration.fit(scores_of(detector, before), segments)
    now, asked = traffic(1000, 3000, 3)
    attacks = builders.oddities(30, 4, WORDS)

    scores = scores_of(detector, now)
    p_values, used = calibration.p_values(scores, asked)
    together, _ = Calibration.fit(scores_of(detector, before)[:6000], segments[:6000]).p_values(
        scores, np.full((len(now), 1), None, dtype=object)
    )

    assert used.tolist() == asked[:, 0].tolist()
    promoted = used == "promotion"
    low, high = stats.betabinom.interval(0.99, 3000, RATE * 3000, 3000 * (1 - RATE))
    assert low <= (p_values[promoted] <= RATE).sum() <= high
    assert (together[promoted] <= RATE).sum() > 5 * high
    found, _ = calibration.p_values(
        scores_of(detector, attacks), np.full((30, 1), "promotion", dtype=object)
    )
    assert np.median(found) <= RATE


def test_a_promotion_without_one_before_is_judged_with_all_others_and_says_so() -> None:
    detector = EcodDetector.fit(traffic(3000, 0, 1)[0], WORDS, 7)
    before, segments = traffic(3000, 100, 2)
    calibration = Calibration.fit(scores_of(detector, before), segments)

    _, used = calibration.p_values(np.zeros(1), np.array([["promotion"]], dtype=object))

    assert used.tolist() == [ALL]
    assert calibration.in_words().endswith("promotion (100, judged within all)")
