"""What rules of `alerts` are asked about: units with what is known of them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.alerts import rare
from habitus.domain.features import feature_names
from habitus.domain.policy import with_suppression
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import precise_p_value
from habitus.tables import ANOMALIES, SCORES, features

# The columns of `anomalies` that rules fill.
DECIDED = ("decision", "decided_by", "suppressed_by")
_KEY = ["unit_kind", "unit_id"]


def flag_candidates(context: JobContext, units: DataFrame, model_id: str) -> DataFrame:
    """The units that are rare enough to be flagged, with what rules see and what suppresses them.

    Args:
        context: The job.
        units: Rows of `sequences`, those that may be flagged.
        model_id: The model whose scores decide.
    """
    alerts = context.settings.alerts
    scores = context.read_now(SCORES).where(F.col("model_id") == model_id)
    scores = scores.join(units.select(*_KEY), _KEY, "semi")
    candidates = rare(scores, alerts, precise_p_value(context, model_id))
    return with_suppression(with_facts(context, candidates, units, model_id), alerts)


def with_facts(context: JobContext, flags: DataFrame, units: DataFrame, model_id: str) -> DataFrame:
    """Flags, or what may become some, with all that rules see; asked for only if there are rules.

    Args:
        context: The job.
        flags: Rows with the columns of `scores` and a severity.
        units: Rows of `sequences`.
        model_id: The model that flags.
    """
    alerts = context.settings.alerts
    if not (alerts.rules or alerts.suppress):
        return flags
    # The events before those that are judged are the user's history.
    amounts = F.slice("amounts", F.col("scored_from") + 1, F.col("n_events"))
    of_unit = units.select(
        *_KEY,
        (F.col("n_events") - F.col("scored_from")).alias("n_events"),
        F.aggregate(amounts, F.lit(0.0), lambda total, one: total + one).alias("amount_sum"),
        F.array_max(amounts).alias("amount_max"),
    )
    names = feature_names(context.settings.features)
    of_features = context.read(features(names)).select(*_KEY, *names)
    earlier = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
    before = earlier.select("user_id", F.col("event_time").alias("flagged_at"))
    flags_before = (
        flags.select(*_KEY, "user_id", "event_time")
        .join(before, "user_id")
        .where("flagged_at < event_time")
        .groupBy(*_KEY)
        .agg(F.count(F.lit(1)).alias("flags_before"))
    )
    return (
        flags.join(of_unit, _KEY)
        .join(of_features, _KEY, "left")
        .join(flags_before, _KEY, "left")
        .fillna({"flags_before": 0})
    )
