"""The test units of the models in use, with what is known of them."""

from pyspark.sql import DataFrame

from habitus.domain.evaluation import judged
from habitus.domain.labelling import unit_labels
from habitus.jobs.frame import JobContext
from habitus.tables import LABELS, SCORES, sequences


def models_in_use(context: JobContext) -> dict[str, str]:
    """Detector -> model id, of the detectors in the settings that have been trained."""
    current = context.artefacts.current()
    return {name: current[name] for name in context.settings.detectors if name in current}


def judged_units(context: JobContext, models: dict[str, str]) -> DataFrame:
    """The units of the test period that all these models have scored, see `evaluation.judged`."""
    units = context.read(sequences(context.settings.sequences.fields))
    known = units.select("vocabulary_id").first()
    scores = context.read(SCORES)
    if known is None:
        return judged(scores, units, _labels(context, units), models.values(), context.started_at)
    split = context.artefacts.read_vocabulary(known["vocabulary_id"]).split
    labels = _labels(context, units)
    return judged(scores, units, labels, models.values(), split.validation_until)


def _labels(context: JobContext, units: DataFrame) -> DataFrame:
    return unit_labels(context.read_or_empty(LABELS), units)
