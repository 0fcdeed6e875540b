"""The distance from the nearest cluster of training units."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import VIEW, oddities, of_actions, together, units, vocabulary

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.kmeans import (
    BisectingKMeansDetector,
    ClusterDetector,
    KMeansDetector,
)
from habitus.domain.units import Units
from habitus.domain.vocabulary import FieldVocabulary, Vocabulary
from habitus.errors import ArtefactError, TrainingError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]
both = pytest.mark.parametrize("detector", [KMeansDetector, BisectingKMeansDetector])
VIEWS = Vocabulary(
    unit_kind="session",
    fields=(FieldVocabulary(name="action", kind="values", values=("view",)),),
    context=(),
    split=vocabulary().split,
)


@cache
def fitted(detector: type[ClusterDetector], kind: UnitKind = "session") -> ClusterDetector:
    words = vocabulary(kind)
    return detector.fit(units(1500, 1, words), words, seed=7)


def of_views(*numbers: int) -> Units:
    """Sessions of so many views: two of the nine columns tell them apart, as log(1 + n)."""
    some = of_actions(*([VIEW] * number for number in numbers))
    return replace(some, context=some.context[:, :0])


@both
def test_a_distance_is_relative_to_the_spread_of_the_nearest_cluster(
    detector: type[ClusterDetector],
) -> None:
    # As log2(1 + n): 1 and 2 around 1.5, and 5 and 6 around 5.5, with spreads of .5.
    training = of_views(*[1, 3] * 20, *[31, 63] * 20)
    blank = detector.fit(training, VIEWS, 7)
    numbers = blank.numbers(training)
    centres = np.array([numbers[:40].mean(axis=0), numbers[40:].mean(axis=0)])

    two = blank.with_centres(centres, training)
    own, above, below, of_the_few = two.score(of_views(31, 127, 15, 7))

    of_two_in_nine = np.sqrt(2 / 9)
    assert two.clusters.units == (40, 40)
    assert own == pytest.approx(of_two_in_nine, rel=0.01)
    assert above == pytest.approx(of_two_in_nine * (7 - 5.5) / 0.5, rel=0.01)
    assert below == pytest.approx(of_two_in_nine * (5.5 - 4) / 0.5, rel=0.01)
    assert of_the_few == pytest.approx(of_two_in_nine * (3 - 1.5) / 0.5, rel=0.01)


@both
def test_a_cluster_of_one_unit_has_about_the_spreads_of_the_others(
    detector: type[ClusterDetector],
) -> None:
    training = of_views(*[1, 3] * 50, 63)
    blank = detector.fit(training, VIEWS, 7)
    numbers = blank.numbers(training)
    centres = np.array([numbers[:-1].mean(axis=0), numbers[-1]])

    two = blank.with_centres(centres, training)

    many, one = np.asarray(two.clusters.spreads)
    assert two.clusters.units == (100, 1)
    # Its own mean square is 0; that of 30 more is 100 / 101 of that of the others.
    average = many**2 * (100 + 30) / (100 + 30 * 100 / 101) * 100 / 101
    np.testing.assert_allclose(one[[0, 7]], np.sqrt(average * 30 / 31)[[0, 7]])


@both
def test_there_are_as_many_clusters_as_groups(detector: type[ClusterDetector]) -> None:
    random = np.random.default_rng(3)
    groups = np.exp(random.normal(np.repeat([1.5, 3, 4.5, 6], 100), 0.15)).round().astype(int)

    found = detector.fit(of_views(*groups), VIEWS, 7)

    assert sorted(found.clusters.units) == [100] * 4
    held_out = np.exp(random.normal(np.repeat([1.5, 3, 4.5, 6], 10), 0.15)).round().astype(int)
    between, beyond = found.score(of_views(10, 3000))
    assert found.score(of_views(*held_out)).max() < between < beyond


@both
@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_stranger_than_99_percent_of_the_chain(
    detector: type[ClusterDetector], kind: UnitKind
) -> None:
    words = vocabulary(kind)
    normal = fitted(detector, kind).score(units(1500, 2, words))
    odd = fitted(detector, kind).score(oddities(50, 3, words))

    assert np.median(normal) < 1
    assert odd.min() > np.quantile(normal, 0.99)


@both
def test_what_never_varied_in_training_counts_when_it_does(
    detector: type[ClusterDetector],
) -> None:
    found = detector.fit(of_views(*range(1, 60)), VIEWS, 7)
    some = of_views(*range(1, 60))
    rare = Units(**{**some.__dict__, "tokens": {"action": some.tokens["action"] - 1}})

    assert (found.score(rare) > 3 * found.score(some).max()).all()


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 5, vocabulary())
    detector = fitted(KMeansDetector)

    alone = [detector.score(many.take(np.array([index])))[0] for index in range(30)]

    np.testing.assert_array_equal(alone, detector.score(many))


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))

    assert fitted(KMeansDetector).score(none).shape == (0,)
    assert fitted(KMeansDetector).explain(none, 3) == []


@both
def test_reasons_are_unusual_features_in_words(detector: type[ClusterDetector]) -> None:
    (reasons,) = fitted(detector).explain(oddities(1, 3, vocabulary()), 5)

    assert len(reasons) == 5
    assert {"share of pay", "share of outcome failure"} <= {reason.field for reason in reasons[:2]}
    payments = next(reason for reason in reasons if reason.field == "share of pay")
    assert payments.observed == "86%"
    assert payments.expected == (("0% to 17%", pytest.approx(0.8)),)
    assert all(reason.event_index is None and reason.surprise > 0 for reason in reasons)
    assert sum(reason.share for reason in reasons) <= 1 + 1e-9


@both
def test_what_the_columns_add_is_the_square_of_the_distance(
    detector: type[ClusterDetector],
) -> None:
    some = together(units(20, 5, vocabulary()), oddities(3, 3, vocabulary()))
    numbers = fitted(detector).numbers(some).astype(np.float64)

    parts = fitted(detector).clusters.parts(numbers)

    nearest = fitted(detector).clusters.distances(numbers).min(axis=1)
    np.testing.assert_allclose(parts.sum(axis=1), nearest**2)


@both
def test_the_same_seed_gives_the_same_clusters(detector: type[ClusterDetector]) -> None:
    words = vocabulary()
    one, two, other = (
        detector.fit(units(300, 1, words), words, seed).to_files() for seed in (1, 1, 2)
    )

    assert one == two
    assert one != other


@both
@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(
    detector: type[ClusterDetector], kind: UnitKind
) -> None:
    words = vocabulary(kind)
    some = together(units(20, 5, words), oddities(3, 3, words))

    again = load_detector(detector.name, fitted(detector, kind).to_files(), words)

    assert isinstance(again, detector)
    np.testing.assert_array_equal(again.score(some), fitted(detector, kind).score(some))
    assert again.explain(some, 5) == fitted(detector, kind).explain(some, 5)


def without_a_spread(content: bytes) -> bytes:
    about = json.loads(content)
    about["spreads"][0].pop()
    return json.dumps(about).encode()


def without_a_centre(content: bytes) -> bytes:
    about = json.loads(content)
    about["centres"].pop()
    return json.dumps(about).encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "no such file"),
        (lambda content: b"damaged", "Invalid JSON"),
        (lambda content: b"{}", "scale Field required"),
        (without_a_spread, "a row is not as long as there are features"),
        (without_a_centre, "are not of the same clusters"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    damage: Callable[[bytes], bytes] | None, words: str
) -> None:
    files = fitted(KMeansDetector).to_files()
    files = {name: damage(content) for name, content in files.items()} if damage else {}

    with pytest.raises(ArtefactError, match=rf"kmeans\.json: .*{words}"):
        load_detector("kmeans", files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        load_detector("kmeans", fitted(KMeansDetector).to_files(), vocabulary("event"))


@both
@pytest.mark.parametrize("number", [0, 1, 3])
def test_units_that_are_all_alike_are_refused(detector: type[ClusterDetector], number: int) -> None:
    with pytest.raises(TrainingError, match=f"{number} training units, of which no two differ"):
        detector.fit(of_views(*[4] * number), VIEWS, 7)


@both
def test_two_units_are_two_clusters(detector: type[ClusterDetector]) -> None:
    found = detector.fit(of_views(1, 100), VIEWS, 7)

    assert found.clusters.units == (1, 1)
    assert found.score(of_views(1, 100)).max() < 0.01 < found.score(of_views(10)).min()
