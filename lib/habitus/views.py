"""Views that BI tools read: what people ask of the flags every day.

Each query is written once, in the SQL that Spark and DuckDB share.
"""

from habitus.table import Column, View
from habitus.tables import ANOMALIES, FLAG_DAYS

(_MODEL,) = ANOMALIES.some("model_id")
_FLAGS = Column("flags", "bigint", "Flags shown.", required=True)
_CONFIRMED = Column("confirmed", "bigint", "Of those, found to be anomalies.", required=True)

# As in `reviewing.status_verdicts`: a unit's verdict is that of its flags, by any model, else that
# of cases that they are in; one confirmation is enough, and it is the least of the two words. Joins
# by day too let a reader who asks for one day read one day's files.
SHOWN_FLAGS = View(
    name="shown_flags",
    comment="A flag that is not suppressed, with what it turned out to be.",
    columns=(
        *ANOMALIES.some(
            *("model_id", "unit_kind", "unit_id", "user_id", "event_time", "event_date", "score"),
            *("p_value", "severity", "segment", "decision", "decided_by", "summary"),
        ),
        Column("verdict", "string", "confirmed or dismissed, by itself or in a case."),
    ),
    key=("unit_kind", "unit_id", "model_id"),
    contract=1,
    select="""\
with own as (
    select event_date, unit_kind, unit_id, min(status) as own_verdict
    from {anomalies}
    where status in ('confirmed', 'dismissed')
    group by event_date, unit_kind, unit_id
),
members as (
    select model_id, {explode}(unit_ids) as unit_id, status as of_case
    from {cases}
    where status in ('confirmed', 'dismissed')
),
of_cases as (
    select event_date, unit_kind, unit_id, min(of_case) as case_verdict
    from {anomalies} join members using (model_id, unit_id)
    group by event_date, unit_kind, unit_id
)
select
    model_id,
    unit_kind,
    unit_id,
    user_id,
    event_time,
    event_date,
    score,
    p_value,
    severity,
    segment,
    decision,
    decided_by,
    summary,
    coalesce(own_verdict, case_verdict) as verdict
from {anomalies}
left join own using (event_date, unit_kind, unit_id)
left join of_cases using (event_date, unit_kind, unit_id)
where suppressed_by is null and decision <> 'allow'
""",
)

# A union and no outer join: with it a reader who asks for one day reads one day's files.
DAILY_COUNTS = View(
    name="daily_counts",
    comment="Units and flags of a day, counted.",
    columns=(
        *FLAG_DAYS.some(
            *("event_date", "model_id", "unit_kind", "units", "rare", "suppressed", "cut"),
            "budget_per_day",
        ),
        _FLAGS,
        Column("users", "bigint", "Users with such a flag."),
        Column("critical", "bigint", "Flags of severity critical."),
        Column("high", "bigint", "Flags of severity high."),
        Column("medium", "bigint", "Flags of severity medium."),
        Column("low", "bigint", "Flags of severity low."),
        _CONFIRMED,
        Column("dismissed", "bigint", "Flags found to be none."),
    ),
    key=("model_id", "unit_kind", "event_date"),
    contract=2,
    select="""\
with counted as (
    select
        event_date, model_id, unit_kind, units, rare, suppressed, cut, budget_per_day,
        null as user_id, null as severity, null as verdict
    from {flag_days}
    union all
    select
        event_date, model_id, unit_kind, null, null, null, null, null,
        user_id, severity, verdict
    from {shown_flags}
)
select
    event_date,
    model_id,
    unit_kind,
    max(units) as units,
    max(rare) as rare,
    max(suppressed) as suppressed,
    max(cut) as cut,
    max(budget_per_day) as budget_per_day,
    count(user_id) as flags,
    count(distinct user_id) as users,
    count(*) filter (where severity = 'critical') as critical,
    count(*) filter (where severity = 'high') as high,
    count(*) filter (where severity = 'medium') as medium,
    count(*) filter (where severity = 'low') as low,
    count(*) filter (where verdict = 'confirmed') as confirmed,
    count(*) filter (where verdict = 'dismissed') as dismissed
from counted
group by event_date, model_id, unit_kind
""",
)

USERS_AT_RISK = View(
    name="users_at_risk",
    comment="A user with flags that nobody dismissed.",
    columns=(
        _MODEL,
        Column("user_id", "string", "The user."),
        Column("flags", "bigint", "Flags shown and not dismissed."),
        _CONFIRMED,
        Column("p_value", "double", "The least p-value of a flag."),
        Column("severity", "string", "Of the strangest flag."),
        Column("decision", "string", "Of the strangest flag."),
        Column("summary", "string", "Of the strangest flag."),
        Column("first_at", "timestamp", "Time of the first flag."),
        Column("last_at", "timestamp", "Time of the last flag."),
    ),
    key=("model_id", "user_id"),
    contract=1,
    select="""\
with placed as (
    select
        *,
        row_number() over (
            partition by model_id, user_id order by p_value, score desc, unit_id
        ) as place
    from {shown_flags}
    where verdict is null or verdict = 'confirmed'
)
select
    model_id,
    user_id,
    count(*) as flags,
    count(verdict) as confirmed,
    min(p_value) as p_value,
    max(case when place = 1 then severity end) as severity,
    max(case when place = 1 then decision end) as decision,
    max(case when place = 1 then summary end) as summary,
    min(event_time) as first_at,
    max(event_time) as last_at
from placed
group by model_id, user_id
""",
)

PRECISION_BY_DECISION = View(
    name="precision_by_decision",
    comment="How often flags with a decision were right, of those that somebody judged.",
    columns=(
        _MODEL,
        Column("decision", "string", "What was to be done."),
        _FLAGS,
        Column("reviewed", "bigint", "Of those, confirmed or dismissed."),
        _CONFIRMED,
        Column("precision", "double", "Share of the reviewed that is confirmed."),
    ),
    key=("model_id", "decision"),
    contract=1,
    select="""\
select
    model_id,
    decision,
    count(*) as flags,
    count(verdict) as reviewed,
    count(*) filter (where verdict = 'confirmed') as confirmed,
    cast(count(*) filter (where verdict = 'confirmed') as double) / nullif(count(verdict), 0)
        as precision
from {shown_flags}
group by model_id, decision
""",
)

# In an order in which they can be made.
VIEWS = (SHOWN_FLAGS, DAILY_COUNTS, USERS_AT_RISK, PRECISION_BY_DECISION)
