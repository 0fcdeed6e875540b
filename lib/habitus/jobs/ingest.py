"""From source files to `events`, `events_rejected` and `labels`."""

from datetime import datetime

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.events import (
    CORRUPT,
    file_labels,
    judge,
    rejected_rows,
    row_labels,
    valid_events,
)
from habitus.domain.mapping import LabelFileMapping, SourceMapping, load_mapping
from habitus.edges.spark_errors import SPARK_ERRORS, spark_says, understood
from habitus.errors import ClusterError, HabitusError, InputError, SettingsError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS, EVENTS_REJECTED, LABELS


def run(context: JobContext) -> None:
    """Ingest one input; rows that are there already are counted as duplicates."""
    source, path = context.arguments.source, context.arguments.input
    if source is None or path is None:
        raise SettingsError("ingest", "no source or no input", "Give --source and --input.")
    mapping = load_mapping(source)
    judged = _judge(_read(context, mapping, path), mapping, source, context)
    labels = None
    if mapping.label_file is not None:
        labels = _file_labels(context, mapping.label_file, mapping.name, source, path)
    # Rows are parsed and judged once, for the counts, the rejected, the events and the labels.
    judged = judged.persist()
    try:
        with context.reporter.step("read and judge the rows"):
            read = _count_useful(judged, source, path)
        context.rows_in["source"] = read
        with context.reporter.step("write events, rejected rows and labels"):
            rejected = context.merge(EVENTS_REJECTED, rejected_rows(judged))
            events = context.merge(EVENTS, valid_events(judged))
            _write_labels(context, mapping, judged, labels)
    finally:
        judged.unpersist()
    context.rows_out["duplicates"] = read - events - rejected
    context.reporter.say(
        f"{read:,} rows read = {events:,} events + {rejected:,} rejected "
        f"+ {read - events - rejected:,} duplicates"
    )


def _read(context: JobContext, mapping: SourceMapping, path: str) -> DataFrame:
    reader = context.spark.read.format(mapping.format).options(**mapping.options)
    place = f"{path.rstrip('/')}/{mapping.path}".rstrip("/")
    try:
        if mapping.format == "csv":
            return _read_csv(context, mapping, place)
        if mapping.columns_in is not None:
            reader = reader.schema(_with_corrupt(mapping.columns_in, mapping.format))
        return reader.load(place)
    except SPARK_ERRORS as error:
        raise _unreadable(place, error) from error


def _read_csv(context: JobContext, mapping: SourceMapping, place: str) -> DataFrame:
    # All columns arrive as text and the mapping converts them, so that a malformed value rejects
    # its row; a row with too few or too many columns lands in the corrupt column.
    reader = context.spark.read.options(**mapping.options)
    if mapping.columns_in is not None:
        schema = mapping.columns_in
    else:
        schema = ", ".join(f"`{name}` string" for name in reader.csv(place).columns)
    if not schema:
        raise InputError(place, "the input is empty", "Give files with rows.")
    schema = _with_corrupt(schema, mapping.format)
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "enforceSchema": "true"}
    return reader.options(**options).schema(schema).csv(place)


def _with_corrupt(schema: str, format_: str) -> str:
    """The columns, and for formats of text the one that malformed records land in."""
    return f"{schema}, {CORRUPT} string" if format_ in ("csv", "json") else schema


def _judge(rows: DataFrame, mapping: SourceMapping, source: str, context: JobContext) -> DataFrame:
    try:
        return judge(rows, mapping, context.started_at)
    except AnalysisException as error:
        raise _bad_expression(rows, mapping, source, error) from error


def _bad_expression(
    rows: DataFrame, mapping: SourceMapping, source: str, error: AnalysisException
) -> HabitusError:
    """Find the expression that Spark refused, and say which it is."""
    expressions = {f"columns.{name}": text for name, text in mapping.columns.items()}
    if mapping.label:
        expressions |= {"label.value": mapping.label.value, "label.kind": mapping.label.kind}
    for name, condition in mapping.valid.items():
        alone = mapping.model_copy(update={"valid": {name: condition}})
        try:
            judge(rows, alone, datetime.min)
        except SPARK_ERRORS as cause:
            return SettingsError(
                f"{source}: valid.{name}",
                f"{condition!r} does not work on events: {spark_says(cause)}",
                "Mend the condition; it may use the columns of events.",
            )
    return _refused(rows, expressions, source, error)


def _refused(
    rows: DataFrame, expressions: dict[str, str], source: str, error: AnalysisException
) -> HabitusError:
    names = ", ".join(name for name in rows.columns if name != CORRUPT)
    for name, text in expressions.items():
        try:
            rows.select(F.expr(text))
        except SPARK_ERRORS as cause:
            return SettingsError(
                f"{source}: {name}",
                f"{text!r} does not work on this source: {spark_says(cause)}",
                f"Mend the expression; the source has the columns {names}.",
            )
    return SettingsError(source, f"does not fit the source: {spark_says(error)}", "Mend it.")


def _count_useful(judged: DataFrame, source: str, path: str) -> int:
    valid = F.count(F.when(F.size("_reasons") == 0, 1))
    try:
        counts = judged.agg(F.count(F.lit(1)).alias("read"), valid.alias("valid")).first()
    except SPARK_ERRORS as error:
        # Only now are the rows read: a file in the middle may be cut short or of another format.
        raise _unreadable(path, error) from error
    assert counts is not None, "an aggregate without groups has one row"
    if counts["read"] == 0:
        raise InputError(path, "the input is empty", "Give files with rows.")
    if counts["valid"] == 0:
        reason = judged.select(F.explode("_reasons").alias("reason")).groupBy("reason").count()
        worst = reason.orderBy(F.desc("count"), "reason").limit(3).collect()
        causes = ", ".join(f"{row['reason']} ({row['count']:,})" for row in worst)
        raise InputError(
            path,
            f"none of {counts['read']:,} rows is a valid event: {causes}",
            f"Mend the mapping {source} or give the files it is for. Nothing was written.",
        )
    return int(counts["read"])


def _write_labels(
    context: JobContext, mapping: SourceMapping, judged: DataFrame, from_files: DataFrame | None
) -> None:
    changing = ("label", "kind", "source")
    if mapping.label is not None:
        context.merge(LABELS, row_labels(judged, mapping), changing)
    if from_files is not None:
        context.merge(LABELS, from_files, changing)


def _file_labels(
    context: JobContext, mapping: LabelFileMapping, name: str, source: str, path: str
) -> DataFrame:
    place = f"{path.rstrip('/')}/{mapping.path}"
    try:
        rows = context.spark.read.format(mapping.format).options(**mapping.options).load(place)
    except SPARK_ERRORS as error:
        raise _unreadable(place, error) from error
    try:
        return file_labels(rows, mapping, name)
    except AnalysisException as error:
        columns = {f"label_file.columns.{key}": text for key, text in mapping.columns.items()}
        raise _refused(rows, columns, source, error) from error


def _unreadable(place: str, error: Exception) -> HabitusError:
    known = understood(error)
    if isinstance(known, ClusterError):
        return known
    if isinstance(error, AnalysisException) and error.getCondition() == "PATH_NOT_FOUND":
        return InputError(place, "no such file or folder", "Give the path of the source's files.")
    return InputError(place, f"not readable: {spark_says(error)}", "Give files of the format.")
