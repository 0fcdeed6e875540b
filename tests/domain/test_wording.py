"""How sums and amounts are told."""

import pytest

from habitus.domain.wording import in_cents, in_digits

pytestmark = pytest.mark.plain


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (0.00042, "0.00042"),
        (0.3, "0.3"),
        (5, "5"),
        (5.25, "5.2"),
        (3e-5, "0.00003"),
        (1920.4, "1,920"),
    ],
)
def test_a_sum_is_whole_if_it_is_large_and_has_two_digits_if_it_is_small(
    value: float, told: str
) -> None:
    assert in_digits(value) == told


@pytest.mark.parametrize(
    ("amount", "told"),
    [(0, "0.00"), (0.00042, "0.00042"), (0.5, "0.50"), (-12.345, "-12.35"), (1234.5, "1,234.50")],
)
def test_an_amount_is_told_to_a_hundredth_or_to_two_digits(amount: float, told: str) -> None:
    assert in_cents(amount) == told
