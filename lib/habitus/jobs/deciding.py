"""What rules of `alerts` are asked about: units with what is known of them."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.alerts import rare, strangest, strangest_first
from habitus.domain.cooling import in_cool_down
from habitus.domain.features import feature_names
from habitus.domain.policy import (
    Mutes,
    decided,
    first_reason,
    with_flags_before,
    with_suppression,
    with_verdicts_before,
)
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.tables import SCORES, features
from habitus.unit_columns import UNIT_KEY

# The columns of `anomalies` that rules fill.
DECIDED = ("decision", "decided_by", "suppressed_by")
# Begins what is said of a flag that its unit's new score gives no cause for.
WITHDRAWN = "scored again"
_COOL_DOWN = "cool-down"
# In so many budgets of a day's strangest units a cool-down is looked for, and in no more of them.
_LOOKED_AT = 50


def flag_candidates(
    context: JobContext,
    units: DataFrame,
    model_id: str,
    precise_until: float | None,
    judged: DataFrame,
) -> DataFrame:
    """The units that are rare enough to be flagged, with what is known, and the rule against them.

    Args:
        context: The job.
        units: Rows of `sequences`, those that may be flagged.
        model_id: The model whose scores decide.
        precise_until: The largest p-value by reviews; none: any.
        judged: From `judged_flags`.
    """
    alerts = context.settings.alerts
    scores = context.read_now(SCORES).where(F.col("model_id") == model_id)
    # What the model cannot score is never rare, nor one of the units that a day's rate is of.
    scores = scores.where("note is null").drop("note")
    scores = scores.join(units.select(*UNIT_KEY), UNIT_KEY, "semi")
    candidates = rare(scores, alerts, precise_until)
    if alerts.rules or alerts.suppress:
        candidates = with_verdicts_before(_with_facts(context, candidates, units), judged)
    return with_suppression(candidates, alerts)


def decided_beside(context: JobContext, flags: DataFrame, others: DataFrame) -> DataFrame:
    """Decide on flags beside the model's others that are there, see `policy.decided`.

    Args:
        context: The job.
        flags: Rows of `flag_candidates` that are flags, with their reasons.
        others: Rows of `anomalies`.
    """
    alerts = context.settings.alerts
    if alerts.rules:
        flags = with_flags_before(flags, others.where(~is_withdrawn()))
        flags = flags.withColumn("first_reason", first_reason(F.col("reasons")))
    return decided(flags, alerts)


def with_mutes(flags: DataFrame, muting: Mutes, judged: DataFrame) -> DataFrame:
    """Say which flags their first reason mutes.

    Args:
        flags: Rows with reasons and `suppressed_by`, what else keeps them from being shown.
        muting: What mutes.
        judged: From `judged_flags`.
    """
    if not muting:
        return flags
    known = judged.select(*UNIT_KEY, F.lit(True).alias("_judged"))
    by = muting.by(F.col("reasons"), F.col("_judged").isNotNull())
    return (
        flags.join(known, UNIT_KEY, "left")
        .withColumn("suppressed_by", F.coalesce("suppressed_by", by))
        .drop("_judged")
    )


def with_cool_down(
    context: JobContext, units: DataFrame, budget: int | None, shown: DataFrame | None = None
) -> DataFrame:
    """Say which units are in the cool-down of another one that is shown.

    Args:
        context: The job.
        units: Rows with `suppressed_by`, what else keeps them from being shown.
        budget: How many a day are shown; none: all.
        shown: Rows of `anomalies` of other units that are shown in any case; none: there are none.
    """
    cool_down = context.settings.alerts.cool_down
    if cool_down is None:
        return units
    asked = units.where("suppressed_by is null")
    if budget is not None:
        asked = strangest(asked, _LOOKED_AT * budget)
    told = ("unit_id", "user_id", "event_date", "event_time", "p_value", "score")
    table = asked.select(*told, F.lit(False).alias("is_shown"))
    if shown is not None:
        # Of all that was ever shown, what could be shortly before one of these.
        span = asked.agg(F.min("event_time").alias("_first"), F.max("event_time").alias("_last"))
        near = F.col("event_time").between(F.col("_first") - F.lit(cool_down), F.col("_last"))
        shown = shown.join(F.broadcast(span), near)
        table = table.unionByName(shown.select(*told, F.lit(True).alias("is_shown")))
    quiet = in_cool_down(table.orderBy(*strangest_first()).toArrow(), cool_down, budget)
    return suppressed(context, units, dict.fromkeys(quiet, f"{_COOL_DOWN} of {cool_down}"))


def suppressed(context: JobContext, units: DataFrame, by: Mapping[str, str]) -> DataFrame:
    """Say of a few units, by id, what suppresses them, where nothing else does."""
    if not by:
        return units
    said = local_frame(
        context.spark,
        "unit_id string, _by string",
        ({"unit_id": unit_id, "_by": one} for unit_id, one in by.items()),
    )
    return (
        units.join(F.broadcast(said), "unit_id", "left")
        .withColumn("suppressed_by", F.coalesce("suppressed_by", "_by"))
        .drop("_by")
    )


def is_quiet() -> Column:
    """Whether a cool-down suppresses a unit; null where nothing does."""
    return F.col("suppressed_by").startswith(_COOL_DOWN)


def is_withdrawn() -> Column:
    """Whether a flag was withdrawn, as its unit was scored again."""
    return F.coalesce(F.col("suppressed_by").startswith(WITHDRAWN), F.lit(False))


def _with_facts(context: JobContext, candidates: DataFrame, units: DataFrame) -> DataFrame:
    """Candidates with what is known of their units."""
    # The events before those that are judged are the user's history.
    of_judged = F.slice("amounts", F.col("scored_from") + 1, F.col("n_events"))
    # The shortest number that is this float: rules say 9.99, which as a float is 9.9899998.
    amounts = F.transform(of_judged, lambda one: one.cast("string").cast("double"))
    of_unit = units.select(
        *UNIT_KEY,
        (F.col("n_events") - F.col("scored_from")).alias("n_events"),
        F.aggregate(amounts, F.lit(0.0), lambda total, one: total + one).alias("amount_sum"),
        F.array_max(amounts).alias("amount_max"),
    )
    names = feature_names(context.settings.features)
    of_features = context.read(features(names)).select(*UNIT_KEY, *names)
    return candidates.join(of_unit, UNIT_KEY).join(of_features, UNIT_KEY, "left")
