"""From `scores` and `labels` to `evaluations`: the detectors compared on the test period."""

import math

from pyspark import StorageLevel

from habitus.domain.evaluation import Evaluation, chosen, evaluate, histograms, kinds_of
from habitus.domain.reporting.console import detectors_table
from habitus.errors import ArtefactError
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import judged_units, models_in_use
from habitus.tables import EVALUATIONS


def run(context: JobContext) -> None:
    """Compare the models in use on the test units that all of them scored."""
    models = models_in_use(context)
    if not models:
        raise ArtefactError(
            f"{context.artefacts.root}/models", "there is no model", "Run `habitus train` first."
        )
    with context.reporter.step("judge the detectors by what is known"):
        units = judged_units(context, models).persist(StorageLevel.DISK_ONLY)
        try:
            histogram = histograms(units).toPandas()
            choice = chosen(units, context.settings.alerts.budget_per_day).toPandas()
        finally:
            units.unpersist()
        first = histogram[histogram["model_id"] == next(iter(models.values()))]
        context.rows_in["test units"] = int(
            first.loc[first["kind"].isin(["all", "normal"]), "units"].sum()
        )
        settings = context.settings
        found = evaluate(histogram, choice, models, settings.evaluate, settings.seed)
    if not kinds_of(histogram):
        context.reporter.say("no label names a unit of the test period: nothing to compare")
    rows = [_row(evaluation) for evaluation in found]
    frame = context.spark.createDataFrame(rows, EVALUATIONS.schema())
    context.merge(EVALUATIONS, frame, update=("value", "low", "high", "units", "anomalous"))
    if found:
        context.reporter.show(detectors_table(found))


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
