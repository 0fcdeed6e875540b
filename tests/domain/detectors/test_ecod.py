"""How far out a unit's numbers are among those of training units."""

import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from builders import oddities, together, units, vocabulary
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from habitus.domain.detectors import load_detector
from habitus.domain.detectors.ecod import EcodDetector, Tail, Tails
from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Floats
from habitus.errors import ArtefactError, SettingsError, TrainingError
from habitus.model_settings import EcodSettings
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]
PLAIN = Feature("number", "plain")


@cache
def fitted(kind: UnitKind = "session") -> EcodDetector:
    words = vocabulary(kind)
    return EcodDetector.fit(units(1500, 1, words), words, seed=7)


def tails_of(*columns: object, feature: Feature = PLAIN) -> Tails:
    matrix = matrix_of(*columns)
    return Tails.fit(matrix, (feature,) * len(columns), vocabulary())


def matrix_of(*columns: object) -> Floats:
    return np.array(columns, dtype=np.float32).T


def test_a_surprise_is_the_share_of_units_as_far_out_on_the_skewed_side() -> None:
    # 100 units, of which the last five, from 20 on, are the tail; their mean excess over 30 is 10.
    tail = Tail.fit(np.array([0.0] * 50 + [1] * 45 + [20, 30, 30, 40, 60]), True, 0.1)

    p_values = 2 ** -tail.bits(np.array([-1.0, 0, 0.5, 1, 2, 20, 25, 30, 40, 300]))

    ranks = np.array([101, 101, 51, 51, 6, 6, 5, 5, 5, 5]) / 101
    excess = np.array([0, 0, 0, 0, 0, 0, 0, 0, 10, 270])
    assert tail.start == 30
    assert tail.scale == 10
    np.testing.assert_allclose(p_values, ranks * np.exp(-excess / 10))


def test_a_feature_is_judged_on_the_side_to_which_its_numbers_are_skewed() -> None:
    # On the logarithmic scale that they are stored on, the first are skewed downwards.
    stored = np.log1p(np.array([1.0] * 10 + [100] * 60 + [200] * 25 + [2000] * 5))
    amounts = tails_of(stored, feature=Feature("amount"))
    shares = tails_of([0.0] * 5 + [0.8] * 35 + [1] * 60, feature=Feature("share", "share"))

    assert [tail.upwards for tail in amounts.sides[0]] == [True]
    assert amounts.bits(matrix_of(np.log1p([1, 2000])))[:, 0] == pytest.approx(
        [0, np.log2(101 / 6)]
    )
    assert [tail.upwards for tail in shares.sides[0]] == [False]
    assert shares.bits(matrix_of([0.0, 1]))[:, 0] == pytest.approx([np.log2(101 / 6), 0])


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.7, 1e6])
def test_what_never_varied_in_training_counts_when_it_does_either_way(value: float) -> None:
    tails = tails_of([value] * 99)
    value = float(np.float32(value))

    same, more, less = tails.bits(matrix_of([value, value + 5, value - 5]))[:, 0]

    # Twice one in a hundred, and fifty grains of a tenth beyond.
    farther = np.log2(100 / 2) + 50 / np.log(2)
    assert same == 0
    assert [more, less] == pytest.approx([farther, farther])


def test_a_norm_of_a_higher_power_weighs_the_largest_surprise_more() -> None:
    bits = np.array([[3.0, 4.0], [7.0, 0.0]])
    by_power = {
        power: tails_of(*np.eye(2) * 30).model_copy(update={"power": power}).together(bits)
        for power in (1.0, 2.0, 50.0)
    }

    assert by_power[1].tolist() == [7, 7]
    assert by_power[2] == pytest.approx([5, 7])
    assert by_power[50] == pytest.approx([4, 7], rel=1e-2)


def test_it_looks_at_the_numbers_that_settings_name_and_no_others() -> None:
    words = vocabulary()
    training, later = units(500, 1, words), units(100, 2, words)
    settings = EcodSettings(features=("duration", "*amount*"), power=1)

    narrow = EcodDetector.fit(training, words, 7, settings)
    again = EcodDetector.from_files(narrow.to_files(), words)

    matrix, features = summarise(training, words)
    kept = [i for i, one in enumerate(features) if one.name == "duration" or "amount" in one.name]
    assert 1 < len(kept) < len(features)
    tails = Tails.fit(matrix[:, kept], [features[i] for i in kept], words)
    expected = tails.bits(summarise(later, words)[0][:, kept]).sum(axis=1)
    np.testing.assert_allclose(again.score(later), expected)
    told = {reason.field for reasons in again.explain(later, 9) for reason in reasons}
    assert told <= {features[i].name for i in kept}


def test_a_pattern_that_names_no_number_is_refused_with_the_nearest_name() -> None:
    words = vocabulary()
    settings = EcodSettings(features=("durations",), power=1)

    with pytest.raises(SettingsError, match=r"'durations' names none.*'duration'"):
        EcodDetector.fit(units(100, 1, words), words, 7, settings)


@given(
    st.lists(st.integers(0, 6), min_size=20, max_size=200),
    st.lists(st.integers(-2, 8), min_size=1, max_size=20),
    st.booleans(),
)
def test_a_surprise_is_that_of_counting_one_by_one(
    known: list[int], asked: list[int], upwards: bool
) -> None:
    tail = Tail.fit(np.array(known, dtype=np.float64), upwards, 0.1)

    for number, bits in zip(asked, tail.bits(np.array(asked, dtype=np.float64)), strict=True):
        sign = 1 if upwards else -1
        outwards = sorted(sign * one for one in known)
        of_tail = [
            one for one in outwards if sum(other >= one for other in outwards) * 20 <= len(known)
        ]
        first = min(of_tail, default=outwards[-1])
        beyond = [one for one in outwards if one > first]
        start = min(beyond, default=first)
        scale = max(sum(one - start for one in beyond) / max(len(beyond), 1), 0.1)
        if sign * number <= first:
            rank = 1 + sum(one >= sign * number for one in outwards)
        else:
            rank = 1 + len(beyond)
        excess = max(sign * number - start, 0) / scale
        assert bits == pytest.approx(np.log2((len(known) + 1) / rank) + excess / np.log(2))


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("number", [300, 20_000])
def test_p_values_of_units_that_were_held_out_are_uniform(number: int, upwards: bool) -> None:
    random = np.random.default_rng(5)
    sign = 1 if upwards else -1
    tail = Tail.fit(sign * random.exponential(size=number), upwards, 0.001)

    p_values = 2 ** -tail.bits(sign * random.exponential(size=100_000))

    assert kstest(p_values, "uniform").statistic < 1.6 / np.sqrt(number)


def test_p_values_beyond_all_training_units_are_those_of_the_tail() -> None:
    random = np.random.default_rng(5)
    tail = Tail.fit(random.exponential(size=20_000), True, 0.001)

    p_values = 2 ** -tail.bits(random.exponential(size=1_000_000))

    # A thousand units in the tail tell its scale to about 3 %, and so p-values as far out to 25 %.
    assert (p_values < 4e-5).mean() == pytest.approx(4e-5, rel=0.5)
    assert p_values.min() < 1e-5


def test_a_farther_number_is_never_less_surprising() -> None:
    random = np.random.default_rng(5)
    tail = Tail.fit(random.normal(size=5000).round(1) ** 3, True, 0.1)

    bits = tail.bits(np.linspace(-100, 300, 10_000))

    assert (np.diff(bits) >= 0).all()
    assert bits[-1] > bits[-2]


def test_of_many_values_ranks_are_kept_to_a_thousandth() -> None:
    known = np.random.default_rng(5).normal(size=20_000)
    tail = Tail.fit(known, True, 0.1)
    inside = known[known <= tail.values[-1]]

    p_values = 2 ** -tail.bits(inside)

    exact = (1 + (known[None] >= inside[:200, None]).sum(axis=1)) / 20_001
    assert len(tail.values) <= 1000
    assert (p_values[:200] - exact >= -1e-12).all()
    assert (p_values[:200] - exact).max() <= 1e-3


def test_anomalies_in_training_do_not_hide_those_that_are_farther_out() -> None:
    random = np.random.default_rng(5)
    usual = random.normal(3, 0.5, 5000)
    with_anomalies = np.concatenate([usual, random.uniform(8, 9, 20)])

    (bits,) = tails_of(with_anomalies).bits(matrix_of([9.0]))[0]

    assert bits > np.log2(len(with_anomalies) + 1)  # the most that a rank can tell


@pytest.mark.parametrize("kind", KINDS)
def test_card_tests_are_stranger_than_99_percent_of_the_chain(kind: UnitKind) -> None:
    words = vocabulary(kind)
    normal = fitted(kind).score(units(1500, 2, words))
    odd = fitted(kind).score(oddities(50, 3, words))

    assert np.median(odd) > np.quantile(normal, 0.99)


def test_the_score_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 5, vocabulary())

    alone = [fitted().score(many.take(np.array([index])))[0] for index in range(30)]

    np.testing.assert_array_equal(alone, fitted().score(many))


def test_no_units_have_no_scores() -> None:
    none = units(3, 1, vocabulary()).take(np.array([], dtype=np.int64))

    assert fitted().score(none).shape == (0,)
    assert fitted().explain(none, 3) == []


def test_reasons_are_unusual_features_in_words_with_their_bits() -> None:
    odd = oddities(1, 3, vocabulary())
    matrix, features = summarise(odd, vocabulary())

    (reasons,) = fitted().explain(odd, 5)

    names = [feature.name for feature in features]
    bits = fitted()._tails.bits(matrix)[0]
    assert len(reasons) == 5
    assert [reason.surprise for reason in reasons] == [
        bits[names.index(reason.field)] for reason in reasons
    ]
    assert {"share of pay", "number of pay"} & {reason.field for reason in reasons}
    assert all(reason.event_index is None and reason.surprise > 3 for reason in reasons)
    assert sum(reason.share for reason in reasons) <= 1 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_read_from_its_files_scores_and_explains_the_same(kind: UnitKind) -> None:
    words = vocabulary(kind)
    some = together(units(20, 5, words), oddities(3, 3, words))

    again = load_detector("ecod", fitted(kind).to_files(), words)

    np.testing.assert_array_equal(again.score(some), fitted(kind).score(some))
    assert again.explain(some, 5) == fitted(kind).explain(some, 5)


def test_the_same_units_give_the_same_files() -> None:
    words = vocabulary()
    one, two = (EcodDetector.fit(units(100, 1, words), words, seed).to_files() for seed in (1, 2))

    assert one == two


def without_a_feature(content: bytes) -> bytes:
    about = json.loads(content)
    about["sides"].pop()
    return json.dumps(about).encode()


def without_a_side(content: bytes) -> bytes:
    about = json.loads(content)
    about["sides"][0] = []
    return json.dumps(about).encode()


def without_a_count(content: bytes) -> bytes:
    about = json.loads(content)
    about["sides"][0][0]["above"].pop()
    return json.dumps(about).encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (None, "no such file"),
        (lambda content: b"damaged", "Invalid JSON"),
        (lambda content: b"{}", "usual Field required"),
        (without_a_feature, r"not every of \d+ features has a side"),
        (without_a_side, r"not every of \d+ features has a side"),
        (without_a_count, "values and above differ in number"),
    ],
)
def test_a_missing_or_damaged_file_is_named(
    damage: Callable[[bytes], bytes] | None, words: str
) -> None:
    files = fitted().to_files()
    files = {name: damage(content) for name, content in files.items()} if damage else {}

    with pytest.raises(ArtefactError, match=rf"ecod\.json: .*{words}"):
        load_detector("ecod", files, vocabulary())


def test_files_made_for_another_vocabulary_are_refused() -> None:
    with pytest.raises(ArtefactError, match="made for vocabulary"):
        load_detector("ecod", fitted().to_files(), vocabulary("event"))


@pytest.mark.parametrize("number", [0, 19])
def test_a_tail_of_too_few_units_is_refused(number: int) -> None:
    words = vocabulary()
    with pytest.raises(TrainingError, match=f"{number} training units, fewer than 20"):
        EcodDetector.fit(units(number, 1, words), words, 7)
