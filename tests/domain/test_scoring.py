"""What units are scored and judged: in a promotion, beside others like them, or not at all."""

from dataclasses import replace
from typing import Any

import builders
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from habitus.domain.calibration import ALL, Calibration, Names
from habitus.domain.detectors.base import Scores
from habitus.domain.detectors.ecod import EcodDetector
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.scoring import NOTES, score_batch, scores_of
from habitus.domain.units import Units
from habitus.domain.vocabulary import RARE

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


EMPTY, ALL_UNKNOWN, NO_NUMBER = NOTES


def rows_of(units: Units) -> pa.RecordBatch:
    """What a batch of `sequences` says of these units beside their tokens."""
    names = ("unit_kind", "unit_id", "user_id", "started_at", "event_date", "fingerprint")
    nothing = {name: pa.nulls(len(units)) for name in names}
    return pa.RecordBatch.from_pydict(nothing | {"segment": pa.array([[]] * len(units))})


def scored(units: Units, detector: MarkovDetector, normal: Units) -> list[dict[str, Any]]:
    scores = scores_of(detector, normal)
    calibration = Calibration.fit(scores, np.empty((len(scores), 0), dtype=object))
    return score_batch(rows_of(units), units, "markov-1", detector, calibration).to_pylist()


def unknown_from(units: Units, unit: int, position: int) -> Units:
    """The units, with a unit's actions unknown from a position on."""
    action = units.tokens["action"].copy()
    action[units.offsets[unit] + position : units.offsets[unit + 1]] = RARE
    return replace(units, tokens={**units.tokens, "action": action})


def test_a_unit_that_no_model_can_score_gets_a_note_and_is_not_rare() -> None:
    normal = builders.units(900, 1, WORDS)
    detector = MarkovDetector.fit(normal, WORDS, 7)
    some = builders.together(builders.units(3, 2, WORDS), builders.oddities(2, 3, WORDS))
    nothing = Units.from_arrow(empty_unit(), WORDS.field_names)
    asked = builders.together(unknown_from(unknown_from(some, 0, 0), 1, 1), nothing)

    found = scored(asked, detector, normal)

    assert [row["note"] for row in found] == [ALL_UNKNOWN, None, None, None, None, EMPTY]
    assert [(row["score"], row["p_value"]) for row in (found[0], found[-1])] == [(0, 1)] * 2
    alone = scored(some.take(np.array([2, 3, 4])), detector, normal)
    assert [row["score"] for row in found[2:5]] == [row["score"] for row in alone]
    assert [row["note"] for row in scored(nothing, detector, normal)] == [EMPTY]


def test_a_unit_of_50_000_events_is_scored_as_any_other() -> None:
    normal = builders.units(900, 1, WORDS)
    detector = MarkovDetector.fit(normal, WORDS, 7)
    some = builders.units(3, 2, WORDS)

    found = scored(builders.together(some, builders.long_unit(50_000, 3, WORDS)), detector, normal)

    assert [row["note"] for row in found] == [None] * 4
    assert np.isfinite(found[-1]["score"])
    assert found[:-1] == scored(some, detector, normal)


def empty_unit() -> pa.Table:
    """A session of no event."""
    names = (*WORDS.field_names, "amounts", "gaps")
    lists: dict[str, pa.Array] = {name: pa.array([[]], pa.list_(pa.int32())) for name in names}
    of_unit = {
        "context": pa.array([[np.nan] * len(WORDS.context)], pa.list_(pa.float32())),
        "scored_from": pa.array([0]),
        "closed": pa.array([True]),
    }
    return pa.table(lists | of_unit)


def test_events_that_are_only_history_do_not_make_a_unit_known() -> None:
    words = builders.vocabulary("event")
    normal = builders.units(900, 1, words)
    detector = MarkovDetector.fit(normal, words, 7)
    some = builders.units(2, 2, words)
    last = int(some.lengths[0]) - 1

    assert [row["note"] for row in scored(unknown_from(some, 0, last), detector, normal)] == [
        ALL_UNKNOWN,
        None,
    ]


class Confused(MarkovDetector):
    """A model that has no number for its first unit."""

    def score(self, units: Units) -> Scores:
        return np.where(np.arange(len(units)) == 0, np.nan, super().score(units))


def test_a_score_that_is_no_number_is_said_to_be_none() -> None:
    normal = builders.units(900, 1, WORDS)
    detector = MarkovDetector.fit(normal, WORDS, 7)
    calm = scores_of(detector, normal)
    calibration = Calibration.fit(calm, np.empty((len(calm), 0), dtype=object))
    confused = object.__new__(Confused)
    confused.__dict__ = detector.__dict__
    some = builders.units(2, 2, WORDS)

    found = score_batch(rows_of(some), some, "m-1", confused, calibration).to_pylist()

    assert [row["note"] for row in found] == [NO_NUMBER, None]
    assert (found[0]["score"], found[0]["p_value"]) == (0, 1)
