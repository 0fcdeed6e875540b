"""Flags that belong together come to one case, and no others."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.linking import RING, USER, cases_of, components

pytestmark = pytest.mark.plain

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
FLAGS = {
    "unit_id": pa.string(),
    "user_id": pa.string(),
    "event_time": pa.timestamp("us", tz="UTC"),
    "p_value": pa.float64(),
    "amount_sum": pa.float64(),
    "summary": pa.string(),
}
LINKS = {
    "unit_id": pa.string(),
    "kind": pa.string(),
    "value": pa.string(),
    "users": pa.int64(),
    "flagged_users": pa.int64(),
}


def table(rows: list[tuple[Any, ...]], columns: dict[str, pa.DataType]) -> pa.Table:
    arrays = [pa.array([row[at] for row in rows], kind) for at, kind in enumerate(columns.values())]
    return pa.table(arrays, names=list(columns))


def flags(*rows: tuple[str, str, float]) -> pa.Table:
    """Flags of a unit, a user and the hours after START."""
    return table(
        [
            (unit, user, START + timedelta(hours=hours), 10.0 ** -(at + 2), 100.0, f"about {unit}")
            for at, (unit, user, hours) in enumerate(rows)
        ],
        FLAGS,
    )


def slow_components(links: list[tuple[int, int, int]], count: int, window: int) -> list[set[int]]:
    """Join whatever has to be joined until nothing changes."""
    groups = [{flag} for flag in range(count)]
    for thing in {link[0] for link in links}:
        of_thing = sorted((time, flag) for name, flag, time in links if name == thing)
        for (before, one), (after, other) in pairwise(of_thing):
            if after - before <= window:
                first = next(group for group in groups if one in group)
                second = next(group for group in groups if other in group)
                if first is not second:
                    groups.remove(second)
                    first |= second
    return groups


@given(
    links=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(0, 30)),
        max_size=20,
        unique=True,
    )
)
def test_components_are_those_found_by_joining_pair_by_pair(
    links: list[tuple[int, int, int]],
) -> None:
    columns = [np.array([link[at] for link in links], dtype=np.int64) for at in range(3)]
    label = components(8, *columns, window=10)
    found = [set(np.flatnonzero(label == number)) for number in np.unique(label)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, slow_components(links, 8, 10)))


def test_flags_of_one_user_are_a_case_as_long_as_no_pause_is_too_long() -> None:
    found = cases_of(
        flags(("a", "ann", 0), ("b", "ann", 5), ("c", "ann", 30), ("d", "bob", 1)),
        table([], LINKS),
        10 * HOUR,
    )
    assert [case["unit_ids"] for case in found] == [["a", "b"], ["d"], ["c"]]
    assert {case["kind"] for case in found} == {USER}
    assert found[0]["summary"] == (
        "User ann: 2 flags in 5.0 hours, 200 in amounts; the strangest: about b"
    )
    assert found[0]["shared"] == []


def test_users_who_share_a_device_are_a_ring_with_all_that_they_share() -> None:
    found = cases_of(
        flags(("a", "ann", 0), ("b", "bob", 2), ("c", "cid", 3), ("d", "dan", 4)),
        table(
            [
                ("a", "device", "d1", 2, 2),
                ("b", "device", "d1", 2, 2),
                ("b", "network", "n1", 5, 2),
                ("c", "network", "n1", 5, 2),
            ],
            LINKS,
        ),
        10 * HOUR,
    )
    ring, alone = found
    assert (ring["kind"], ring["n_users"], ring["n_flags"]) == (RING, 3, 3)
    assert ring["user_ids"] == ["ann", "bob", "cid"]
    assert [(one["kind"], one["value"]) for one in ring["shared"]] == [
        ("device", "d1"),
        ("network", "n1"),
    ]
    assert ring["summary"] == (
        "3 users share device d1 (2 of its 2 users) and network n1 (2 of its 5 users): "
        "3 flags in 3.0 hours, 300 in amounts; the strangest: about c"
    )
    assert alone["unit_ids"] == ["d"]


def test_a_case_keeps_its_id_when_it_grows() -> None:
    one = cases_of(flags(("a", "ann", 0)), table([], LINKS), HOUR)
    more = cases_of(flags(("a", "ann", 0), ("b", "ann", 1)), table([], LINKS), HOUR)
    assert one[0]["case_id"] == more[0]["case_id"]


def test_without_flags_there_is_no_case() -> None:
    assert cases_of(table([], FLAGS), table([], LINKS), HOUR) == []
