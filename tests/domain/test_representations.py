"""A unit's vector is of its own events, whatever it is padded with and laid out beside."""

import builders
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.representations import Whitening, embed_batch, pooled
from habitus.domain.units import Floats, Units

pytestmark = pytest.mark.plain


def test_states_are_pooled_from_the_first_event_on() -> None:
    states = np.array([[[9, 9], [3, 0], [3, 8]], [[9, 9], [0, 2], [5, 5]]], dtype=np.float32)

    lengths, none, some = np.array([2, 1]), np.array([0, 0]), np.array([1, 0])
    np.testing.assert_array_equal(pooled(states, lengths, none), [[3, 4], [0, 2]])
    np.testing.assert_array_equal(pooled(states, lengths, some), [[3, 8], [0, 2]])


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    padding=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing(lengths: list[int], padding: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    states = random.normal(size=(len(lengths), max(lengths) + 1, 4)).astype(np.float32)
    more = np.concatenate([states, random.normal(size=(len(lengths), padding, 4))], axis=1)

    since = random.integers(0, lengths)
    means = pooled(states, np.array(lengths), since)

    longer = pooled(more.astype(np.float32), np.array(lengths), since)
    np.testing.assert_allclose(longer, means, atol=1e-6)
    for unit, length in enumerate(lengths):
        own = range(since[unit] + 1, length + 1)
        slow = sum(states[unit, step] for step in own) / len(own)
        np.testing.assert_allclose(means[unit], slow, atol=1e-6)


def test_whitened_states_vary_alike_in_every_direction_and_none_is_shared() -> None:
    random = np.random.default_rng(3)
    mixed = random.normal(size=(5000, 3)) @ [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    states = (mixed + np.array([9, -4, 2])).astype(np.float32)

    whitening = Whitening.fit(states)

    white = (states - whitening.centre) @ whitening.matrix
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=0.1)
    vectors = whitening.vectors(states)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("states", [np.ones((1, 4)), np.ones((7, 4)), np.eye(4)[:2]])
def test_few_or_equal_states_make_finite_vectors(states: Floats) -> None:
    vectors = Whitening.fit(states.astype(np.float32)).vectors(states.astype(np.float32))

    assert np.isfinite(vectors).all()


class _Counts:
    """Embeds a unit as its length and its first action."""

    def vectors(self, units: Units) -> Floats:
        first = units.tokens["action"][units.offsets[:-1]]
        return np.stack([units.lengths, first], axis=1).astype(np.float32) / 7


def test_a_batch_of_sequences_gets_its_vectors_in_its_order() -> None:
    words = builders.vocabulary()
    lists = {name: [[3, 4], [5]] for name in words.field_names}
    lists |= {
        "amounts": [[0.0, 0.0], [0.0]],
        "gaps": [[0.0, 1.0], [0.0]],
        "context": [[1.0, 2.0]] * 2,
    }
    plain = {"scored_from": [0, 0], "closed": [True, True], "unit_id": ["a", "b"]}
    carried = ("unit_kind", "user_id", "event_time", "ended_at", "event_date", "fingerprint")
    batch = pa.RecordBatch.from_pydict(lists | plain | {name: [1, 2] for name in carried})

    rows = embed_batch(batch, _Counts(), words).to_pylist()

    assert [row["unit_id"] for row in rows] == ["a", "b"]
    assert [row["fingerprint"] for row in rows] == [1, 2]
    assert [row["vector"] for row in rows] == [
        pytest.approx([0.2857, 0.4286]),
        pytest.approx([0.1429, 0.7143]),
    ]
    assert embed_batch(batch.slice(0, 0), _Counts(), words).num_rows == 0
