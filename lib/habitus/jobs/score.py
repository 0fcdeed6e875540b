"""From `sequences` to `scores`, and from the strangest of them to `anomalies`."""

from collections.abc import Iterable, Iterator
from typing import cast

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from habitus.domain.alerts import choose, cut_by_budget
from habitus.domain.policy import decided, muted
from habitus.domain.scoring import explain_batch, score_batch
from habitus.domain.vocabulary import RARE, Vocabulary
from habitus.edges.models import load_model
from habitus.errors import ArtefactError, SettingsError
from habitus.jobs.deciding import DECIDED, flag_candidates
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import in_period, units_for
from habitus.tables import ANOMALIES, REASON, SCORES

_SCORED = (
    "unit_kind string, unit_id string, user_id string, started_at timestamp, event_date date, "
    "model_id string, score double, p_value double, segment string"
)
_EXPLAINED = f"unit_id string, reasons array<struct<{REASON}>>, summary string"
# Explaining keeps the probabilities of every value at every event; few units at once keep it small.
_AT_ONCE = 64


def run(context: JobContext) -> None:
    """Score every unit of the period with every current model, and flag the strangest."""
    models = _models(context)
    vocabulary = _one_vocabulary(context, models)
    units = _units(context, vocabulary)
    _tell_unknown(context, units)
    with context.reporter.step(f"score units with {', '.join(models)}"):
        context.merge(
            SCORES,
            _score(context, units, list(models.values())),
            update=("user_id", "event_time", "score", "p_value", "segment", "event_date"),
            stamp=("scored_at",),
        )
    with context.reporter.step("choose and explain flags"):
        _flag(context, units, models[context.settings.alerts.detector])


def _models(context: JobContext) -> dict[str, str]:
    current = context.artefacts.current()
    wanted = context.settings.detectors
    missing = [name for name in wanted if name not in current]
    if missing:
        raise ArtefactError(
            f"{context.artefacts.root}/models",
            f"no model of {', '.join(missing)}",
            "Run `habitus train` with these detectors first.",
        )
    return {name: current[name] for name in wanted}


def _one_vocabulary(context: JobContext, models: dict[str, str]) -> Vocabulary:
    vocabularies = {
        model_id: load_model(context.artefacts.root, model_id).vocabulary
        for model_id in models.values()
    }
    first = next(iter(vocabularies.values()))
    for model_id, vocabulary in vocabularies.items():
        if vocabulary.vocabulary_id != first.vocabulary_id:
            raise ArtefactError(
                f"{context.artefacts.root}/models/{model_id}",
                f"it knows vocabulary {vocabulary.vocabulary_id}, the others know "
                f"{first.vocabulary_id}",
                "Train all detectors on the same sequences.",
            )
    return first


def _units(context: JobContext, vocabulary: Vocabulary) -> DataFrame:
    """The units of the scoring period, each with its segment."""
    frame = units_for(context, vocabulary)
    try:
        return frame.where(in_period(context, vocabulary)).withColumn(
            "segment", F.expr(context.settings.segment).cast("string")
        )
    except AnalysisException as error:
        raise SettingsError(
            "segment",
            f"{context.settings.segment!r} is no expression over sequences",
            f"Use the columns {', '.join(frame.columns)}.",
        ) from error


def _tell_unknown(context: JobContext, units: DataFrame) -> None:
    """Say how many events do what training did not know, or hardly."""
    unknown = F.size(F.filter("action", lambda token: token == RARE))
    found = units.agg(
        F.coalesce(F.sum(unknown), F.lit(0)).alias("unknown"),
        F.coalesce(F.sum("n_events"), F.lit(0)).alias("events"),
    ).first()
    assert found is not None, "an aggregate without groups has one row"
    context.rows_in["events of unknown actions"] = found["unknown"]
    share, most = found["unknown"] / max(1, found["events"]), context.settings.score.unknown_share
    if share > most:
        context.reporter.say(
            f"{share:.1%} of the events have an action that training did not know, or hardly, more "
            f"than score.unknown_share={most:g}: train on a later time"
        )


def _score(context: JobContext, units: DataFrame, model_ids: list[str]) -> DataFrame:
    root = context.artefacts.root

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for model_id in model_ids:
                model = load_model(root, model_id)
                yield score_batch(
                    batch, model_id, model.detector, model.vocabulary, model.calibration
                )

    return (
        units.mapInArrow(scored, _SCORED)
        .withColumn("event_time", F.col("started_at"))
        .withColumn("scored_at", F.lit(context.started_at))
        .select(*SCORES.names)
    )


def _flag(context: JobContext, units: DataFrame, model_id: str) -> None:
    """Write the flags of the scored period that the budget admits, each with its reasons."""
    alerts = context.settings.alerts
    candidates = flag_candidates(context, units, model_id)
    flags = choose(candidates, alerts.budget_per_day)
    # A budget of flags a day is small beside the units; its units are explained, no others.
    flagged = units.join(F.broadcast(flags.select("unit_id", "p_value")), "unit_id")
    explained = F.broadcast(_explain(context, flagged, model_id))
    rows = decided(flags.join(explained, "unit_id"), alerts).withColumns(
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
    found = cut_by_budget(candidates, alerts.budget_per_day).agg(F.sum("cut").alias("cut")).first()
    context.rows_out["cut by budget"] = (found["cut"] if found else None) or 0
    context.reporter.say(
        f"{context.rows_out['cut by budget']:,} more units were strange enough to flag, but cut by "
        f"the budget of {alerts.budget_per_day} a day"
    )


def _explain(context: JobContext, flagged: DataFrame, model_id: str) -> DataFrame:
    root, count = context.artefacts.root, context.settings.alerts.reasons
    schema = to_arrow_schema(cast(StructType, StructType.fromDDL(_EXPLAINED)))

    def explained(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(root, model_id)
        for batch in batches:
            for start in range(0, len(batch), _AT_ONCE):
                part = batch.slice(start, _AT_ONCE)
                rows = explain_batch(part, model.detector, model.vocabulary, count)
                yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return flagged.mapInArrow(explained, _EXPLAINED)
