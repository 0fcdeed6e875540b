"""From `sessions` to `features`, and with a vocabulary to `sequences`."""

import math

from pyspark.sql import Column

from habitus.domain.features import feature_names
from habitus.domain.sequences import FILES_PER_WORKER, encode
from habitus.domain.split import resolve_split, unit_span
from habitus.domain.vocabulary import Vocabulary
from habitus.domain.vocabulary_fitting import fit_vocabulary
from habitus.jobs.feature_updates import bring_up_to_date
from habitus.jobs.frame import JobContext
from habitus.tables import SESSIONS, features, sequences

# About a hundred megabytes of sessions of a few dozen events: one row group.
_UNITS_PER_FILE = 100_000


def run(context: JobContext) -> None:
    """Bring the features up to date, learn the vocabulary, and encode all units."""
    sessions = context.read(SESSIONS)
    context.rows_in[SESSIONS.name] = sessions.count()
    vocabulary = learn_vocabulary(context)
    with context.reporter.step("compute features"):
        bring_up_to_date(context, features(vocabulary.context))
    write_sequences(context, vocabulary)


def learn_vocabulary(context: JobContext, where: Column | None = None) -> Vocabulary:
    """Learn, and store, what sessions of the training period hold: all, or those of a condition."""
    settings, sessions = context.settings, context.read(SESSIONS)
    names = feature_names(settings.features)
    split = resolve_split(settings.split, *unit_span(sessions, settings.unit))
    with context.reporter.step("learn the vocabulary"):
        known = sessions if where is None else sessions.where(where)
        vocabulary = fit_vocabulary(known, settings.sequences, settings.unit, names, split)
        context.artefacts.write_vocabulary(vocabulary)
    return vocabulary


def write_sequences(
    context: JobContext, vocabulary: Vocabulary, where: Column | None = None
) -> None:
    """Encode all units, or those for which a condition holds, with their features as they are."""
    settings, table = context.settings, features(vocabulary.context)
    with context.reporter.step("encode sequences"):
        written = context.read_now(table)
        units = written.count()
        files = max(FILES_PER_WORKER * settings.train.workers, math.ceil(units / _UNITS_PER_FILE))
        sessions = context.read(SESSIONS)
        encoded = encode(sessions, written, vocabulary, settings.sequences, files)
        chosen = encoded if where is None else encoded.where(where)
        context.overwrite(sequences(vocabulary.field_names), chosen)
