"""The best detector is the one that leads over blocks, with an honest interval."""

import numpy as np
import pytest
from histograms import histogram

from habitus.config import EvaluateSettings
from habitus.domain.choosing import (
    BEHIND_BEST,
    compare_over_blocks,
    compare_refitted,
    page,
    verdict,
)
from habitus.domain.evaluation import ALL, NORMAL

pytestmark = pytest.mark.plain

SETTINGS = EvaluateSettings(blocks=4, blocks_of="time", refit=False, bootstrap=200, confidence=0.95)
DETECTORS = {"behaviour": "behaviour-1", "markov": "markov-1", "kmeans": "kmeans-1"}


PLACES = {"behaviour-1": [1, 1, 2, 1], "markov-1": [3, 2, 4, 2], "kmeans-1": [2, 1, 1, 1]}


def test_each_is_behind_the_best_by_the_mean_difference_over_blocks() -> None:
    found = compare_over_blocks(histogram(PLACES), DETECTORS, SETTINGS, seed=7)
    # With one anomaly, average precision is one over its place.
    behind = {one.detector: one.figure.value for one in found}
    assert behind == pytest.approx(
        {"behaviour": 0, "kmeans": 0, "markov": 3.5 / 4 - np.mean([1 / 3, 0.5, 0.25, 0.5])}
    )
    assert {(one.measure, one.kind, one.units, one.anomalous) for one in found} == {
        (BEHIND_BEST, ALL, 40, 4)
    }


def test_one_that_is_behind_in_every_block_is_told_from_one_that_is_not() -> None:
    found = compare_over_blocks(histogram(PLACES), DETECTORS, SETTINGS, seed=7)
    by_name = {one.detector: one.figure for one in found}
    assert 0.25 <= by_name["markov"].low < by_name["markov"].value
    assert by_name["kmeans"].low <= 0 <= by_name["kmeans"].high
    said = verdict(found, "time")
    assert said.startswith("best over blocks of time: behaviour, ahead of kmeans by 0.000")
    assert said.endswith("for all that is known as good: kmeans")


def test_a_lead_in_the_only_block_that_holds_anomalies_proves_nothing() -> None:
    rows = histogram({name: places[:1] for name, places in PLACES.items()})
    found = compare_over_blocks(rows, DETECTORS, SETTINGS, seed=7)
    assert all(np.isnan([one.figure.low, one.figure.high]).all() for one in found)
    assert verdict(found, "time") == (
        "best over blocks of time: behaviour, ahead of kmeans by 0.500 of average precision, in "
        "the only block that holds an anomaly, which proves nothing"
    )


def test_one_detector_is_the_best_and_none_without_anomalies() -> None:
    rows = histogram({"markov-1": [1, 1, 2, 1]})
    assert verdict(compare_over_blocks(rows, {"markov": "markov-1"}, SETTINGS, 1), "users") == (
        "best over blocks of users: markov"
    )
    normal = rows[rows["kind"] == NORMAL]
    assert compare_over_blocks(normal, {"markov": "markov-1"}, SETTINGS, 1) == []


def test_those_trained_anew_are_told_by_how_precise_they_are_and_how_far_behind() -> None:
    rows = histogram(PLACES)
    rows["model_id"] = rows["model_id"].str.removesuffix("-1")
    found = compare_refitted(rows, DETECTORS, SETTINGS, seed=7)
    precise = {
        one.model_id: one.figure.value
        for one in found
        if one.measure == "refitted_average_precision"
    }
    assert precise == pytest.approx(
        {"behaviour-1": 3.5 / 4, "kmeans-1": 3.5 / 4, "markov-1": np.mean([1 / 3, 0.5, 0.25, 0.5])}
    )
    said = verdict(found, "users")
    assert said.startswith("best over blocks of users, trained anew for each: behaviour, ahead of")
    normal = rows[rows["kind"] == NORMAL]
    assert compare_refitted(normal, DETECTORS, SETTINGS, 1) == []


def test_the_page_has_a_row_for_each_kind_and_measure() -> None:
    compared = compare_over_blocks(histogram(PLACES), DETECTORS, SETTINGS, seed=7)
    text = page(compared, compared, [verdict(compared, "time")])
    assert "| kind | measure | behaviour | kmeans | markov |" in text
    assert f"| {ALL} | {BEHIND_BEST} | 0.000 (0.000 to 0.000) |" in text
