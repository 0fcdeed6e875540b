"""The units that models judge, and what is known of them."""

from collections.abc import Iterable
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.evaluation import judged
from habitus.domain.labelling import unit_labels
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import ArtefactError, InputError
from habitus.jobs.frame import JobContext
from habitus.tables import LABELS, SCORES, sequences


def models_in_use(context: JobContext) -> dict[str, str]:
    """Detector -> model id, of the detectors in the settings that have been trained.

    Challengers, which score beside those, go by their own ids.
    """
    models = models_that_score(context)
    used = {name: models[name] for name in context.settings.detectors if name in models}
    challengers = set(context.settings.score.challengers) - set(used.values())
    return used | {model_id: model_id for model_id in sorted(challengers)}


def models_that_score(context: JobContext) -> dict[str, str]:
    """Detector -> model id, of all that have been trained: the newest, unless settings name one."""
    return context.artefacts.current() | context.settings.score.models


def flagging_model(context: JobContext) -> str:
    """The champion: the model whose scores become flags.

    Raises:
        ArtefactError: It has not been trained.
    """
    return model_of(context, context.settings.flagging_detector)


def model_of(context: JobContext, detector: str) -> str:
    """Id of the detector's model that scores.

    Raises:
        ArtefactError: It has not been trained.
    """
    model_id = models_that_score(context).get(detector)
    if model_id is None:
        raise ArtefactError(
            f"{context.artefacts.root}/models",
            f"no model of {detector}",
            "Run `habitus train` with it among detectors first.",
        )
    return model_id


def units_for(context: JobContext, models: Iterable[str], vocabulary: Vocabulary) -> DataFrame:
    """All rows of `sequences`, whose tokens are of the vocabulary that these models know.

    Raises:
        InputError: Some are of another, or there are none.
    """
    table, known = sequences(vocabulary.field_names), known_vocabulary(context, vocabulary)
    if known != vocabulary.vocabulary_id:
        found = "no row" if known is None else f"rows of the vocabulary {known}"
        raise InputError(
            context.lake.name(table),
            f"it has {found}; {', '.join(models)} can judge those of {vocabulary.vocabulary_id}",
            "Run `habitus features` and `habitus train` on the same settings.",
        )
    return context.read(table)


def known_vocabulary(context: JobContext, vocabulary: Vocabulary) -> str | None:
    """Id of the vocabulary that `sequences` are of: this one, or another that some are of.

    None where there is no row.
    """
    # Another vocabulary may be one of other fields: the id is read before any field is.
    ids = context.read(sequences(())).select("vocabulary_id")
    # Where all rows are as they should be, the least and greatest id of each file tell so.
    row = ids.where(F.col("vocabulary_id") != vocabulary.vocabulary_id).first() or ids.first()
    return None if row is None else str(row["vocabulary_id"])


def period_start(context: JobContext, vocabulary: Vocabulary) -> datetime:
    """When the scoring period begins."""
    return context.settings.score.from_time or vocabulary.split.validation_until


def in_period(context: JobContext, vocabulary: Vocabulary) -> Column:
    """Whether a unit ends in the scoring period."""
    ended, until = F.col("ended_at"), context.settings.score.until
    period = ended >= F.lit(period_start(context, vocabulary))
    return period if until is None else period & (ended < F.lit(until))


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
