"""How users of flagged units usually behave, and what links those of a ring."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from jobs.conftest import SmallLake
from pyspark.sql import Row, SparkSession

from habitus.domain.reporting.cases import Flag
from habitus.jobs.frame import JobContext
from habitus.jobs.habits import summed
from habitus.jobs.rings import rings

pytestmark = pytest.mark.jobs

FLAGGED_AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


def flag_of(user_id: str) -> Flag:
    given = ("unit", "case", user_id, FLAGGED_AT, 9.0, 0.001, "high", "Strange.", "watch", "open")
    return Flag(*given)


def test_sessions_before_a_flag_are_summed_up_by_what_can_be_said_of_them(
    spark: SparkSession,
) -> None:
    """Two of four sessions count: one has not ended by then, one is older than 90 days."""

    def session(started_at: datetime, minutes: int, actions: dict[str, int], amount: float) -> Row:
        return Row(
            unit_id="unit",
            flagged_at=FLAGGED_AT,
            started_at=started_at,
            ended_at=started_at + timedelta(minutes=minutes),
            session_date=started_at.date(),
            n_events=sum(actions.values()),
            n_actions=actions,
            amount_sum=amount,
        )

    sessions = spark.createDataFrame(
        [
            session(FLAGGED_AT - timedelta(days=2), 5, {"view": 3, "payment": 1}, 20.0),
            session(FLAGGED_AT - timedelta(days=1, hours=3), 5, {"view": 2}, 0.0),
            session(FLAGGED_AT - timedelta(minutes=5), 9, {"view": 50}, 70.0),
            session(FLAGGED_AT - timedelta(days=91), 5, {"view": 60}, 80.0),
        ]
    )

    rows = {(row["facet"], row["name"]): row for row in summed(sessions).collect()}

    assert {of: (row["times"], row["total"]) for of, row in rows.items()} == {
        ("hour", "12"): (1, 1.0),
        ("hour", "9"): (1, 1.0),
        ("events", ""): (2, 6.0),
        ("amount", ""): (1, 20.0),
        ("action", "view"): (2, 5.0),
        ("action", "payment"): (1, 1.0),
    }
    assert rows["events", ""]["shares"] == [2.0, 2.0, 4.0]


def test_a_ring_shows_who_uses_what_in_the_cases_time(
    spark: SparkSession, chain: SmallLake
) -> None:
    events = pl.read_delta(f"{chain.settings.lake.root}/events").filter(
        pl.col("device_id").is_not_null()
    )
    one = events.sort("event_time", "event_id").row(0, named=True)
    user, device, day = one["user_id"], one["device_id"], one["event_time"]
    within = (pl.col("event_time") >= day) & (pl.col("event_time") <= day + timedelta(days=1))
    theirs = (pl.col("user_id") == user) & (pl.col("device_id") == device)
    shared = [Row(kind="device", value=device, users=3, flagged_users=2)] + [
        Row(kind="network", value=f"none-{number}", users=2, flagged_users=2) for number in range(7)
    ]
    case = Row(case_id="case", n_users=40, started_at=day, ended_at=day, shared=shared)
    context = JobContext("report", chain.settings, spark, chain.contexts["report"].reporter)

    ring = rings(context, [case], {"case": [flag_of(user), flag_of("nobody"), flag_of(user)]})[
        "case"
    ]

    assert ring.users == (user, "nobody")
    assert ring.uses == ((user, "device", device, len(events.filter(within & theirs))),)
    assert [thing.value for thing in ring.things][:2] == [device, "none-0"]
    assert (ring.more_users, ring.more_things) == (38, 2)
    assert rings(context, [], {}) == {}
