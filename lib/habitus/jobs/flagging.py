"""From `scores` to `anomalies`: the strangest units of the scoring period, with their reasons."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import cast

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from habitus.domain.alerts import choose
from habitus.domain.policy import muted
from habitus.domain.scoring import explain_batch
from habitus.edges.models import load_model
from habitus.jobs.deciding import DECIDED, decided_beside, flag_candidates
from habitus.jobs.flag_days import count_days
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.reviewing import precise_p_value
from habitus.tables import ANOMALIES, REASON

_TOLD = ("reasons", "summary")
_EXPLAINED = f"unit_id string, reasons array<struct<{REASON}>>, summary string"
# Explaining keeps the probabilities of every value at every event; few units at once keep it small.
_AT_ONCE = 64


def flag(context: JobContext, units: DataFrame, start: datetime, model_id: str) -> None:
    """Write the flags that the budget admits, each with its reasons, and what became of each day.

    Args:
        context: The job.
        units: Rows of `sequences`, those of the scoring period.
        start: When that begins.
        model_id: The model whose scores decide.
    """
    precise_until = precise_p_value(context, model_id)
    with (
        persisted(flag_candidates(context, units, model_id, precise_until)) as candidates,
        persisted(_chosen(context, candidates)) as flags,
    ):
        _write_flags(context, units, flags, model_id)
        written = context.read_now(ANOMALIES).join(flags, list(ANOMALIES.key), "semi")
        context.rows_out["cut by budget"] = cut = count_days(
            context,
            units,
            candidates,
            written,
            model_id=model_id,
            start=start,
            precise_until=precise_until,
        )
    context.reporter.say(
        f"{cut:,} more units were strange enough to flag, but cut by the budget of "
        f"{context.settings.alerts.budget_per_day} a day"
    )


def _chosen(context: JobContext, candidates: DataFrame) -> DataFrame:
    """The flags, with what is told already of those that are as they were."""
    as_it_is = [*ANOMALIES.key, "score", "p_value"]
    known = context.read_or_empty(ANOMALIES).select(*as_it_is, "reasons", "summary")
    return choose(candidates, context.settings.alerts.budget_per_day).join(known, as_it_is, "left")


def _write_flags(context: JobContext, units: DataFrame, flags: DataFrame, model_id: str) -> None:
    """Explain the new ones and write all."""
    alerts = context.settings.alerts
    # A budget of flags a day is small beside the units; what is new of it is explained, no others.
    new = F.broadcast(flags.where("reasons is null").select("unit_id", "p_value"))
    explained = _explain(context, units.join(new, "unit_id"), model_id)
    explained = explained.select("unit_id", *(F.col(n).alias(f"new_{n}") for n in _TOLD))
    decided = decided_beside(context, flags, model_id)
    rows = decided.join(F.broadcast(explained), "unit_id", "left").withColumns(
        {name: F.coalesce(f"new_{name}", name) for name in _TOLD}
    )
    rows = rows.withColumns(
        {
            "suppressed_by": F.coalesce("suppressed_by", muted(F.col("reasons"), alerts)),
            "status": F.lit("open"),
            "run_id": F.lit(context.run_id),
            "scored_at": F.lit(context.started_at),
        }
    )
    # What an analyst made of a flag, its status, is never overwritten.
    context.merge(
        ANOMALIES,
        rows.select(*ANOMALIES.names),
        update=("score", "p_value", "severity", "segment", "summary", *DECIDED),
        stamp=("reasons", "run_id", "scored_at"),
    )


def _explain(context: JobContext, flagged: DataFrame, model_id: str) -> DataFrame:
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

    return flagged.mapInArrow(explained, _EXPLAINED)
