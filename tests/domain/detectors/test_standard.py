"""Numbers of the summary on one scale."""

import numpy as np
import pytest
from builders import vocabulary

from habitus.domain.detectors.standard import Standard
from habitus.domain.detectors.summary import Feature

pytestmark = pytest.mark.plain

NAN, FEATURES = np.nan, (Feature("one"), Feature("two"), Feature("three"))
NORMAL = np.array([[1, 5, 0], [3, 5, 0], [5, 5, NAN], [7, NAN, 0]], dtype=np.float32)


def standard() -> Standard:
    return Standard.fit(NORMAL, FEATURES, vocabulary())


def test_numbers_are_deviations_from_the_mean_and_missing_ones_say_so() -> None:
    row = np.array([[4 + 2 * np.sqrt(5), NAN, 0]], dtype=np.float32)

    found = standard().numbers(row)

    # Of three normal units in four it is known; of these the second number never varies.
    np.testing.assert_allclose(found, [[2, 0, 0, 0, 0.75, -0.25]], atol=1e-6)


def test_far_numbers_are_alike_but_where_they_are_drawn_in() -> None:
    rows = np.array([[40, 5, 0], [400, 5, 0], [np.inf, 5, 0]], dtype=np.float32)

    assert standard().numbers(rows)[:, 0].tolist() == [8, 8, 8]
    drawn_in = standard().drawn_in(rows)[:, 0]
    assert drawn_in[0] == pytest.approx(np.arcsinh(36 / np.sqrt(5)))
    assert drawn_in[0] < drawn_in[1] < drawn_in[2] == 8


def test_a_number_is_told_by_how_far_it_has_come_in_each_piece() -> None:
    normal = np.column_stack([np.arange(1001), np.full(1001, 5), np.arange(1001) % 2])
    learned = Standard.fit(normal.astype(np.float32), FEATURES, vocabulary())
    rows = np.array([[25, 5, 0.25], [-7, 9, 1], [5000, NAN, 2]], dtype=np.float32)

    found = learned.pieces(rows)

    # Pieces of the first begin at 0, 10, 100, ... 990, 999; the second never varied.
    assert found.shape == (3, learned.width - 6) == (3, 15 + 1)
    np.testing.assert_allclose(found[0], [1, 15 / 90, *[0] * 13, 0.25], rtol=1e-5)
    assert found[1].tolist() == [0] * 15 + [1]
    assert found[2].tolist() == [1] * 16


def test_drawn_in_near_numbers_are_nearly_as_they_are() -> None:
    rows = np.array([[4.1, 5, 0]], dtype=np.float32)

    np.testing.assert_allclose(standard().drawn_in(rows), standard().numbers(rows), atol=3e-3)
