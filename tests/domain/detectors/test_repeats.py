"""How rare it is that a unit does one thing as often as it does."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from builders import PAY, SEARCH, VIEW, oddities, of_actions, units, vocabulary

from habitus.domain.detectors.repeats import Repeats
from habitus.domain.vocabulary import FIRST_VALUE, MISSING
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

WORDS = vocabulary()
ACTIONS = WORDS.field("action")
LOOK, BUY = VIEW + FIRST_VALUE, PAY + FIRST_VALUE


def test_a_count_is_as_rare_as_units_tell_and_beyond_falls_with_its_fourth_power() -> None:
    repeats = Repeats(units=99, reached=((59, 19, 4),) * ACTIONS.size)
    nats, token, count = repeats.rarest(of_actions([VIEW] * 6 + [PAY], [PAY] * 2, [PAY] * 3))

    # 4 of 99 reach the third: one in twenty, as one more is counted of either.
    assert np.exp(-nats) == pytest.approx([0.05 / 2**4, 0.2, 0.05])
    assert token.tolist() == [LOOK, BUY, BUY]
    assert count.tolist() == [6, 2, 3]


def test_a_few_crawlers_among_the_training_units_do_not_make_many_views_usual() -> None:
    random = np.random.default_rng(5)
    counts = 1 + random.negative_binomial(3, 0.4, 10_000)
    counts[:20] = random.integers(200, 490, 20)
    repeats = Repeats.fit(of_actions(*([VIEW] * int(n) for n in counts)), ACTIONS.size)

    usual = repeats.rarest(of_actions(*([VIEW] * int(n) for n in counts[20:2020])))[0]
    (many,), _, _ = repeats.rarest(of_actions([VIEW] * 40))
    assert many > log(400)
    assert (usual < many).all()


def test_what_every_unit_does_once_is_rare_twice() -> None:
    repeats = Repeats.fit(of_actions(*[[VIEW, PAY]] * 5_000), ACTIONS.size)

    assert repeats.rarest(of_actions([VIEW, PAY]))[0] == pytest.approx([0])
    assert repeats.rarest(of_actions([VIEW, PAY, PAY]))[0] == pytest.approx([log(5_001)])


def test_counts_in_the_thousands_differ_in_how_rare_they_are() -> None:
    counts = np.random.default_rng(6).poisson(1_500, 100)
    repeats = Repeats.fit(of_actions(*([VIEW] * int(n) for n in counts)), ACTIONS.size)

    several = [[VIEW] * number for number in (900, 1_500, 1_700, 2_500)]
    nats = repeats.rarest(of_actions(*several))[0]
    assert nats[0] == 0
    assert nats[0] < nats[1] < 2 < nats[2] < nats[3]


def test_what_never_happened_may_happen() -> None:
    repeats = Repeats.fit(of_actions(*[[VIEW, PAY]] * 500), ACTIONS.size)

    nats, token, count = repeats.rarest(of_actions([VIEW, SEARCH], [SEARCH] * 3))
    assert np.exp(-nats) == pytest.approx([1 / 501, 1 / 501 / 3**4])
    assert token.tolist() == [SEARCH + FIRST_VALUE] * 2
    assert count.tolist() == [1, 3]


def test_an_event_without_an_action_is_not_counted() -> None:
    repeats = Repeats.fit(of_actions(*[[VIEW]] * 500), ACTIONS.size)
    some = of_actions([VIEW] * 3)
    some.tokens["action"][1:] = MISSING

    nats, token, count = repeats.rarest(some)
    assert (nats[0], token[0], count[0]) == (0, LOOK, 1)


def test_who_does_one_thing_over_and_over_is_rarer_than_a_long_session() -> None:
    repeats = Repeats.fit(units(3000, 1, WORDS), ACTIONS.size)
    usual = np.sort(repeats.rarest(units(1000, 5, WORDS))[0])
    tested = repeats.rarest(oddities(50, 3, WORDS))[0]
    assert np.searchsorted(usual, np.median(tested)) > 990
    # Any count has a rarity, however high.
    assert np.isfinite(repeats.rarest(of_actions([VIEW] * 5000))[0]).all()


def test_only_what_is_judged_is_counted_and_told_at_its_middle() -> None:
    repeats = Repeats.fit(units(3000, 1, WORDS), ACTIONS.size)
    some = of_actions([PAY] * 30 + [VIEW] + [PAY] * 9, [VIEW])
    later = replace(some, scored_from=np.array([30, 0], dtype=np.int32))

    assert repeats.rarest(later)[2].tolist() == [9, 1]
    first, _ = repeats.reasons(later, ACTIONS, np.array([0.5, 0.5]))
    assert first.field == "number of pay"
    assert first.observed == "9"
    assert first.event_index == 35
    assert first.share == 0.5
    ((usual, share),) = first.expected
    low, high = map(int, usual.split(" to "))
    assert 0 <= low <= high < 9
    assert share == 0.8


def test_a_unit_without_a_judged_event_is_not_rare() -> None:
    repeats = Repeats.fit(units(100, 1, WORDS), ACTIONS.size)
    empty = replace(of_actions([VIEW]), scored_from=np.array([1], dtype=np.int32))
    assert repeats.rarest(empty)[0].tolist() == [0]


def test_counts_of_another_vocabulary_are_refused() -> None:
    repeats = Repeats.fit(units(100, 1, WORDS), ACTIONS.size + 1)
    with pytest.raises(ArtefactError, match=f"not every of {ACTIONS.size} actions has its counts"):
        repeats.refuse_other("repeats.json", WORDS)
