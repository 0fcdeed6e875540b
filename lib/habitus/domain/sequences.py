"""Units as arrays of tokens, under a vocabulary.

A session unit is the events of the session; where a cap cut it off from what came before, it begins
with the last events before the cut, as history. An event unit is the user's last N events up to and
including the one that is judged. Tokens are as `habitus.domain.vocabulary` says.
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.event_fields import of_user, text, user_events, with_gaps
from habitus.domain.vocabulary import (
    FIRST_VALUE,
    MISSING,
    PADDING,
    RARE,
    FieldVocabulary,
    Vocabulary,
)
from habitus.setting_types import UnitKind
from habitus.unit_settings import SequenceSettings

# Files that training can share out evenly, and shuffle among.
FILES_PER_WORKER = 4


def encode(
    sessions: DataFrame,
    features: DataFrame,
    vocabulary: Vocabulary,
    settings: SequenceSettings,
    partitions: int,
) -> DataFrame:
    """All units as arrays; columns as in `tables.sequences(vocabulary.field_names)`.

    Units come in the order of a hash, so that neighbours in a file are of different users and
    times, as training wants them.

    Args:
        sessions: As in `tables.SESSIONS`.
        features: As in `tables.features(vocabulary.context)`, of the same sessions.
        vocabulary: What the tokens mean.
        settings: How long the history is.
        partitions: Into how many parts, at least, the units are spread; where
            `spark.sql.shuffle.partitions` is more, Spark takes that for its join.
    """
    parts = None
    if vocabulary.unit_kind == "session":
        units = _session_units(sessions, vocabulary)
        parts = _later_parts(sessions, vocabulary, settings.history)
    else:
        units = _event_units(sessions, vocabulary, settings.history)
    unknown = F.lit(float("nan")).cast("float")
    context = F.array(*(F.coalesce(F.col(n).cast("float"), unknown) for n in vocabulary.context))
    known = features.select("unit_id", context.cast("array<float>").alias("context"))
    # One shuffle of the units serves the joins and the spreading.
    joined = units.repartition(partitions, "unit_id").join(known, "unit_id", "left")
    if parts is not None:
        longer = {name: F.coalesce(f"with_{name}", name) for name in ("encoded", "scored_from")}
        joined = joined.join(parts, "unit_id", "left").withColumns(longer)
    joined = joined.sortWithinPartitions(F.xxhash64("unit_id"))
    encoded = joined.select(
        "unit_id",
        F.lit(vocabulary.unit_kind).alias("unit_kind"),
        "user_id",
        "started_at",
        "ended_at",
        F.size("encoded").alias("n_events"),
        "scored_from",
        "closed",
        *(F.col(f"encoded.{name}").alias(name) for name in vocabulary.field_names),
        "encoded.amounts",
        "encoded.gaps",
        F.coalesce("context", F.array_repeat(unknown, len(vocabulary.context))).alias("context"),
        F.col("encoded.event_id").alias("event_ids"),
        F.col("encoded.event_time").alias("event_times"),
        F.to_date("started_at").alias("event_date"),
        F.lit(vocabulary.vocabulary_id).alias("vocabulary_id"),
    )
    # Kept, so that scoring tells what is new without reading all that it hashes.
    return encoded.withColumn("fingerprint", F.xxhash64(*encoded.columns))


def _session_units(sessions: DataFrame, vocabulary: Vocabulary) -> DataFrame:
    return sessions.select(
        F.col("session_id").alias("unit_id"),
        "user_id",
        "started_at",
        "ended_at",
        # What a cap cut goes on: nobody meant it to end there.
        (F.col("closed") & (F.col("end_reason") != "cap")).alias("closed"),
        F.lit(0).alias("scored_from"),
        _all_encoded(vocabulary).alias("encoded"),
    )


def _later_parts(sessions: DataFrame, vocabulary: Vocabulary, history: int) -> DataFrame:
    """Of sessions that a cap cut off from what came before: `unit_id`, and they with history.

    Few sessions are `heavy`, so that these alone are put in order, and not the others.
    """
    in_order = Window.partitionBy("user_id", "session_hint").orderBy(
        "started_at", F.get("event_ids", F.lit(0))
    )
    before = F.lag("events").over(in_order)
    last = F.slice(before, F.greatest(F.size(before) - history + 1, F.lit(1)), history)
    return (
        sessions.where("heavy")
        .withColumn("cut", F.lag("end_reason").over(in_order) == "cap")
        .withColumn("before", last)
        .where("cut")
        .withColumn("events", F.concat("before", "events"))
        .select(
            F.col("session_id").alias("unit_id"),
            _all_encoded(vocabulary).alias("with_encoded"),
            F.size("before").alias("with_scored_from"),
        )
    )


def _event_units(sessions: DataFrame, vocabulary: Vocabulary, history: int) -> DataFrame:
    events = user_events(sessions).withColumn("one", _encoded(F.col("event"), vocabulary))
    recent = of_user().rowsBetween(-(history - 1), 0)
    encoded = F.collect_list("one").over(recent)
    time = F.col("event.event_time")
    return events.select(
        F.col("event.event_id").alias("unit_id"),
        "user_id",
        time.alias("started_at"),
        time.alias("ended_at"),
        F.lit(False).alias("closed"),
        encoded.alias("encoded"),
    ).withColumn("scored_from", F.size("encoded") - 1)


def _all_encoded(vocabulary: Vocabulary) -> Column:
    """The array of events, encoded one after the other."""
    return F.transform(with_gaps("events"), lambda event: _encoded(event, vocabulary))


def _encoded(event: Column, vocabulary: Vocabulary) -> Column:
    """One event: its tokens, and the raw values that detectors read beside them."""
    return F.struct(
        *(
            _token(field, event, vocabulary.unit_kind).alias(field.name)
            for field in vocabulary.fields
        ),
        F.coalesce(event["amount"], F.lit(0.0)).cast("float").alias("amounts"),
        F.coalesce(event["gap"], F.lit(0.0)).cast("float").alias("gaps"),
        event["event_id"].alias("event_id"),
        event["event_time"].alias("event_time"),
    )


def _token(field: FieldVocabulary, event: Column, unit_kind: UnitKind) -> Column:
    if field.name == "hour":
        hour = F.pmod(F.floor(F.unix_seconds(event["event_time"]) / 3600), F.lit(24))
        token = (hour + FIRST_VALUE).cast("int")
        # Within a session the hour follows from the gaps: only its first event's is told.
        follows = F.lit(unit_kind == "session") & event["gap"].isNotNull()
        return F.when(follows, PADDING).otherwise(token)
    if field.kind == "bins":
        number = event[field.name]
        none = PADDING if field.name == "gap" else MISSING
        return F.when(number.isNull(), none).otherwise(_bin(field.bounds, number, FIRST_VALUE))
    # array_position counts from 1 and gives 0 for what is not there.
    values = F.array(*(F.lit(value) for value in field.values)).cast("array<string>")
    position = F.array_position(values, text(field.name, event))
    return F.coalesce(position + RARE, F.lit(MISSING)).cast("int")


def _bin(bounds: Sequence[float], number: Column, first: int) -> Column:
    """The token of a number by bisection: `first` + how many bounds are not above it."""
    if not bounds:
        return F.lit(first)
    middle = len(bounds) // 2
    return F.when(number < bounds[middle], _bin(bounds[:middle], number, first)).otherwise(
        _bin(bounds[middle + 1 :], number, first + middle + 1)
    )
