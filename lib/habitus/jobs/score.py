"""From `sequences` to `scores`, and from the strangest of them to `anomalies`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.accumulators import Accumulator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.joining import whole_if_few
from habitus.domain.scoring import NOTES, score_batch
from habitus.domain.units import Units
from habitus.domain.vocabulary import RARE, Vocabulary
from habitus.edges.models import load_model
from habitus.errors import ArtefactError, ConflictError
from habitus.jobs.flagging import flag
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.judging import (
    flagging_model,
    in_period,
    models_in_use,
    period_start,
    units_for,
)
from habitus.jobs.segments import with_segments
from habitus.tables import ANOMALIES, CASES, FLAG_DAYS, LABELS, SCORES, sequences

# What is sent to the workers of a unit beside its tokens, of the columns that it has; not the ids
# and times of events, which are most of its bytes.
SENT = (
    *("unit_kind", "unit_id", "user_id", "started_at", "event_date", "fingerprint", "segment"),
    *("amounts", "gaps", "context", "scored_from", "closed"),
)
_SCORED = (
    "unit_kind string, unit_id string, user_id string, started_at timestamp, event_date date, "
    "fingerprint bigint, model_id string, score double, p_value double, segment string, note string"
)


@dataclass(frozen=True)
class Counted:
    """What workers count as they score: each unit once, however many models score it.

    But `notes`, by what they say, are counted for each model that cannot score a unit. What a task
    counted may count twice where Spark has it done again.
    """

    units: Accumulator[int]
    events: Accumulator[int]
    unknown: Accumulator[int]
    positions: Accumulator[int]
    padding: Accumulator[int]
    notes: Mapping[str, Accumulator[int]]

    @classmethod
    def by(cls, context: JobContext) -> "Counted":
        """Nothing yet."""
        start = context.spark.sparkContext.accumulator
        notes = {note: start(0) for note in NOTES}
        return cls(start(0), start(0), start(0), start(0), start(0), notes)

    def add(self, units: Units) -> None:
        """Count units, their events, and those of them that do what training hardly knew."""
        self.units.add(len(units))
        self.events.add(int(units.offsets[-1]))
        self.unknown.add(int(np.count_nonzero(units.tokens["action"] == RARE)))

    def add_padding(self, positions: int, padding: int) -> None:
        """Count positions that units were laid out to, and those of them that are padding."""
        self.positions.add(positions)
        self.padding.add(padding)

    def add_notes(self, notes: pa.Array) -> None:
        """Count what is said of units that a model cannot score."""
        if notes.null_count < len(notes):
            for one in pc.value_counts(notes.drop_null()).to_pylist():
                self.notes[one["values"]].add(one["counts"])


def run(context: JobContext) -> None:
    """Score what a current model has not scored as it is, and flag the strangest of the period."""
    for table in (SCORES, ANOMALIES, FLAG_DAYS, CASES):
        # What keeps another contract is refused now rather than after hours of scoring.
        context.read_or_empty(table)
    units, vocabulary = write_scores(context)
    start, model_id = period_start(context, vocabulary), flagging_model(context)
    with context.reporter.step("choose and explain flags"):
        try:
            _flag(context, units, start, model_id)
        except ConflictError as error:
            context.reporter.say(f"{error.place}: {error.problem}; flags are chosen again")
            _flag(context, units, start, model_id)


def _flag(context: JobContext, units: DataFrame, start: datetime, model_id: str) -> None:
    # Analysts write these at any hour; what they said while units were scored counts.
    context.forget(ANOMALIES, CASES, LABELS, FLAG_DAYS)
    flag(context, units, start, model_id)


def write_scores(context: JobContext) -> tuple[DataFrame, Vocabulary]:
    """Bring `scores` up to date; the units of the period, and their words."""
    models = _models(context)
    vocabulary = _one_vocabulary(context, models)
    every = units_for(context, models.values(), vocabulary)
    units = every.where(in_period(context, vocabulary))
    segmented = with_segments(context, units, vocabulary)
    with context.reporter.step(f"score units with {', '.join(models)}"):
        _bring_up_to_date(context, segmented, vocabulary.field_names, list(models.values()))
    return units, vocabulary


def _models(context: JobContext) -> dict[str, str]:
    models = models_in_use(context)
    missing = [name for name in context.settings.detectors if name not in models]
    if missing:
        raise ArtefactError(
            f"{context.artefacts.root}/models",
            f"no model of {', '.join(missing)}",
            "Run `habitus train` with these detectors first.",
        )
    return models


def _one_vocabulary(context: JobContext, models: dict[str, str]) -> Vocabulary:
    vocabularies = {
        model_id: load_model(context.artefacts.root, model_id).vocabulary
        for model_id in models.values()
    }
    first_id, first = next(iter(vocabularies.items()))
    for model_id, vocabulary in vocabularies.items():
        if vocabulary.vocabulary_id != first.vocabulary_id:
            raise ArtefactError(
                f"{context.artefacts.root}/models/{model_id}",
                f"it knows vocabulary {vocabulary.vocabulary_id}, and {first_id} knows "
                f"{first.vocabulary_id}",
                "Train all detectors on the same sequences, or score with models that were.",
            )
    return first


def _bring_up_to_date(
    context: JobContext, units: DataFrame, fields: tuple[str, ...], model_ids: list[str]
) -> None:
    """Write the scores of new and changed units, and remove those of units that are gone."""
    units = units.withColumn("fingerprint", F.xxhash64("fingerprint", "segment"))
    here = context.read_or_empty(SCORES).where(F.col("model_id").isin(model_ids))
    key = list(SCORES.key)
    every = context.read(sequences(fields)).select(*key[:2])
    gone = here.select(*key).join(every, key[:2], "left_anti").withColumn("gone", F.lit(True))
    stamp = {"scored_at", "gone", *key}
    counted = Counted.by(context)
    with _to_score(units, here, model_ids) as asked:
        scores = _score(context, asked, fields, model_ids, counted)
        rows = scores.withColumn("gone", F.lit(False)).unionByName(gone, allowMissingColumns=True)
        context.merge(
            SCORES,
            rows.select(*SCORES.names, "gone"),
            update=tuple(name for name in SCORES.names if name not in stamp),
            stamp=("scored_at",),
            where=f"old.model_id IN ({', '.join(map(repr, model_ids))})",
        )
    _tell(context, counted)


@contextmanager
def _to_score(units: DataFrame, scores: DataFrame, model_ids: list[str]) -> Iterator[DataFrame]:
    """The units that some models have not scored as they are, each with these `models`."""
    if scores.isEmpty():
        # New models are asked about every unit, which a join would but move.
        yield units.withColumn("models", F.array(*map(F.lit, model_ids)))
        return
    with persisted(_not_scored(units, scores, model_ids)) as left:
        yield units.drop("fingerprint").join(whole_if_few(left), "unit_id")


def _tell(context: JobContext, counted: Counted) -> None:
    """Say what could not be scored, what training did not know or hardly, how much was padding."""
    context.rows_in["units to score"] = counted.units.value
    context.rows_in["events of unknown actions"] = unknown = counted.unknown.value
    share, most = unknown / max(1, counted.events.value), context.settings.score.unknown_share
    if share > most:
        context.reporter.say(
            f"{share:.1%} of the events to score have an action that training did not know, or "
            f"hardly, more than score.unknown_share={most:g}: train on a later time"
        )
    for note, times in counted.notes.items():
        if times.value:
            context.rows_out[f"scores that mean nothing: {note}"] = times.value
            context.reporter.say(f"{times.value:,} of the new scores mean nothing: {note}")
    if laid_out := counted.positions.value:
        context.rows_in["positions of units scored by length"] = laid_out
        context.rows_in["positions of them that are padding"] = padding = counted.padding.value
        context.reporter.say(f"{padding / laid_out:.1%} of the positions are padding")


def _not_scored(units: DataFrame, scores: DataFrame, model_ids: list[str]) -> DataFrame:
    """The units that some models have not scored as they are.

    Args:
        units: With the fingerprint of each.
        scores: Rows of `scores`.
        model_ids: All the models.

    Returns:
        unit_id, fingerprint, and the ids of these `models`.
    """
    as_it_is = ["unit_kind", "unit_id", "fingerprint"]
    scored = scores.groupBy(*as_it_is).agg(F.collect_set("model_id").alias("scored"))
    nothing = F.array().cast("array<string>")
    models = F.array_except(F.array(*map(F.lit, model_ids)), F.coalesce("scored", nothing))
    # Only ids and hashes are shuffled, not the units.
    return (
        units.select(*as_it_is)
        .join(scored, as_it_is, "left")
        .select("unit_id", "fingerprint", models.alias("models"))
        .where(F.size("models") > 0)
    )


def _score(
    context: JobContext,
    units: DataFrame,
    fields: tuple[str, ...],
    model_ids: list[str],
    counted: Counted,
) -> DataFrame:
    """Rows of `scores` of units by the models among each one's `models`, counted as made."""
    root = context.artefacts.root

    def scored(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            offsets, models = batch["models"].offsets.to_numpy(), batch["models"].flatten()
            unit = np.repeat(np.arange(len(batch)), np.diff(offsets))
            every = Units.from_arrow(batch, fields)
            counted.add(every)
            for model_id in model_ids:
                asked = unit[pc.equal(models, model_id).to_numpy(zero_copy_only=False)]
                if len(asked):
                    model = load_model(root, model_id)
                    part, judged = batch, every
                    if len(asked) < len(batch):
                        part, judged = batch.take(pa.array(asked)), every.take(asked)
                    if isinstance(model.detector, BehaviourDetector):
                        counted.add_padding(*model.detector.model.padding(judged))
                    found = score_batch(part, judged, model_id, model.detector, model.calibration)
                    counted.add_notes(found["note"])
                    yield found

    return (
        units.select(*SENT, *fields, "models")
        .mapInArrow(scored, _SCORED)
        .withColumn("event_time", F.col("started_at"))
        .withColumn("scored_at", F.lit(context.started_at))
        .select(*SCORES.names)
    )
