"""Which candidates take the places of the budget, each with its reasons."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from habitus.alert_settings import AlertSettings
from habitus.domain.alerts import choose
from habitus.domain.policy import Mutes, decided, first_reason
from habitus.domain.scoring import explain_batch
from habitus.edges.models import load_model
from habitus.edges.spark import local_frame
from habitus.jobs.deciding import (
    is_quiet,
    suppressed,
    with_cool_down,
    with_mutes,
)
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import is_shown, mutes
from habitus.tables import ANOMALIES, REASONS, SCORES
from habitus.unit_columns import UNIT_KEY

_TOLD = ("reasons", "summary")
_EXPLAINED = f"unit_id string, reasons {REASONS.type}, summary string"
# Explaining keeps the probabilities of every value at every event; few units at once keep it small.
_AT_ONCE = 64
_AS_IT_IS = [*ANOMALIES.key, "score", "p_value"]
_ALLOWED = "allowed"  # marks, while places are given, what a rule allows


class Placed(NamedTuple):
    """The candidates with all that suppresses them, and the flags among them with reasons."""

    candidates: DataFrame
    flags: DataFrame


def place_flags(
    context: JobContext,
    units: DataFrame,
    candidates: DataFrame,
    judged: DataFrame,
    model_id: str,
) -> Placed:
    """Choose the flags: what is suppressed, muted, quiet or allowed leaves its place to another.

    What mutes or allows a flag is known once it is explained; where some are, twice as many are
    explained, until as many as the budget has places for are left or there are no more.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        candidates: Rows of `flag_candidates`; they are read several times.
        judged: From `judged_flags`.
        model_id: The model whose scores decide.
    """
    budget = context.settings.alerts.budget_per_day
    known = context.read_or_empty(ANOMALIES).select(*_AS_IT_IS, *_TOLD)
    muting = mutes(context, judged)
    shown = _shown_before(context, units, model_id)
    explained = local_frame(context.spark, _EXPLAINED)
    hidden: dict[str, str] = {}
    looked_at = budget
    while True:
        marked = with_cool_down(context, suppressed(context, candidates, hidden), budget, shown)
        flags = _told(choose(marked, looked_at), marked, known, explained).localCheckpoint()
        more = _explain(context, units, flags.where("reasons is null"), model_id)
        explained = explained.unionByName(more).localCheckpoint()
        flags = _with_told(flags, explained)
        found = _allowed(flags, context.settings.alerts) | _muted(flags, muting, judged)
        if found.keys() <= hidden.keys():
            break
        hidden |= found
        looked_at *= 2
    if looked_at > budget:
        flags = _told(choose(marked, budget), marked, known, explained).localCheckpoint()
    is_allowed = F.col("suppressed_by").eqNullSafe(_ALLOWED)
    said = F.when(~is_allowed, F.col("suppressed_by"))
    return Placed(marked, flags.withColumn("suppressed_by", said))


def _shown_before(context: JobContext, units: DataFrame, model_id: str) -> DataFrame:
    """Flags that an earlier run shows, of units that this one does not judge."""
    flags = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
    others = flags.where(is_shown()).join(units.select(*UNIT_KEY), UNIT_KEY, "left_anti")
    # A flag of a unit that is no more is withdrawn.
    scored = context.read_now(SCORES).where(F.col("model_id") == model_id)
    return others.join(scored.select(*UNIT_KEY), UNIT_KEY, "left_semi")


def _told(
    chosen: DataFrame, candidates: DataFrame, known: DataFrame, explained: DataFrame
) -> DataFrame:
    """Chosen candidates, and those that were flags before and are suppressed now, with reasons.

    What is told already of flags that are as they were is not told anew.
    """
    before = known.select(_AS_IT_IS)
    hidden = candidates.where("suppressed_by is not null").join(before, _AS_IT_IS, "left_semi")
    flags = chosen.unionByName(hidden.join(chosen.select("unit_id"), "unit_id", "left_anti"))
    return _with_told(flags.join(known, _AS_IT_IS, "left"), explained)


def _allowed(flags: DataFrame, alerts: AlertSettings) -> dict[str, str]:
    """Unit -> that a rule allows it, of flags that nothing else suppresses."""
    if not alerts.allowing:
        return {}
    asked = _free(flags).withColumn("first_reason", first_reason(F.col("reasons")))
    allowing = alerts.model_copy(update={"rules": alerts.allowing})
    rows = decided(asked, allowing).where("decision = 'allow'").select("unit_id").collect()
    return {row["unit_id"]: _ALLOWED for row in rows}


def _muted(flags: DataFrame, muting: Mutes, judged: DataFrame) -> dict[str, str]:
    """Unit -> what mutes it, of flags that no rule suppresses."""
    if not muting:
        return {}
    rows = with_mutes(_free(flags), muting, judged).where("suppressed_by is not null")
    return {row["unit_id"]: row["suppressed_by"] for row in rows.collect()}


def _free(flags: DataFrame) -> DataFrame:
    """The flags that nothing suppresses, or a cool-down alone."""
    free = flags.where(F.col("suppressed_by").isNull() | is_quiet())
    return free.withColumn("suppressed_by", F.lit(None).cast("string"))


def _with_told(flags: DataFrame, explained: DataFrame) -> DataFrame:
    """Flags with reasons and summary, where they are told."""
    new = explained.select("unit_id", *(F.col(name).alias(f"new_{name}") for name in _TOLD))
    return (
        flags.join(F.broadcast(new), "unit_id", "left")
        .withColumns({name: F.coalesce(f"new_{name}", name) for name in _TOLD})
        .drop(*(f"new_{name}" for name in _TOLD))
    )


def _explain(context: JobContext, units: DataFrame, flags: DataFrame, model_id: str) -> DataFrame:
    root, alerts = context.artefacts.root, context.settings.alerts
    count, language = alerts.reasons, alerts.language
    schema = to_arrow_schema(cast(StructType, StructType.fromDDL(_EXPLAINED)))

    def explained(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(root, model_id)
        for batch in batches:
            for start in range(0, len(batch), _AT_ONCE):
                part = batch.slice(start, _AT_ONCE)
                rows = explain_batch(part, model.detector, model.vocabulary, count, language)
                yield pa.RecordBatch.from_pylist(rows, schema=schema)

    # A budget of flags a day is small beside the units; what is new of it is explained, no others.
    new = F.broadcast(flags.select("unit_id", "p_value"))
    return units.join(new, "unit_id").mapInArrow(explained, _EXPLAINED)
