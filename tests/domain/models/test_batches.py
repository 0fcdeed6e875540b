"""Batches hold every event once, in its place, and little padding."""

from dataclasses import replace
from itertools import chain

import builders
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitus.domain.models.batches import (
    MOST_POSITIONS,
    batch_of,
    bounded,
    by_length,
    cut_evenly,
    joined,
    padding,
    pooled,
    shuffled,
)
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.vocabulary import Vocabulary

pytestmark = pytest.mark.plain

SETTINGS = builders.model_settings()


def shape_for(words: Vocabulary) -> BehaviourShape:
    return BehaviourShape.of(words, SETTINGS, np.zeros((1, 2), dtype=np.float32))


SESSIONS = builders.vocabulary()
SHAPE = shape_for(SESSIONS)


def test_a_batch_holds_the_tokens_of_each_event_then_the_end_then_padding() -> None:
    units = builders.units(5, 1, SESSIONS)
    batch = batch_of(units, SHAPE)
    assert batch.tokens.shape == (5, units.lengths.max() + 1, 6)
    for unit in range(5):
        start, length = units.offsets[unit], units.lengths[unit]
        for index, field in enumerate(SHAPE.fields):
            expected = units.tokens[field][start : start + length]
            np.testing.assert_array_equal(batch.tokens[unit, :length, index], expected)
        assert batch.tokens[unit, length, 0] == SHAPE.end
        assert not batch.tokens[unit, length, 1:].any()
        assert not batch.tokens[unit, length + 1 :].any()
        assert batch.judged[unit].sum() == length + 1


def test_an_open_unit_has_no_end() -> None:
    units = builders.units(4, 1, SESSIONS)
    opened = type(units)(**{**vars(units), "closed": np.zeros(4, dtype=bool)})
    batch = batch_of(opened, SHAPE)
    assert (batch.tokens != SHAPE.end).all()
    assert batch.tokens.shape[1] == units.lengths.max()


def test_only_the_last_event_of_an_event_unit_is_judged() -> None:
    words = builders.vocabulary("event")
    units = builders.units(20, 2, words)
    batch = batch_of(units, shape_for(words))
    assert (batch.judged.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(batch.judged.argmax(axis=1), units.lengths - 1)


@settings(max_examples=20)
@given(count=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 100))
def test_every_unit_is_in_one_batch_whatever_their_size(count: int, size: int, seed: int) -> None:
    units = builders.units(count, seed, SESSIONS)
    seen: list[int] = []
    for chosen, batch in by_length(units, size, SHAPE):
        assert len(chosen) <= size
        np.testing.assert_array_equal(batch.tokens, batch_of(units.take(chosen), SHAPE).tokens)
        seen += chosen.tolist()
    assert sorted(seen) == list(range(count))


@settings(max_examples=20)
@given(count=st.integers(1, 60), positions=st.integers(1, 200), seed=st.integers(0, 100))
def test_padding_is_what_batches_hold_beside_their_units(
    count: int, positions: int, seed: int
) -> None:
    units = builders.units(count, seed, SESSIONS)
    lengths = SHAPE.lengths(units)
    found = [batch for _, batch in by_length(units, 20, SHAPE, positions)]
    laid_out = sum(batch.judged.size for batch in found)
    expected = laid_out, laid_out - lengths.sum()
    assert padding(lengths, 20, SHAPE, positions) == expected


def test_long_units_come_in_smaller_batches() -> None:
    units = builders.units(40, 3, SESSIONS)
    for chosen, batch in by_length(units, 16, SHAPE, 50):
        assert batch.tokens.shape[1] * len(chosen) <= 50 or len(chosen) == 1


def test_attention_over_long_units_counts_by_its_square() -> None:
    settings = builders.model_settings(body="transformer")
    attending = BehaviourShape.of(SESSIONS, settings, np.zeros((1, 2), dtype=np.float32))
    lengths = np.array([1, 256, 512, 640])
    assert attending.load(lengths).tolist() == [1, 256, 1024, 1600]
    assert SHAPE.load(lengths).tolist() == lengths.tolist()


def test_what_attention_learns_from_is_bounded_where_units_are_long() -> None:
    settings = builders.model_settings(body="transformer")
    attending = BehaviourShape.of(SESSIONS, settings, np.zeros((1, 2), dtype=np.float32))
    short = builders.units(6_000, 3, SESSIONS)
    ends = {name: getattr(short, name)[:40] for name in ("context", "scored_from", "closed")}
    long = replace(short, offsets=short.offsets[::150], **ends)

    batches = list(shuffled(iter([long]), 40, 40, attending, (1,)))
    least = 40 * attending.load(long.lengths).min()
    most = [len(batch.tokens) * attending.load(batch.tokens.shape[1]) for batch in batches]

    assert least > 3 * MOST_POSITIONS
    assert sum(len(batch.tokens) for batch in batches) == 40
    assert max(most) < 1.5 * MOST_POSITIONS
    runs = bounded(np.arange(40), long, attending)
    assert all(len(run) * attending.load(long.lengths[run]).max() < MOST_POSITIONS for run in runs)
    assert len(list(shuffled(iter([long]), 40, 40, SHAPE, (1,)))) == 1


def test_joined_units_are_those_that_were_taken_apart() -> None:
    units = builders.units(9, 4, SESSIONS)
    parts = [units.take(np.arange(start, start + 3)) for start in (0, 3, 6)]
    again = joined(parts)
    np.testing.assert_array_equal(again.offsets, units.offsets)
    for field in units.tokens:
        np.testing.assert_array_equal(again.tokens[field], units.tokens[field])


def test_shuffled_batches_cover_each_pass_before_the_next() -> None:
    units = builders.units(64, 5, SESSIONS)
    marked = type(units)(
        **{**vars(units), "context": np.arange(128, dtype=np.float32).reshape(-1, 2)}
    )

    def batches_of(seed: int) -> list[list[float]]:
        parts = iter([marked, marked])
        return [batch.context[:, 0].tolist() for batch in shuffled(parts, 16, 64, SHAPE, (seed,))]

    found = batches_of(1)
    assert len(found) == 8
    for start in (0, 4):
        assert sorted(chain(*found[start : start + 4])) == list(range(0, 128, 2))
    assert found == batches_of(1)
    assert found != batches_of(2)


def test_shuffled_batches_have_as_many_positions_whatever_their_units_length() -> None:
    units = builders.units(2000, 5, SESSIONS)
    found = list(shuffled(iter([units]), 20, 2000, SHAPE, (1,)))
    positions = [int(batch.judged.sum()) for batch in found]
    assert len(found) == 100
    assert sum(positions) == SHAPE.lengths(units).sum()
    assert max(positions) - min(positions) <= 2 * SHAPE.lengths(units).max()
    sizes = [len(batch.context) for batch in found]
    assert max(sizes) > 2 * min(sizes)


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=50),
    count=st.integers(1, 10),
)
def test_runs_hold_every_unit_in_order_and_none_is_empty(lengths: list[int], count: int) -> None:
    runs = cut_evenly(np.arange(len(lengths)), np.array(sorted(lengths)), count)
    assert 1 <= len(runs) <= count
    assert all(len(run) for run in runs)
    assert np.concatenate(runs).tolist() == list(range(len(lengths)))


def test_shuffled_batches_wait_for_enough_units() -> None:
    units = builders.units(10, 5, SESSIONS)
    found = list(shuffled(iter([units] * 8), 16, 1, SHAPE, (1,)))
    assert [len(batch.context) for batch in found] == [20] * 4


def test_the_last_state_and_the_mean_of_a_session_have_read_its_last_event() -> None:
    some = builders.units(5, 4, SESSIONS)
    batch = pooled(batch_of(some, SHAPE), some.lengths, SHAPE)

    longest = int(some.lengths.max())
    # Beside the events: the end that is predicted, and what comes after it.
    assert batch.tokens.shape[1] == batch.shares.shape[2] == longest + 2
    for row, length in enumerate(some.lengths):
        last, mean = batch.shares[row]
        assert last.nonzero()[0].tolist() == [length]
        np.testing.assert_allclose(mean[1 : length + 1], 1 / length)
        assert mean.sum() == pytest.approx(1)


def test_of_an_event_unit_only_the_state_counts_that_has_read_the_judged_event() -> None:
    words = builders.vocabulary("event")
    some, shape = builders.units(3, 4, words), shape_for(words)
    batch = pooled(batch_of(some, shape), some.lengths, shape)

    assert batch.shares.shape[1] == 1
    assert batch.shares[:, 0].argmax(axis=1).tolist() == some.lengths.tolist()
