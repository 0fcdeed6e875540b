"""Who is quiet in whose cool-down, against the order in which a budget's places are taken."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.cooling import in_cool_down

pytestmark = pytest.mark.plain

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
# User and minutes after START, strangest first.
Unit = tuple[str, int]


def quiet(units: list[Unit], budget: int | None = None, shown: Collection[int] = ()) -> set[int]:
    """Places in the order of strangeness, from 0, of what is quiet for an hour."""
    times = [START + timedelta(minutes=minutes) for _, minutes in units]
    table = pa.table(
        {
            "unit_id": list(range(len(units))),
            "user_id": [user for user, _ in units],
            "event_date": pa.array([time.date() for time in times], pa.date32()),
            "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "is_shown": [place in shown for place in range(len(units))],
        }
    )
    return {int(unit) for unit in in_cool_down(table, HOUR, budget)}


def test_a_user_is_quiet_for_a_while_unless_it_gets_stranger() -> None:
    # The second began before the first, the third after; both are less strange.
    assert quiet([("ann", 50), ("ann", 0), ("ann", 60), ("ann", 200), ("bob", 55)]) == {2}


def test_what_begins_at_once_or_an_hour_later_to_the_minute_is_told_apart() -> None:
    assert quiet([("ann", 0), ("ann", 0), ("ann", 60), ("ann", 61)]) == {2}


def test_what_is_quiet_or_cut_keeps_nothing_quiet() -> None:
    # The third would be in the cool-down of the second, which is quiet itself.
    assert quiet([("ann", 0), ("ann", 40), ("ann", 80)]) == {1}
    # The budget has no place for the second, which leaves the third, of the next day, alone.
    midnight = 12 * 60
    assert quiet([("bob", 0), ("ann", midnight - 5), ("ann", midnight + 5)], budget=1) == set()
    assert quiet([("bob", 0), ("ann", midnight - 5), ("ann", midnight + 5)], budget=2) == {2}


def test_what_is_shown_anyhow_keeps_others_quiet_and_takes_no_place() -> None:
    units = [("bob", 0), ("ann", 10), ("ann", 50), ("ann", 55), ("bob", 30)]
    # The second is shown though the budget is spent; ann's others are not, nor is bob's second.
    assert quiet(units, shown={1}) == {2, 3, 4}
    assert quiet(units, budget=1, shown={1}) == set()
    assert quiet(units, budget=2, shown={1}) == {2, 3, 4}
    # One less strange keeps nothing quiet.
    assert quiet([("ann", 50), ("ann", 0)], shown={1}) == set()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 600)), max_size=40),
    st.integers(1, 5) | st.none(),
)
def test_every_quiet_unit_has_a_shown_one_before_it_and_no_shown_one_has(
    units: list[Unit], budget: int | None
) -> None:
    silent = quiet(units, budget)
    loud = [place for place in range(len(units)) if place not in silent]
    shown = set(loud if budget is None else loud[:budget])  # all begin on one day

    def kept_quiet(place: int) -> bool:
        user, minutes = units[place]
        return any(
            units[one][0] == user and minutes - 60 <= units[one][1] < minutes
            for one in shown
            if one < place
        )

    assert all(kept_quiet(place) for place in silent)
    assert not any(kept_quiet(place) for place in shown)
