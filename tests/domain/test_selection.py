"""A feature is worth what is lost without it; those that are worth nothing are dropped."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import pytest
from builders import units, vocabulary

from habitus.domain.detectors.base import Reason, Scores
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.selected import SelectedDetector, without
from habitus.domain.selection import constant_features, importances, selected
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError

pytestmark = pytest.mark.plain

WORDS = vocabulary()
FIRST, SECOND = WORDS.context


class FirstFeature:
    """Scores by the first feature alone, and tells which features it was fitted on."""

    name: ClassVar[str] = "first"

    def __init__(self, labelled: Labelled) -> None:
        self.known = ~np.isnan(labelled.units.context).all(axis=0)

    def score(self, units: Units) -> Scores:
        return np.nan_to_num(units.context[:, 0]).astype(np.float64)

    def explain(self, units: Units, count: int) -> list[list[Reason]]:
        return [[] for _ in range(len(units))]

    def to_files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], vocabulary: Vocabulary) -> Self:
        raise NotImplementedError


def known(count: int = 400, anomalous: int = 40) -> Labelled:
    """The first feature is 1 for anomalous units and 0 for others, the second is noise."""
    some = units(count, 1, WORDS)
    is_anomalous = np.arange(count) < anomalous
    noise = np.random.default_rng(2).normal(size=count)
    context = np.stack([is_anomalous, noise], axis=1).astype(np.float32)
    return Labelled(
        replace(some, context=context), is_anomalous, np.ones(count), np.arange(count) // 4
    )


def test_features_are_constant_where_all_units_have_the_same_value_or_none() -> None:
    nan = np.nan
    context = np.array([[3, 1, nan, nan], [3, 2, nan, 5], [3, 1, nan, 5]], dtype=np.float32)

    assert constant_features(context, ("same", "varied", "missing", "new")) == ("same", "missing")


def test_a_feature_that_tells_all_is_worth_all_and_noise_is_worth_nothing() -> None:
    found = importances(FirstFeature(known()), known(), WORDS, seed=7)
    assert [one.feature for one in found] == [FIRST, SECOND]
    # Of values that change places one in ten is right by chance, as is a tenth of the precision.
    assert found[0].lost == pytest.approx(0.9, abs=0.05)
    assert found[0].is_needed
    assert (found[1].lost, found[1].error, found[1].is_needed) == (0, 0, False)


def test_the_same_seed_tells_the_same() -> None:
    again = [importances(FirstFeature(known()), known(), WORDS, seed=7) for _ in range(2)]
    assert again[0] == again[1]


def test_a_detector_does_without_what_it_does_not_need() -> None:
    detector, _, dropped = selected(FirstFeature, known(), known(), WORDS, seed=7)
    assert dropped == (SECOND,)
    assert isinstance(detector, SelectedDetector)
    judged = known().units
    hidden = without(judged, dropped, WORDS)
    assert np.isnan(hidden.context[:, 1]).all()
    np.testing.assert_array_equal(hidden.context[:, 0], judged.context[:, 0])
    np.testing.assert_array_equal(detector.score(judged), judged.context[:, 0])


def test_nothing_is_dropped_where_that_would_cost() -> None:
    class Both(FirstFeature):
        """Needs to have been fitted on both, whatever the second is."""

        def score(self, units: Units) -> Scores:
            return super().score(units) * self.known.all()

    detector, found, dropped = selected(Both, known(), known(), WORDS, seed=7)
    assert isinstance(detector, Both)
    assert dropped == ()
    assert not found[1].is_needed


def test_too_few_anomalous_validation_units_are_refused() -> None:
    with pytest.raises(TrainingError, match="19 validation units are known to be anomalous"):
        importances(FirstFeature(known()), known(anomalous=19), WORDS, seed=7)
