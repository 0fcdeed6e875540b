"""Small event streams for tests: a strategy that makes them, and sessions by plain Python."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from habitus import tables
from habitus.edges.spark import local_frame

START = datetime(2026, 1, 5, tzinfo=UTC)
GAP = timedelta(minutes=30)
USERS = ("ann", "bob", "cyd")
# So few that there are ties, and events exactly one window apart.
TIMES = (0, 1e-6, 1, 3600, 3600 + 1e-6, 7200, 24 * 3600, 25 * 3600)
TENS_OF_MINUTES = 30
VALUES = {
    "action": ("view", "cart", "pay"),
    "category": (None, "toys", "books", "wine"),
    "counterparty_id": (None, "shop", "stall"),
    "amount": (None, 0.0, 0.1, 0.2, -19.99, 19.99, 1e6),
    "outcome": (None, "success", "failure"),
    "device_id": (None, "phone", "desk"),
    "network": (None, "home", "cafe"),
}
# Seconds from an event until its label is known.
DELAYS = (-600, 0, 600, 3600, 7200)
NEW = {"new_device": "device_id", "new_network": "network", "new_counterparty": "counterparty_id"}

Row = dict[str, Any]
Happened = tuple[str, float, Row]


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
            "heavy": False,
            "n_actions": {},
            "n_items": 0,
            "amount_sum": 0.0,
            "event_ids": [inner["event_id"] for inner in inside],
            "session_date": times[0].date(),
            "new_values": [],
            "session_hint": None,
        }
    return sessions


def frame(spark: SparkSession, table: tables.Table, rows: Sequence[Row]) -> DataFrame:
    """The rows as a frame with the table's schema, of which Spark knows no more than of a file.

    Small ones it would work out while it plans, and then there is no plan to look at.
    """
    small = "spark.sql.execution.arrow.localRelationThreshold"
    spark.conf.set(small, 0)
    try:
        return local_frame(spark, table.schema(), rows)
    finally:
        spark.conf.unset(small)


@st.composite
def labelled_streams(draw: st.DrawFn, size: int = 25) -> tuple[list[Row], list[Row]]:
    """Many small worlds that share no entity, and labels known before, at and after their events.

    One pass over the list tests all of the worlds.
    """
    happened = st.tuples(
        st.sampled_from(USERS),
        st.one_of(st.sampled_from(TIMES), st.integers(0, TENS_OF_MINUTES).map(lambda n: n * 600.0)),
        st.fixed_dictionaries({name: st.sampled_from(one) for name, one in VALUES.items()}),
    )
    world = st.lists(happened, min_size=1, max_size=size)
    events = _in_worlds(draw(st.lists(world, min_size=1, max_size=8)))
    delays = st.sets(st.sampled_from(DELAYS), max_size=2)
    labels = [label_of(row, draw(st.booleans()), delay) for row in events for delay in draw(delays)]
    return events, labels


def many_worlds(seed: int) -> tuple[list[Row], list[Row]]:
    """The same at its largest, for tests that can afford few examples: Hypothesis starts small."""
    random_ = random.Random(seed)
    worlds = [
        [
            (
                random_.choice(USERS),
                random_.choice(
                    [random_.choice(TIMES), random_.randint(0, TENS_OF_MINUTES) * 600.0]
                ),
                {name: random_.choice(one) for name, one in VALUES.items()},
            )
            for _ in range(25)
        ]
        for _ in range(8)
    ]
    events = _in_worlds(worlds)
    labels = [
        label_of(row, random_.random() < 0.5, delay)
        for row in events
        for delay in random_.sample(DELAYS, random_.randint(0, 2))
    ]
    return events, labels


def _in_worlds(worlds: Sequence[Sequence[Happened]]) -> list[Row]:
    events = []
    for world, stream in enumerate(worlds):
        for index, (user, seconds, values) in enumerate(stream):
            named = {
                name: f"{value}-{world}" if name in NEW.values() and value else value
                for name, value in values.items()
            }
            events.append(event(f"{user}-{world}", seconds, f"e{world}-{index}", **named))
    return events


@st.composite
def hinted_streams(draw: st.DrawFn) -> list[Row]:
    """Events of three users with the source's own session ids, in any order."""
    users = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
    events = []
    for number, user in enumerate(users):
        minutes = draw(st.sampled_from([0, 1, 29, 30, 31, 60, 61, 90, 200, 300]))
        hint = draw(st.sampled_from([None, "h1", "h2"]))
        device = draw(st.sampled_from([None, "phone", "desk"]))
        events.append(
            event(user, minutes * 60, f"{number:03}", session_hint=hint, device_id=device)
        )
    return draw(st.permutations(events))


def shoppers(seed: int, users: int = 60) -> list[Row]:
    """Events of many users, some of whom never rest, from minutes to days apart."""
    random_ = random.Random(seed)
    events = []
    for user in range(users):
        pauses = random_.choice([[1, 5], [0, 10, 29], [5, 30, 31, 300], [20, 100, 3000]])
        minutes = random_.choice([0, 7, 60])
        for number in range(random_.randint(1, 30)):
            minutes += random_.choice(pauses)
            values = {
                "session_hint": random_.choice([None, "h1", "h1", "h2"]),
                "device_id": random_.choice([None, "phone", "desk"]),
                "network": random_.choice(["home", "cafe", "work"]),
                "amount": random_.choice([None, 0.1, 0.2]),
            }
            events.append(event(f"u{user}", minutes * 60, f"{user:03}-{number:03}", **values))
    return ingested(events)


def ingested(events: Sequence[Row]) -> list[Row]:
    """The events with what ingest adds."""
    return [
        row
        | {"attributes": {}, "source": "test", "ingested_at": START}
        | {"event_date": row["event_time"].date()}
        for row in events
    ]


def label(event_id: str, anomalous: bool, seconds: float, unit_kind: str = "event") -> Row:
    """A label of an event, known this long after START."""
    return {
        "unit_kind": unit_kind,
        "unit_id": event_id,
        "label": anomalous,
        "known_at": START + timedelta(seconds=seconds),
        "source": "test",
    }


def label_of(row: Row, anomalous: bool, delay: float) -> Row:
    """A label of this event, known so many seconds after it."""
    return label(row["event_id"], anomalous, (row["event_time"] - START).total_seconds() + delay)
