"""From `scores` and `labels` to `evaluations`: the detectors compared on the test period."""

import json
import math
from collections.abc import Mapping, Sequence

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.ablation import added, in_words, name_without, without_members
from habitus.domain.choosing import (
    REFITTED,
    compare_over_blocks,
    compare_refitted,
    page,
    verdict,
)
from habitus.domain.detectors.ensemble import EnsembleDetector
from habitus.domain.evaluation import Evaluation, chosen, evaluate, histograms, kinds_of
from habitus.domain.labelling import doubtful_labels
from habitus.domain.models.card import with_comparison
from habitus.domain.reporting.console import detectors_table
from habitus.edges.models import load_model
from habitus.edges.spark import local_frame
from habitus.edges.tracking import revise
from habitus.errors import ArtefactError, TrainingError
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import judged_units, models_in_use
from habitus.jobs.refitting import refitted
from habitus.tables import EVALUATIONS, LABELS, sequences


def run(context: JobContext) -> None:
    """Compare the models in use on the test units that all of them scored."""
    models = models_in_use(context)
    if not models:
        raise ArtefactError(
            f"{context.artefacts.root}/models", "there is no model", "Run `habitus train` first."
        )
    settings = context.settings
    with context.reporter.step("judge the detectors by what is known"):
        members = _members(context, models)
        units = _with_members_left_out(context, judged_units(context, models), models, members)
        units = units.persist(StorageLevel.DISK_ONLY)
        try:
            histogram = histograms(
                units, context.started_at, settings.evaluate.blocks, settings.evaluate.blocks_of
            ).toPandas()
            choice = chosen(units, settings.alerts.budget_per_day).toPandas()
        finally:
            units.unpersist()
        first = histogram[histogram["model_id"] == next(iter(models.values()))]
        context.rows_in["test units"] = int(
            first.loc[first["kind"].isin(["all", "normal"]), "units"].sum()
        )
        less = {
            name_without("ensemble", name): name_without(models["ensemble"], name)
            for name in members
        }
        found = evaluate(histogram, choice, models | less, settings.evaluate, settings.seed)
        compared = compare_over_blocks(histogram, models, settings.evaluate, settings.seed)
        of_members = (
            added(histogram, models["ensemble"], list(members), settings.evaluate, settings.seed)
            if members
            else []
        )
    _doubt(context)
    if not kinds_of(histogram):
        context.reporter.say("no label names a unit of the test period: nothing to compare")
    figures, model_ids = [*found, *compared, *of_members], [*models.values(), *less.values()]
    write_figures(context, _frame(context, figures), model_ids, with_refitted=False)
    again, failed = _refitted(context, models)
    if settings.evaluate.refit and failed is None:
        write_figures(context, _frame(context, [*figures, *again]), model_ids, with_refitted=True)
    if compared:
        context.reporter.show(detectors_table(found))
        remarks = [verdict(compared, settings.evaluate.blocks_of)]
        remarks += [verdict(again, settings.evaluate.blocks_of)] if again else []
        remarks += [in_words(of_members)] if of_members else []
        for sentence in remarks:
            context.reporter.say(sentence)
        for model_id in models.values():
            _tell(context, model_id, page([*found, *again], compared, remarks))
    if failed is not None:
        raise failed


def write_figures(
    context: JobContext, found: DataFrame, model_ids: list[str], *, with_refitted: bool
) -> None:
    """Write the figures of models, and remove those that there are none of any more.

    Args:
        context: The job.
        found: Rows of `evaluations`.
        model_ids: Of which models they are.
        with_refitted: Whether figures of detectors trained anew are among them; else those that
            are there stay.
    """
    here = context.read_or_empty(EVALUATIONS).where(F.col("model_id").isin(model_ids))
    if not with_refitted:
        here = here.where(~F.col("measure").startswith(REFITTED))
    gone = here.join(found, list(EVALUATIONS.key), "left_anti")
    rows = found.withColumn("gone", F.lit(False)).unionByName(gone.withColumn("gone", F.lit(True)))
    context.merge(EVALUATIONS, rows, update=("value", "low", "high", "units", "anomalous"))


def _refitted(
    context: JobContext, models: Mapping[str, str]
) -> tuple[list[Evaluation], TrainingError | None]:
    """How detectors compare that are trained for each block anew, if settings ask for it.

    A block may have too little to train on; the others are told all the same.
    """
    settings = context.settings
    if not settings.evaluate.refit:
        return [], None
    trained: dict[str, str] = {name: models[name] for name in settings.detectors if name in models}
    try:
        found = refitted(context)
    except TrainingError as error:
        return [], error
    return compare_refitted(found, trained, settings.evaluate, settings.seed), None


def _members(context: JobContext, models: Mapping[str, str]) -> dict[str, str]:
    """Detector -> model id of the members of the ensemble; none if it is of other models."""
    if "ensemble" not in models:
        return {}
    card = json.loads(context.artefacts.read_file(f"models/{models['ensemble']}/card.json"))
    inside = card["settings"]["members"]
    members = {one.rpartition("-")[0]: one for one in inside}
    if set(inside) <= set(models.values()):
        return members
    context.reporter.say("what each member of the ensemble adds is not told: it holds other models")
    return {}


def _with_members_left_out(
    context: JobContext, units: DataFrame, models: Mapping[str, str], members: Mapping[str, str]
) -> DataFrame:
    if not members:
        return units
    model_id = models["ensemble"]
    ensemble = load_model(context.artefacts.root, model_id).detector
    assert isinstance(ensemble, EnsembleDetector), "a model's id begins with its detector"
    return units.unionByName(without_members(units, model_id, members, ensemble.combination))


def _doubt(context: JobContext) -> None:
    """Say how many labels cannot be what they should be."""
    if not context.lake.exists(LABELS):
        return
    units = context.read(sequences(context.settings.sequences.fields))
    found = doubtful_labels(context.read(LABELS), units)
    for name, meaning in (
        ("unmatched", "name no unit of `sequences`, nor an event or user of one"),
        ("early", "were known before what they name had begun: mend label.known_after"),
    ):
        context.rows_in[f"{name} labels"] = found[name]
        if found[name]:
            context.reporter.say(f"{found[name]:,} labels {meaning}")


def _tell(context: JobContext, model_id: str, comparison: str) -> None:
    """Put the comparison at the end of a model's card, here and in MLflow."""
    artefacts, settings = context.artefacts, context.settings
    card = artefacts.read_file(f"models/{model_id}/card.md").decode()
    told = with_comparison(card, comparison)
    artefacts.revise(model_id, "card.md", told.encode())
    revise(settings.tracking, context.lake.root, model_id, "card.md", told)


def _frame(context: JobContext, figures: Sequence[Evaluation]) -> DataFrame:
    return local_frame(context.spark, EVALUATIONS.schema(), [_row(figure) for figure in figures])


def _row(evaluation: Evaluation) -> dict[str, object]:
    figure = evaluation.figure
    return {
        "model_id": evaluation.model_id,
        "detector": evaluation.detector,
        "kind": evaluation.kind,
        "measure": evaluation.measure,
        "value": _defined(figure.value),
        "low": _defined(figure.low),
        "high": _defined(figure.high),
        "units": evaluation.units,
        "anomalous": evaluation.anomalous,
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
