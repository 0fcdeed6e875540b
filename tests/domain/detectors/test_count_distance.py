"""The distance of counts to the nearest training unit."""

from functools import cache

import numpy as np
import pytest
from builders import LOGIN, SEARCH, VIEW, oddities, of_actions, together, units, vocabulary

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]


@cache
def fitted(kind: UnitKind = "session") -> CountDistanceDetector:
    words = vocabulary(kind)
    return CountDistanceDetector.fit(units(1500, 1, words), words, seed=7)


@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_farther_than_95_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(1500, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))

    assert odd.min() > np.quantile(normal, 0.95)
    assert (normal == 0).mean() > 0.5


def test_what_varies_among_like_units_counts_less_than_what_never_does() -> None:
    # Of two views to five, with a search or not: the number of views is what mostly differs.
    training = of_actions(*([VIEW] * n + [SEARCH] * s for n in (2, 3, 4, 5) for s in (0, 1)))
    detector = CountDistanceDetector.fit(training, vocabulary(), 7)

    more_views, a_login, seen = detector.score(
        of_actions([VIEW] * 6, [VIEW] * 2 + [LOGIN], [VIEW] * 3)
    )

    assert 0 == seen < more_views < a_login
    # All eight differ from their nearest in the views, none in logins: 8.5 and 0.5 in 9.
    assert more_views == pytest.approx(np.log2(9 / 8.5) * np.log(7 / 6))
    assert a_login == pytest.approx(np.log2(9 / 0.5) * np.log(2))


def test_a_left_out_unit_is_scored_as_if_the_others_alone_were_known() -> None:
    words = vocabulary()
    training = units(60, 4, words)
    detector = CountDistanceDetector.fit(training, words, 7)
    left_out = detector.left_out(training)
    counts = np.asarray(detector._about.counts)

    every = together(training)
    assert (detector.score(every) == 0).all()
    for unit in range(60):
        own = np.bincount(training.tokens["action"][training.unit_of_event == unit], minlength=9)
        others = (counts != own[2:]).any(axis=1)
        times = np.asarray(detector._about.times)[~others].sum()
        apart = np.abs(np.log1p(counts[others]) - np.log1p(own[2:])) @ detector._bits
        assert left_out[unit] == pytest.approx(0 if times > 1 else apart.min())


def test_reasons_are_the_counts_that_differ_from_the_nearest_unit() -> None:
    (reasons,) = fitted().explain(oddities(1, 3, vocabulary()), 3)

    assert reasons[0].field == "number of pay"
    assert reasons[0].observed == "12"
    assert int(reasons[0].expected[0][0]) < 12
    assert sum(reason.share for reason in reasons) <= 1 + 1e-9
    (none,) = fitted().explain(units(1500, 1, vocabulary()).take(np.array([0])), 3)
    assert none == []


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))

    assert fitted().score(none).shape == (0,)
    assert fitted().explain(none, 3) == []


def test_a_detector_read_from_its_files_scores_and_explains_the_same() -> None:
    some = together(units(20, 5, vocabulary()), oddities(3, 3, vocabulary()))

    again = load_detector("count_distance", fitted().to_files(), vocabulary())

    np.testing.assert_array_equal(again.score(some), fitted().score(some))
    assert again.explain(some, 5) == fitted().explain(some, 5)


@pytest.mark.parametrize("content", [None, b"damaged", b"{}"])
def test_a_missing_or_damaged_file_is_named(content: bytes | None) -> None:
    files = {} if content is None else {"count_distance.json": content}

    with pytest.raises(ArtefactError, match=r"count_distance\.json"):
        load_detector("count_distance", files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        load_detector("count_distance", fitted().to_files(), vocabulary("event"))


def test_units_that_are_all_alike_are_refused() -> None:
    with pytest.raises(TrainingError, match="3 training units, 1 of them distinct"):
        CountDistanceDetector.fit(of_actions(*[[VIEW]] * 3), vocabulary(), 7)
