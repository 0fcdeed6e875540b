"""From the rows of a label file to labels and rejected rows."""

from datetime import datetime

from pyspark.sql import DataFrame
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
