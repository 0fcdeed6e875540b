"""Small event streams for tests: a strategy that makes them, and sessions by plain Python."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from habitus import tables

START = datetime(2026, 1, 5, tzinfo=UTC)
GAP = timedelta(minutes=30)
NEW = {"new_device": "device_id", "new_network": "network", "new_counterparty": "counterparty_id"}

Row = dict[str, Any]


def event(user: str, seconds: float, event_id: str, **values: Any) -> Row:
    """An event of a user, this long after START; what is not given is missing."""
    names = [column.name for column in tables.EVENTS.columns]
    row = dict.fromkeys(names[2 : names.index("channel") + 1]) | {"action": "view"} | values
    return row | {
        "event_id": event_id,
        "user_id": user,
        "event_time": START + timedelta(seconds=seconds),
    }


def sessions_of(events: Sequence[Row]) -> list[Row]:
    """Sessions by the 30 minute rule, the obvious way."""
    sessions: list[Row] = []
    seen: set[tuple[str, str, str]] = set()
    last: Row | None = None
    for row in sorted(events, key=lambda e: (e["user_id"], e["event_time"], e["event_id"])):
        user = row["user_id"]
        if last is None or last["user_id"] != user or row["event_time"] - last["event_time"] > GAP:
            sessions.append({"user_id": user, "events": [], "session_id": f"s-{row['event_id']}"})
        last = row
        inner = {name: value for name, value in row.items() if name != "user_id"}
        for flag, name in NEW.items():
            known = (user, name, row[name])
            inner[flag] = row[name] is not None and known not in seen
            seen.add(known)
        sessions[-1]["events"].append(inner)
    for session in sessions:
        inside = session["events"]
        times = [inner["event_time"] for inner in inside]
        session |= {
            "started_at": times[0],
            "ended_at": times[-1],
            "duration_s": (times[-1] - times[0]).total_seconds(),
            "n_events": len(inside),
            "closed": True,
            "end_reason": "gap",
            "n_actions": {},
            "n_items": 0,
            "amount_sum": 0.0,
            "event_ids": [inner["event_id"] for inner in inside],
            "session_date": times[0].date(),
        }
    return sessions


def frame(spark: SparkSession, table: tables.Table, rows: Sequence[Row]) -> DataFrame:
    """The rows as a frame with the table's schema."""
    return spark.createDataFrame(list(rows), table.schema())


@st.composite
def streams(draw: st.DrawFn, size: int = 25) -> list[Row]:
    """Many small worlds that share no entity, in one list: one Spark job tests them all.

    Times are few, so that there are ties and events exactly one window apart.
    """
    worlds = draw(st.lists(st.lists(_events(), min_size=1, max_size=size), min_size=1, max_size=8))
    events = []
    for world, stream in enumerate(worlds):
        for index, (user, seconds, values) in enumerate(stream):
            named = {
                name: f"{value}-{world}" if name in NEW.values() and value else value
                for name, value in values.items()
            }
            events.append(event(f"{user}-{world}", seconds, f"e{world}-{index}", **named))
    return events


def _events() -> st.SearchStrategy[tuple[str, float, Row]]:
    hour = 3600
    return st.tuples(
        st.sampled_from(["ann", "bob", "cyd"]),
        st.one_of(
            st.sampled_from([0, 1e-6, 1, hour, hour + 1e-6, 2 * hour, 24 * hour, 25 * hour]),
            st.integers(0, 30).map(lambda n: n * 600.0),
        ),
        st.fixed_dictionaries(
            {
                "action": st.sampled_from(["view", "cart", "pay"]),
                "category": st.sampled_from([None, "toys", "books", "wine"]),
                "counterparty_id": st.sampled_from([None, "shop", "stall"]),
                "amount": st.sampled_from([None, 0.0, 0.1, 0.2, 19.99, 1e6]),
                "outcome": st.sampled_from([None, "success", "failure"]),
                "device_id": st.sampled_from([None, "phone", "desk"]),
                "network": st.sampled_from([None, "home", "cafe"]),
            }
        ),
    )
