"""From `scores` and `labels` to `evaluations`: the detectors compared on the test period."""

import math

from pyspark import StorageLevel

from habitus.domain.choosing import compare_over_time, page, verdict
from habitus.domain.evaluation import Evaluation, chosen, evaluate, histograms, kinds_of
from habitus.domain.labelling import doubtful_labels
from habitus.domain.reporting.console import detectors_table
from habitus.errors import ArtefactError
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import judged_units, models_in_use
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
        units = judged_units(context, models).persist(StorageLevel.DISK_ONLY)
        try:
            histogram = histograms(units, settings.evaluate.blocks).toPandas()
            choice = chosen(units, settings.alerts.budget_per_day).toPandas()
        finally:
            units.unpersist()
        first = histogram[histogram["model_id"] == next(iter(models.values()))]
        context.rows_in["test units"] = int(
            first.loc[first["kind"].isin(["all", "normal"]), "units"].sum()
        )
        found = evaluate(histogram, choice, models, settings.evaluate, settings.seed)
        compared = compare_over_time(histogram, models, settings.evaluate, settings.seed)
    _doubt(context)
    if not kinds_of(histogram):
        context.reporter.say("no label names a unit of the test period: nothing to compare")
    rows = [_row(evaluation) for evaluation in (*found, *compared)]
    frame = context.spark.createDataFrame(rows, EVALUATIONS.schema())
    context.merge(EVALUATIONS, frame, update=("value", "low", "high", "units", "anomalous"))
    if compared:
        context.reporter.show(detectors_table(found))
        context.reporter.say(verdict(compared))
        for model_id in models.values():
            content = page(found, compared).encode()
            context.artefacts.write_file(f"models/{model_id}/comparison.md", content)


def _doubt(context: JobContext) -> None:
    """Say how many labels cannot be what they should be."""
    if not context.lake.exists(LABELS):
        return
    units = context.read(sequences(context.settings.sequences.fields))
    found = doubtful_labels(context.read(LABELS), units).first()
    assert found is not None, "an aggregate without groups has one row"
    for name, meaning in (
        ("unmatched", "name no unit of `sequences`, nor an event or user of one"),
        ("early", "were known before what they name had begun: mend label.known_after"),
    ):
        context.rows_in[f"{name} labels"] = found[name]
        if found[name]:
            context.reporter.say(f"{found[name]:,} labels {meaning}")


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
