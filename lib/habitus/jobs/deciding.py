"""What rules of `alerts` are asked about: units with what is known of them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.alerts import rare
from habitus.domain.features import feature_names
from habitus.domain.policy import decided, with_flags_before, with_suppression
from habitus.jobs.frame import JobContext
from habitus.tables import ANOMALIES, SCORES, features

# The columns of `anomalies` that rules fill.
DECIDED = ("decision", "decided_by", "suppressed_by")
_KEY = ["unit_kind", "unit_id"]


def flag_candidates(
    context: JobContext, units: DataFrame, model_id: str, precise_until: float | None
) -> DataFrame:
    """The units that are rare enough to be flagged, with what is known and what suppresses them.

    Args:
        context: The job.
        units: Rows of `sequences`, those that may be flagged.
        model_id: The model whose scores decide.
        precise_until: The largest p-value by reviews; none: any.
    """
    alerts = context.settings.alerts
    scores = context.read_now(SCORES).where(F.col("model_id") == model_id)
    # What the model cannot score is never rare, nor one of the units that a day's rate is of.
    scores = scores.where("note is null").drop("note")
    scores = scores.join(units.select(*_KEY), _KEY, "semi")
    candidates = rare(scores, alerts, precise_until)
    if alerts.rules or alerts.suppress:
        candidates = _with_facts(context, candidates, units)
    return with_suppression(candidates, alerts)


def decided_beside(context: JobContext, flags: DataFrame, model_id: str) -> DataFrame:
    """Decide on flags beside those of the model that are there, see `policy.decided`.

    Args:
        context: The job.
        flags: Rows of `flag_candidates` that are flags.
        model_id: The model that flags.
    """
    alerts = context.settings.alerts
    if alerts.rules:
        here = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
        flags = with_flags_before(flags, here.join(flags, _KEY, "left_anti"))
    return decided(flags, alerts)


def _with_facts(context: JobContext, candidates: DataFrame, units: DataFrame) -> DataFrame:
    """Candidates with what is known of their units."""
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
    return candidates.join(of_unit, _KEY).join(of_features, _KEY, "left")
