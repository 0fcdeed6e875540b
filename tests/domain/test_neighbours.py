"""The nearest past units are those that a search one by one finds."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitus.domain import neighbours
from habitus.domain.neighbours import Asking, nearest

pytestmark = pytest.mark.plain

START = datetime(2026, 1, 5, tzinfo=UTC)
COUNT = 2


def rows(units: Sequence[tuple[str, int, Sequence[float]]], prefix: str) -> pa.Table:
    """Units of these users, times in minutes and directions."""
    times = [START + timedelta(minutes=minute) for _, minute, _ in units]
    vectors = [np.asarray(vector) / np.linalg.norm(vector) for _, _, vector in units]
    time = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "unit_id": pa.array([f"{prefix}{index}" for index in range(len(units))], pa.string()),
            "user_id": pa.array([user for user, _, _ in units], pa.string()),
            "event_time": pa.array(times, time),
            "ended_at": pa.array(times, time),
            "vector": pa.array([vector.tolist() for vector in vectors], pa.list_(pa.float32())),
        }
    )


def found(asking: pa.Table, past: pa.Table, size: int = 1000) -> list[dict[str, Any]]:
    """What the search finds in batches of this size, in the order of the tables."""
    batches = past.to_batches(max_chunksize=size)
    parts = nearest(Asking.from_arrow(asking), batches, COUNT)
    whole = [row for part in parts for row in part.to_pylist()]
    whole.sort(key=lambda row: (row["similarity"], row["ended_at"], row["unit_id"]), reverse=True)
    return sorted(whole, key=lambda row: (row["asking"], row["own"]))


def one_by_one(asking: pa.Table, past: pa.Table) -> list[dict[str, Any]]:
    """The same, slowly."""
    result = []
    for unit in asking.to_pylist():
        for own in (False, True):
            alike = [
                {
                    "asking": unit["unit_id"],
                    "own": own,
                    "unit_id": other["unit_id"],
                    "user_id": other["user_id"],
                    "ended_at": other["ended_at"],
                    "similarity": round(
                        sum(a * b for a, b in zip(unit["vector"], other["vector"], strict=True)), 4
                    ),
                }
                for other in past.to_pylist()
                if other["ended_at"] < unit["event_time"]
                and (other["user_id"] == unit["user_id"]) == own
            ]
            alike.sort(key=lambda row: (row["similarity"], row["ended_at"]), reverse=True)
            result += alike[:COUNT]
    return sorted(result, key=lambda row: (row["asking"], row["own"]))


# Directions whose cosines are far from where four decimals are cut; no two past units end together.
units = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.integers(0, 1000),
        st.sampled_from([(1, 0), (0, 1), (1, 1), (1, 2), (-1, 2), (3, -1)]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda unit: unit[1],
)


@settings(max_examples=60)
@given(asking=units, past=units, size=st.integers(1, 6), cells=st.integers(1, 30))
def test_the_search_finds_what_a_search_one_by_one_does(
    asking: Any, past: Any, size: int, cells: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_CELLS", cells)
        quick = found(rows(asking, "a"), rows(past, "p"), size)

    assert quick == one_by_one(rows(asking, "a"), rows(past, "p"))


def test_what_is_not_over_is_no_past() -> None:
    asking = rows([("u", 10, (1, 0))], "a")
    past = rows([("u", 9, (0, 1)), ("u", 10, (1, 0)), ("v", 11, (1, 0))], "p")

    assert [(row["unit_id"], row["similarity"]) for row in found(asking, past)] == [("p0", 0.0)]


def test_of_units_that_are_alike_the_later_come_first() -> None:
    asking = rows([("u", 1_000_000, (1, 0))], "a")
    same = rows([("v", minute, (2, 0)) for minute in (5, 999_999, 7, 500_000)], "p")
    nearly = rows([("w", 6, (1, 0.01))], "q")

    ids = [row["unit_id"] for row in found(asking, pa.concat_tables([nearly, same]), 2)]

    assert ids == ["p1", "p3"]


def test_age_never_outweighs_likeness() -> None:
    asking = rows([("u", 10_000_000, (1, 0))], "a")
    past = rows([("v", 0, (1, 0)), ("v", 9_999_999, (1, 0.0143))], "p")

    assert [(row["unit_id"], row["similarity"]) for row in found(asking, past)] == [
        ("p0", 1.0),
        ("p1", 0.9999),
    ]


def test_without_a_past_nothing_is_found() -> None:
    assert found(rows([("u", 10, (1, 0))], "a"), rows([], "p")) == []
