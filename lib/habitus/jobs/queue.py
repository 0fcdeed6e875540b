"""The cases that the report shows, the last day's first: their flags, and all that is told of them.

A flag that no case has, as before `habitus cases` has seen it, is one by itself.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from habitus.domain.detectors.base import Reason
from habitus.domain.linking import RING, USER
from habitus.domain.reporting.cases import Case, Flag, Ring, Story, in_full
from habitus.jobs.frame import JobContext
from habitus.jobs.habits import habits
from habitus.jobs.precedents import precedents
from habitus.jobs.rings import rings
from habitus.jobs.telling import told
from habitus.tables import CASES

_CASES = 100
_FLAGS = 1000
_FLAGS_OF_CASE = 20
_TOLD, _TOLD_OF_CASE = 150, 3
_USERS = 1000


@dataclass(frozen=True)
class Queue:
    """What there is to look at, within bounds, and how much there is in all."""

    cases: tuple[Case, ...]
    cases_in_all: int
    flags: tuple[Flag, ...]
    has_cases: bool


def queue(context: JobContext, model_id: str, flags: DataFrame) -> Queue:
    """The last cases and flags.

    Args:
        context: The run.
        model_id: The model that flags.
        flags: Its flags that are shown: rows of `anomalies` with `case_id` and `kinds`, the kinds
            of anomaly that they are known to be; they are read several times.
    """
    last_first = (F.desc("event_date"), "p_value", F.desc("score"), "unit_id")
    latest = flags.orderBy(*last_first).limit(_FLAGS).collect()
    of_cases = flags.groupBy("case_id").agg(
        F.max("event_date").alias("event_date"),
        F.min("p_value").alias("p_value"),
        F.collect_set("event_date").alias("days"),
        F.collect_set("decision").alias("decisions"),
    )
    chosen = of_cases.orderBy(F.desc("event_date"), "p_value", "case_id").limit(_CASES).collect()
    case_ids = [row["case_id"] for row in chosen]
    members = _members(flags, case_ids)
    cases = context.read_or_empty(CASES).where(F.col("model_id") == model_id)
    rows = (
        cases.where(F.col("case_id").isin(case_ids))
        .withColumn("user_ids", F.slice("user_ids", 1, _USERS))
        .drop("unit_ids")
        .collect()
    )
    given = {row["case_id"]: row for row in rows}
    stories = _stories(
        context, model_id, in_full([members[case_id] for case_id in case_ids], _TOLD, _TOLD_OF_CASE)
    )
    linked = rings(context, [row for row in rows if row["kind"] == RING], members)
    return Queue(
        cases=tuple(
            _case(row, given.get(row["case_id"]), members[row["case_id"]], stories, linked)
            for row in chosen
        ),
        cases_in_all=of_cases.count(),
        flags=tuple(_flag(row) for row in latest),
        has_cases=bool(given) or not cases.isEmpty(),
    )


def _members(flags: DataFrame, case_ids: Sequence[str]) -> Mapping[str, list[Flag]]:
    """Case -> its strangest flags."""
    place = F.row_number().over(
        Window.partitionBy("case_id").orderBy("p_value", F.desc("score"), "unit_id")
    )
    rows = (
        flags.where(F.col("case_id").isin(list(case_ids)))
        .withColumn("place", place)
        .where(F.col("place") <= _FLAGS_OF_CASE)
        .orderBy("case_id", "place")
        .collect()
    )
    members: dict[str, list[Flag]] = defaultdict(list)
    for row in rows:
        members[row["case_id"]].append(_flag(row))
    return members


def _flag(row: Row) -> Flag:
    names = ("unit_id", "case_id", "user_id", "event_time", "score", "p_value", "severity")
    more = ("summary", "decision", "status", "case_kind")
    kinds = tuple(row["kinds"] or ())
    return Flag(**{name: row[name] for name in names + more}, kinds=kinds)


def _stories(context: JobContext, model_id: str, flags: Sequence[Flag]) -> Mapping[str, Story]:
    if not flags:
        return {}
    unit_ids = [flag.unit_id for flag in flags]
    units = told(context, model_id, unit_ids)
    past = precedents(context, model_id, unit_ids)
    usual = habits(context, flags)
    return {
        flag.unit_id: Story(
            flag,
            _distinct(units[flag.unit_id].reasons)[: context.settings.alerts.reasons],
            units[flag.unit_id].events,
            usual[flag.unit_id],
            past.get(flag.unit_id, ()),
        )
        for flag in flags
        if flag.unit_id in units
    }


def _distinct(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """One of the reasons that say the same about different events, in the sentence's order."""
    same: dict[tuple[str, str], list[Reason]] = {}
    for reason in reasons:
        same.setdefault((reason.field, reason.observed), []).append(reason)
    groups = sorted(same.values(), key=lambda group: -sum(reason.surprise for reason in group))
    return tuple(group[0] for group in groups)


def _case(
    found: Row,
    row: Row | None,
    flags: Sequence[Flag],
    stories: Mapping[str, Story],
    linked: Mapping[str, Ring],
) -> Case:
    of_case = tuple(stories[flag.unit_id] for flag in flags if flag.unit_id in stories)
    if row is None:
        (flag,) = flags
        return Case(
            case_id=found["case_id"],
            kind=USER,
            started_at=flag.event_time,
            ended_at=flag.event_time,
            n_users=1,
            n_flags=1,
            amount_sum=None,
            p_value=flag.p_value,
            summary=flag.summary,
            status=flag.status,
            user_ids=(flag.user_id,),
            flags=(flag,),
            stories=of_case,
        )
    names = ("kind", "started_at", "ended_at", "n_users", "n_flags", "amount_sum", "p_value")
    # Whose name leads here must be among them.
    users = dict.fromkeys([*(flag.user_id for flag in flags), *row["user_ids"]])
    return Case(
        case_id=found["case_id"],
        **{name: row[name] for name in names},
        summary=row["summary"],
        status=row["status"],
        user_ids=tuple(users),
        flags=tuple(flags),
        stories=of_case,
        ring=linked.get(found["case_id"]),
        more_days=tuple(found["days"]),
        more_decisions=tuple(found["decisions"]),
    )
