"""Who of a case's users uses which of the things that link them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from pyspark.sql import Row
from pyspark.sql import functions as F

from habitus.domain.reporting.cases import Flag, Ring, Thing
from habitus.edges.spark import local_frame
from habitus.jobs.cases import used_things
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS

_USERS_DRAWN, _THINGS_DRAWN = 12, 6


def rings(
    context: JobContext, rows: Sequence[Row], members: Mapping[str, list[Flag]]
) -> Mapping[str, Ring]:
    """What links the users of these few cases, from the events of the cases' days.

    Args:
        context: The run.
        rows: Rows of `cases` that have several users.
        members: Case -> its flags, the strangest first; their users are drawn.

    Returns:
        Case -> what links its users.
    """
    if not rows:
        return {}
    users = {
        row["case_id"]: tuple(dict.fromkeys(flag.user_id for flag in members[row["case_id"]]))[
            :_USERS_DRAWN
        ]
        for row in rows
    }
    wanted = local_frame(
        context.spark,
        "case_id string, user_id string, kind string, value string, "
        "started_at timestamp, ended_at timestamp",
        (
            {
                "case_id": row["case_id"],
                "user_id": user,
                "kind": thing["kind"],
                "value": thing["value"],
                "started_at": row["started_at"],
                "ended_at": row["ended_at"],
            }
            for row in rows
            for user in users[row["case_id"]]
            for thing in row["shared"][:_THINGS_DRAWN]
        ),
    )
    first = min(row["started_at"] for row in rows).date()
    last = max(row["ended_at"] for row in rows).date() + timedelta(days=1)
    # A case ends with the start of its last unit.
    within = F.expr("event_time between started_at and ended_at + interval 1 day")
    found = (
        context.read(EVENTS)
        .where(F.col("event_date").between(first, last))
        .select("user_id", "event_time", used_things())
        .join(F.broadcast(wanted), ["user_id", "kind", "value"])
        .where(within)
        .groupBy("case_id", "user_id", "kind", "value")
        .count()
        .orderBy("case_id", "user_id", "kind", "value")
        .collect()
    )
    uses: dict[str, list[tuple[str, str, str, int]]] = defaultdict(list)
    for use in found:
        uses[use["case_id"]].append((use["user_id"], use["kind"], use["value"], use["count"]))
    return {
        row["case_id"]: Ring(
            users=users[row["case_id"]],
            things=tuple(Thing(**thing.asDict()) for thing in row["shared"][:_THINGS_DRAWN]),
            uses=tuple(uses[row["case_id"]]),
            more_users=row["n_users"] - len(users[row["case_id"]]),
            more_things=max(0, len(row["shared"]) - _THINGS_DRAWN),
        )
        for row in rows
    }
