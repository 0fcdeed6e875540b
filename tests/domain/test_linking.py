"""Flags that belong together come to one case, and no others."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain import linking
from habitus.domain.linking import RING, USER, components, keep_ids, with_components
from habitus.setting_types import Language

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


def cases_of(
    flags: pa.Table, links: pa.Table, window: int, language: Language = "en"
) -> list[dict[str, Any]]:
    return linking.cases_of(with_components(flags, links, window), links, language)


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


def test_a_case_reads_well_in_chinese() -> None:
    found = cases_of(
        flags(("a", "ann", 0), ("b", "bob", 2), ("c", "cid", 30)),
        table([(unit, "device", "d1", 3, 2) for unit in "ab"], LINKS),
        10 * HOUR,
        "zh",
    )
    assert [case["summary"] for case in found] == [
        "2个用户共用设备d1（其3个用户中的2个）：2个预警，历时2.0小时，金额合计200；"
        "最异常的：about b",
        "用户cid：1个预警，金额合计100；最异常的：about c",
    ]


def test_of_a_thing_that_is_shared_twice_the_time_when_more_did_is_told() -> None:
    rows = [("a", 4, 2), ("b", 4, 2), ("c", 5, 3), ("d", 5, 3), ("e", 5, 3)]
    found = cases_of(
        flags(
            ("a", "ann", 0), ("b", "bob", 1), ("c", "ann", 8), ("d", "dan", 30), ("e", "eve", 31)
        ),
        table([(unit, "network", "n1", users, some) for unit, users, some in rows], LINKS),
        30 * HOUR,
    )
    (case,) = found
    assert case["shared"] == [{"kind": "network", "value": "n1", "users": 5, "flagged_users": 3}]


def case(case_id: str, *unit_ids: str) -> dict[str, Any]:
    return {"case_id": case_id, "unit_ids": list(unit_ids)}


def test_a_case_that_is_begun_keeps_its_id_when_an_earlier_flag_joins_it() -> None:
    found, gone = keep_ids([case("a", "a", "b"), case("c", "c")], [case("b", "b")])
    assert (found, gone) == ([case("b", "a", "b"), case("c", "c")], [])


def test_of_begun_cases_that_become_one_the_first_stays() -> None:
    found, gone = keep_ids([case("a", "a", "b", "c")], [case("b", "b"), case("c", "c")])
    assert (found, gone) == ([case("b", "a", "b", "c")], ["c"])


def test_of_a_begun_case_that_falls_apart_the_part_with_its_first_flag_goes_on() -> None:
    found, gone = keep_ids([case("a", "a"), case("b", "b")], [case("b", "a", "b")])
    assert (found, gone) == ([case("a", "a"), case("b", "b")], [])


def test_a_begun_case_without_any_of_its_flags_stays_as_it_is() -> None:
    assert keep_ids([case("a", "a")], [case("b", "b")]) == ([case("a", "a")], [])


IDS = st.lists(st.sampled_from("abcdef"), unique=True)


@given(st.permutations("abcdef"), IDS, IDS, IDS)
def test_no_two_cases_that_are_kept_have_a_flag_or_an_id_in_common(
    order: list[str], ends: list[str], some: list[str], others: list[str]
) -> None:
    found: list[dict[str, Any]] = []
    for unit in order:
        if not found or unit in ends:
            found.append(case(unit, unit))
        else:
            found[-1]["unit_ids"].append(unit)
    others = [unit for unit in others if unit not in some]
    begun = [case(units[0], *units) for units in (some, others) if units]

    kept, gone = keep_ids(found, begun)

    ids = [one["case_id"] for one in kept]
    assert len(set(ids)) == len(ids)
    assert [one["unit_ids"] for one in kept] == [one["unit_ids"] for one in found]
    # All flags are found: of the begun cases none is left beside.
    assert {one["case_id"] for one in begun} <= {*ids, *gone}


def test_a_case_keeps_its_id_when_it_grows() -> None:
    one = cases_of(flags(("a", "ann", 0)), table([], LINKS), HOUR)
    more = cases_of(flags(("a", "ann", 0), ("b", "ann", 1)), table([], LINKS), HOUR)
    assert one[0]["case_id"] == more[0]["case_id"]


def test_without_flags_there_is_no_case() -> None:
    assert cases_of(table([], FLAGS), table([], LINKS), HOUR) == []
