"""Which candidates take the places of the budget, each with its reasons."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from habitus.domain.alerts import choose
from habitus.domain.policy import Mutes
from habitus.domain.scoring import explain_batch
from habitus.edges.models import load_model
from habitus.edges.spark import local_frame
from habitus.jobs.deciding import is_quiet, suppressed, with_cool_down, with_mutes
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import mutes
from habitus.tables import ANOMALIES, REASONS, SCORES

_KEY = ["unit_kind", "unit_id"]
_TOLD = ("reasons", "summary")
_EXPLAINED = f"unit_id string, reasons {REASONS.type}, summary string"
# Explaining keeps the probabilities of every value at every event; few units at once keep it small.
_AT_ONCE = 64
# So often, at most, others are explained that take the places of muted flags.
_ROUNDS = 5


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
    """Choose the flags: what is suppressed, muted or quiet leaves its place to another.

    What mutes a flag is known once it is explained; so others are explained where some are muted.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        candidates: Rows of `flag_candidates`; they are read several times.
        judged: From `judged_flags`.
        model_id: The model whose scores decide.
    """
    budget = context.settings.alerts.budget_per_day
    as_it_is = [*ANOMALIES.key, "score", "p_value"]
    known = context.read_or_empty(ANOMALIES).select(*as_it_is, *_TOLD)
    muting = mutes(context, judged)
    shown = _shown_before(context, units, model_id)
    explained = local_frame(context.spark, _EXPLAINED)
    muted: dict[str, str] = {}
    for _ in range(_ROUNDS):
        marked = with_cool_down(context, suppressed(context, candidates, muted), budget, shown)
        # What is told already of flags that are as they were is not told anew.
        flags = _with_hidden(choose(marked, budget), marked, known.select(as_it_is))
        flags = flags.join(known, as_it_is, "left")
        flags = _with_told(flags, explained).localCheckpoint()
        more = _explain(context, units, flags.where("reasons is null"), model_id)
        explained = explained.unionByName(more).localCheckpoint()
        flags = _with_told(flags, explained)
        found = _muted(flags, muting, judged)
        if found.keys() <= muted.keys():
            break
        muted |= found
    return Placed(suppressed(context, marked, muted), suppressed(context, flags, muted))


def _shown_before(context: JobContext, units: DataFrame, model_id: str) -> DataFrame:
    """Flags that an earlier run shows, of units that this one does not judge."""
    flags = context.read_or_empty(ANOMALIES).where(F.col("model_id") == model_id)
    others = flags.where("suppressed_by is null").join(units.select(*_KEY), _KEY, "left_anti")
    # A flag of a unit that is no more is withdrawn.
    scored = context.read_now(SCORES).where(F.col("model_id") == model_id)
    return others.join(scored.select(*_KEY), _KEY, "left_semi")


def _with_hidden(flags: DataFrame, candidates: DataFrame, known: DataFrame) -> DataFrame:
    """Flags, and candidates that were flags before and are suppressed now."""
    hidden = candidates.where("suppressed_by is not null").join(known, known.columns, "left_semi")
    return flags.unionByName(hidden.join(flags.select("unit_id"), "unit_id", "left_anti"))


def _muted(flags: DataFrame, muting: Mutes, judged: DataFrame) -> dict[str, str]:
    """Unit -> what mutes it, of flags that no rule suppresses."""
    if not muting:
        return {}
    free = flags.where(F.col("suppressed_by").isNull() | is_quiet())
    free = free.withColumn("suppressed_by", F.lit(None).cast("string"))
    rows = with_mutes(free, muting, judged).where("suppressed_by is not null")
    return {row["unit_id"]: row["suppressed_by"] for row in rows.collect()}


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
