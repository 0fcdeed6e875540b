"""From the rows of a label file to labels and rejected rows."""

from datetime import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from habitus.domain.events import is_malformed, of_type
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
    """What a source says that it had not said before.

    A source that is read again may have changed its mind, of which nobody knew before it was read.

    Args:
        said: Rows of `labels` of one source, by what it now says of each time.
        known: Rows of `labels` that are there.
        told_at: When the source was read.

    Returns:
        Rows of `labels`, to be merged: where `said` goes on after what the source said last of a
        unit, each change of its word as it is; where it ends by then, and with another word than
        that, this word, which is known when it was told.
    """
    unit = ["source", "unit_kind", "unit_id"]
    word = F.struct("label", "kind")
    last = (
        known.join(said.select(*unit).distinct(), unit, "left_semi")
        .groupBy(*unit)
        .agg(F.max_by(word, "known_at").alias("last"), F.max("known_at").alias("last_at"))
    )
    in_order = Window.partitionBy(*unit).orderBy("known_at")
    told = said.join(last, unit, "left").withColumns(
        {
            "goes_on": F.coalesce(F.col("known_at") > F.col("last_at"), F.lit(True)),
            "is_final": F.lead("known_at").over(in_order).isNull(),
        }
    )
    before = F.when(F.lag("goes_on").over(in_order), F.lag(word).over(in_order))
    told = told.withColumn("is_changed", ~word.eqNullSafe(F.coalesce(before, "last")))
    retold_at = F.greatest("last_at", F.lit(told_at))
    return (
        told.where("is_changed and (goes_on or is_final)")
        .withColumn("known_at", F.when(F.col("goes_on"), F.col("known_at")).otherwise(retold_at))
        .select(*LABELS.names)
    )
