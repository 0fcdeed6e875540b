"""Back-off probabilities against the recursion written down naively."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.detectors.backoff import BackOff, Keys
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

SIZE = 4
# Rows of (farther, nearer, value); values from 1 to 3, and 0 stands for the beginning.
Row = tuple[int, int, int]
rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=40
)


def packed(data: list[Row]) -> tuple[list[Keys], Keys]:
    farther, nearer, values = np.array(data, dtype=np.int64).T
    return [np.zeros_like(nearer), nearer, nearer + farther * SIZE], values


def naive(data: list[Row], farther: int, nearer: int, value: int) -> float:
    """P(value | nearer, farther) by the recursion, counting from scratch at each step."""
    likely, before = 1 / (SIZE - 1), -1
    for fits in (
        lambda row: True,
        lambda row: row[1] == nearer,
        lambda row: row[1] == nearer and row[0] == farther,
    ):
        seen = [row[2] for row in data if fits(row)]
        if seen and len(seen) != before:
            kinds = len(set(seen))
            likely = (seen.count(value) + kinds * likely) / (len(seen) + kinds)
        before = len(seen)
    return likely


@given(rows, rows)
def test_probabilities_are_those_of_the_naive_recursion(known: list[Row], asked: list[Row]) -> None:
    model = BackOff.fit(*packed(known), SIZE)
    found = model.probabilities(*packed(asked))
    np.testing.assert_allclose(found, [naive(known, *row) for row in asked])


@given(rows)
def test_a_value_left_out_is_judged_as_if_it_had_never_been_counted(known: list[Row]) -> None:
    contexts, values = packed(known)
    found = BackOff.fit(contexts, values, SIZE).probabilities(contexts, values, leave_out=True)
    expected = [naive(known[:i] + known[i + 1 :], *row) for i, row in enumerate(known)]
    np.testing.assert_allclose(found, expected)


@given(rows, rows)
def test_probabilities_of_all_values_add_up_to_one(known: list[Row], asked: list[Row]) -> None:
    model = BackOff.fit(*packed(known), SIZE)
    contexts, values = packed(asked)
    likely = model.distributions(contexts)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    assert (likely[:, 0] == 0).all()
    np.testing.assert_allclose(
        likely[np.arange(len(values)), values], model.probabilities(contexts, values)
    )


def test_a_longer_context_of_the_same_events_makes_nothing_less_likely() -> None:
    model = BackOff.fit(*packed([(1, 1, 2)] * 9 + [(1, 2, 1)]), SIZE)
    contexts, values = packed([(1, 1, 3), (3, 1, 3)])
    known, unknown = model.probabilities(contexts, values)
    assert known == unknown


def test_one_context_by_hand() -> None:
    # After 1: twice 2, once 3; in all: 2, 2, 3, 1. Witten and Bell: (2 + 2 q) / (3 + 2), where
    # q = (2 + 3 / 3) / (4 + 3).
    model = BackOff.fit(*packed([(0, 1, 2), (0, 1, 2), (0, 1, 3), (0, 2, 1)]), SIZE)
    first_two = BackOff(SIZE, model.levels[:2])
    contexts, values = packed([(0, 1, 2)])
    assert first_two.probabilities(contexts[:2], values) == pytest.approx((2 + 2 * 3 / 7) / 5)


@given(rows)
def test_counts_survive_being_written_as_arrays(known: list[Row]) -> None:
    contexts, values = packed(known)
    model = BackOff.fit(contexts, values, SIZE)
    again = BackOff.from_arrays(dict(model.to_arrays("field")), "field", SIZE, 3, "counts.npz")
    np.testing.assert_array_equal(
        again.probabilities(contexts, values), model.probabilities(contexts, values)
    )


@pytest.mark.parametrize("damage", ["missing", "type", "order", "length"])
def test_damaged_counts_are_refused_by_name(damage: str) -> None:
    arrays = dict(BackOff.fit(*packed([(0, 1, 2), (1, 1, 2), (1, 2, 3)]), SIZE).to_arrays("action"))
    name = "action.1.pairs"
    if damage == "missing":
        del arrays[name]
    else:
        array = arrays[name]
        arrays[name] = {
            "type": array.astype(np.float32),
            "order": array[::-1].copy(),
            "length": array[:1],
        }[damage]
    with pytest.raises(ArtefactError, match=r"counts.npz.*action\.1"):
        BackOff.from_arrays(arrays, "action", SIZE, 3, "counts.npz")
