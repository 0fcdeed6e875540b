"""A card ends with the newest comparison."""

import pytest

from habitus.domain.models.card import with_comparison

pytestmark = pytest.mark.plain


def test_a_newer_comparison_takes_the_place_of_an_older_one() -> None:
    card = "# markov-1\n\n## Settings\n\n- `seed`: 7\n"

    once = with_comparison(card, "# Compared\n\n| all | 0.5 |\n")
    twice = with_comparison(once, "# Compared\n\n| all | 0.6 |\n")

    assert once == f"{card}\n## Compared\n\n| all | 0.5 |\n"
    assert twice == f"{card}\n## Compared\n\n| all | 0.6 |\n"
