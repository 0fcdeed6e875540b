"""Evidence becomes comparable: rarities are those of an exponential whatever the unit's length."""

from dataclasses import replace

import numpy as np
import pytest

from habitus.domain.detectors.rarity import HABIT, PIECES, Rarity, Surprises

pytestmark = pytest.mark.plain


def surprises(count: int, seed: int, scale: float = 1.0) -> Surprises:
    """Units of differing length whose fields are off by a bias and more spread than expected."""
    random = np.random.default_rng(seed)
    judged = np.repeat(random.integers(1, 40, (count, 1)), 3, axis=1).astype(float)
    variance = judged * [0.5, 1.0, 2.0]
    excess = random.normal(judged * [0.1, 0.0, -0.2], np.sqrt(variance * 1.7) * scale)
    return Surprises(excess, variance, judged, random.gumbel(5, 1, count) * scale)


def test_held_out_units_have_the_rarities_of_their_ranks() -> None:
    rarity = Rarity.fit(surprises(20_000, 1))
    assert rarity.total_spread == pytest.approx(1.7, rel=0.1)
    np.testing.assert_allclose(rarity.bias, [0.1, 0.0, -0.2], atol=0.02)
    scores = rarity.score(surprises(20_000, 2))
    # The largest of three rarities exceeds t with a probability between exp(-t) and 3 exp(-t).
    for level in (2, 4, 6):
        share = (scores > level).mean()
        assert 0.9 * np.exp(-level) < share < 3.3 * np.exp(-level)


def test_a_score_grows_with_each_piece_of_evidence() -> None:
    rarity = Rarity.fit(surprises(2000, 1))
    usual = Surprises(np.zeros((1, 3)), np.ones((1, 3)), np.ones((1, 3)), np.full(1, 5.0))
    base = rarity.score(usual)[0]
    odd_field = Surprises(np.array([[9.0, 0, 0]]), usual.variance, usual.judged, usual.strongest)
    odd_event = Surprises(usual.excess, usual.variance, usual.judged, np.full(1, 30.0))
    regular = Surprises(np.array([[-9.0, 0, 0]]), usual.variance, usual.judged, usual.strongest)
    assert rarity.score(odd_field)[0] > base + 3
    assert rarity.score(regular)[0] > base + 3
    assert rarity.score(odd_event)[0] > base + 3


def test_a_unit_unlike_its_user_scores_higher_where_that_is_asked() -> None:
    random = np.random.default_rng(5)
    held_out = replace(surprises(2000, 1), less_likely=random.normal(-3, 1, 2000))
    rarity = Rarity.fit(held_out)
    usual = Surprises(
        *(np.zeros((2, 3)), np.ones((2, 3)), np.ones((2, 3)), np.full(2, 5.0)),
        less_likely=np.array([-3.0, 5.0]),
    )
    pieces, of_counts = rarity.rarities(usual)
    assert pieces.shape == (2, len(PIECES))
    assert pieces[1].argmax() == HABIT
    assert not of_counts.any()
    assert np.diff(rarity.score(usual))[0] > 3


def test_the_rarity_of_counts_is_added_to_that_of_order() -> None:
    random = np.random.default_rng(5)
    counted = replace(surprises(2000, 1), rarest_count=random.exponential(2, 2000))
    rarity = Rarity.fit(counted)
    pieces, of_counts = rarity.rarities(counted)
    assert rarity.score(counted) == pytest.approx(pieces.max(axis=1) + of_counts)
    # A count's own rarity is that of an exponential, which it is of twice the mean.
    assert np.quantile(of_counts, [0.5, 0.9, 0.99]) == pytest.approx(np.log([2, 10, 100]), rel=0.1)
    assert pieces == pytest.approx(Rarity.fit(surprises(2000, 1)).rarities(surprises(2000, 1))[0])


def test_a_few_anomalies_among_the_held_out_units_change_little() -> None:
    clean, odd = surprises(5000, 1), surprises(100, 3, scale=20)
    names = ("excess", "variance", "judged", "strongest")
    mixed = Surprises(
        *(np.concatenate([getattr(clean, name), getattr(odd, name)]) for name in names)
    )
    test = surprises(500, 4)
    difference = Rarity.fit(mixed).score(test) - Rarity.fit(clean).score(test)
    assert abs(np.median(difference)) < 0.2


def test_a_single_unit_is_enough_to_fit() -> None:
    one = surprises(1, 1)
    assert np.isfinite(Rarity.fit(one).score(surprises(10, 2))).all()


def test_units_that_are_the_same_but_for_their_last_digits_do_not_make_a_tail() -> None:
    held_out = surprises(20_000, 1)
    random = np.random.default_rng(2)
    strongest = held_out.strongest.clip(max=7)
    strongest[:900] = 8 + 1e-6 * random.random(900)
    strongest[900:1000] = 8 + random.exponential(1.0, 100)
    rarity = Rarity.fit(replace(held_out, strongest=strongest))

    assert rarity.scales[2] == pytest.approx(1, rel=0.5)


def test_of_a_value_that_many_units_have_as_many_have_at_least_as_much() -> None:
    held_out = surprises(20_000, 1)
    values = np.repeat([1.0, 2.0, 3.0, 4.0], [14_000, 4_000, 1_800, 200])
    rarity = Rarity.fit(replace(held_out, strongest=values))

    some = surprises(4, 2)
    pieces, _ = rarity.rarities(replace(some, strongest=np.array([1.0, 2.0, 3.0, 4.0])))
    # To a hundredth of the units.
    assert np.exp(-pieces[:3, 2]) == pytest.approx([1, 0.3, 0.1], abs=0.011)
    assert pieces[3, 2] > pieces[2, 2]


@pytest.mark.parametrize(
    ("values", "units"),
    [
        # The 95th percentile is what most units have, or just below what many have.
        ([1.0, 3.0, 4.0, 6.0], [476, 15, 7, 2]),
        ([1.0, 2.99, 3.0, 4.0, 6.0], [474, 1, 16, 7, 2]),
    ],
)
def test_units_that_are_alike_neither_hide_nor_shorten_a_tail(
    values: list[float], units: list[int]
) -> None:
    held_out = replace(surprises(500, 1), rarest_count=np.repeat(values, units))

    counts = np.array([3.0, 4.0, 6.0, 20.0])
    tested = replace(surprises(4, 2), rarest_count=counts)
    of_counts = Rarity.fit(held_out).rarities(tested)[1]
    assert 2.9 < of_counts[0] < 1 - np.log(24 / 500)
    # A rarity in nats is no rarer than it says.
    assert (np.diff(of_counts) > 0).all()
    assert (np.diff(of_counts) <= np.diff(counts) + 1e-9).all()
