"""From the rows of a label file to labels and rejected rows."""

from datetime import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.events import is_malformed, of_type
from habitus.domain.joining import whole_if_few
from habitus.domain.mapping import LabelFileMapping
from habitus.tables import LABELS

# What makes a label another one than that which is there by the same key.
CHANGING = ("label", "kind", "source")
_RAW, _REASONS = "_raw", "_reasons"
_KINDS = ("event", "session", "user")


def judge_labels(
    rows: DataFrame, mapping: LabelFileMapping, source: str, ingested_at: datetime
) -> DataFrame:
    """Add to every row of a label file what it says, and the reasons why it is no label.

    Args:
        rows: The file's rows; a column `_corrupt_record`, if any, marks malformed ones.
        mapping: What its columns mean.
        source: Name of the source.
        ingested_at: Start of the run.

    Returns:
        The columns of `labels`, `ingested_at`, `_raw` (the row as JSON) and `_reasons`
        (array<string>, empty for a label), as `events.rejected_rows` takes them.
    """
    raw = F.to_json(F.struct(*[F.col(f"`{name}`") for name in rows.columns]))
    given = [column for column in LABELS.columns if column.name != "source"]
    values = [
        of_type(F.expr(mapping.columns.get(column.name, "null")), column.type).alias(column.name)
        for column in given
    ]
    mapped = rows.select(*values, raw.alias(_RAW), is_malformed(rows).alias("_bad"))
    reasons = [F.when(F.col("_bad"), F.lit("malformed_record"))]
    reasons += [
        F.when(F.col(column.name).isNull(), F.lit(f"{column.name}_missing_or_malformed"))
        for column in given
        if column.required
    ]
    reasons.append(F.when(~F.col("unit_kind").isin(*_KINDS), F.lit("unit_kind_is_known")))
    return mapped.select(
        *(column.name for column in given),
        F.lit(source).alias("source"),
        F.lit(ingested_at).alias("ingested_at"),
        _RAW,
        F.array_compact(F.array(*reasons)).alias(_REASONS),
    )


def valid_labels(judged: DataFrame) -> DataFrame:
    """The labels among rows from `judge_labels`, as `labels`, each key once.

    Of rows that name the same unit at the same time, one that says anomalous is enough.
    """
    rest = ["label", *(name for name in LABELS.names if name not in {*LABELS.key, "label"})]
    return (
        judged.where(F.size(_REASONS) == 0)
        .groupBy(*LABELS.key)
        # What one row says stays together; the greatest is one with a label that is true.
        .agg(F.max(F.struct(*rest)).alias("said"))
        .select(*LABELS.key, "said.*")
        .select(*LABELS.names)
    )


def news(said: DataFrame, known: DataFrame, told_at: datetime) -> DataFrame:
    """What a source's rows say that they had not said before.

    Rows that are read again are no news, even those of before a change of mind. Where they say
    otherwise than before, nobody knew of it until they were read.

    Args:
        said: Rows of `labels` of one source, as `events.row_labels` makes them.
        known: Rows of `labels` that are there.
        told_at: When the source was read.

    Returns:
        Rows of `labels`, to be merged: those of a time (of an event: those of an event) of which
        the source has said nothing as they are; and of a unit whose latest row says otherwise than
        it did, and than the source said last, this word as known when it was told. A label of
        another source at the same time stays.
    """
    unit, word = ["unit_kind", "unit_id"], F.struct("label", "kind")
    there = known.join(whole_if_few(said.select(*unit).distinct()), unit, "left_semi")
    before = there.groupBy("source", *unit).agg(
        F.max_by(word, "known_at").alias("last"),
        F.max("known_at").alias("last_at"),
        F.min("known_at").alias("first_at"),
    )
    # An event has one label, wherever a delay that was set otherwise, or another time, puts it.
    place = F.when(F.col("unit_kind") == "event", F.col("first_at"))
    placed = said.join(before, ["source", *unit], "left").withColumns(
        {
            "known_at": F.coalesce(place, "known_at"),
            "is_latest": F.lead("known_at")
            .over(Window.partitionBy(*unit).orderBy("known_at"))
            .isNull(),
        }
    )
    then = there.select(*unit, "known_at", word.alias("then"), F.col("source").alias("by"))
    told = placed.join(then, [*unit, "known_at"], "left")
    is_new = F.col("by").isNull()
    differs = (word != F.col("then")) & (word != F.col("last"))
    changed = (F.col("by") == F.col("source")) & F.col("is_latest") & differs
    retold_at = F.greatest("last_at", F.lit(told_at))
    return (
        told.where(is_new | changed)
        .withColumn("known_at", F.when(is_new, F.col("known_at")).otherwise(retold_at))
        .select(*LABELS.names)
    )
