"""What a past unit was, in words."""

import builders
import pytest

from habitus.domain.vocabulary import FIRST_VALUE, RARE
from habitus.jobs.precedents import in_words

pytestmark = pytest.mark.plain

ACTIONS = builders.vocabulary().field("action")
VIEW, SEARCH, LOGIN, CART, PAY = (FIRST_VALUE + index for index in range(5))


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([PAY], "pay"),
        ([LOGIN, VIEW, VIEW, RARE], "view 2 times, login, a rare or new value"),
        ([LOGIN, VIEW, CART, PAY, SEARCH, PAY], "pay 2 times, login, view, cart, ..."),
    ],
)
def test_the_most_frequent_actions_are_told_first(tokens: list[int], words: str) -> None:
    assert in_words(tokens, ACTIONS) == words
