"""What ingest and feedback share: label files, and what may be wrong with a source's files."""

import re
from collections.abc import Mapping, Sequence

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.events import CORRUPT
from habitus.domain.label_rows import judge_labels
from habitus.domain.mapping import LabelFileMapping
from habitus.domain.totals import totals
from habitus.edges.spark_errors import SPARK_ERRORS, spark_says, understood
from habitus.errors import ClusterError, HabitusError, InputError, SettingsError
from habitus.jobs.frame import JobContext

# What Spark says of a CSV file whose header is not the schema's: the first file's.
_HEADER = re.compile(
    r"(?:Expected: (?P<expected>[^\n]*) but found: (?P<found>[^\n]*)"
    r"|Header length: (?P<columns>\d+), schema size: (?P<others>\d+))\nCSV file: (?P<file>\S+)"
)


def read_labels(
    context: JobContext, mapping: LabelFileMapping, name: str, source: str, path: str
) -> DataFrame:
    """The rows of a label file, judged, see `label_rows.judge_labels`.

    Args:
        context: The job.
        mapping: What the columns mean.
        name: Of the source.
        source: The mapping's file.
        path: Of the source's files.

    Raises:
        InputError: The file is missing or unreadable.
        SettingsError: An expression is none over its columns.
    """
    place = f"{path.rstrip('/')}/{mapping.path}".rstrip("/")
    try:
        if mapping.format == "csv":
            rows = read_csv(context, place, mapping.options)
        else:
            rows = context.spark.read.format(mapping.format).options(**mapping.options).load(place)
    except SPARK_ERRORS as error:
        raise unreadable(place, error) from error
    try:
        return judge_labels(rows, mapping, name, context.started_at)
    except AnalysisException as error:
        columns = {f"label_file.columns.{key}": text for key, text in mapping.columns.items()}
        raise refused(rows, columns, source, error) from error


def read_csv(
    context: JobContext, place: str, options: Mapping[str, str], schema: str | None = None
) -> DataFrame:
    """The rows of CSV files.

    All columns are text unless the schema says otherwise, so that a malformed value rejects its
    row; a row with too few or too many columns lands in the corrupt column. A file whose header is
    another one, or in another order, is refused rather than read as if it had the first one's. So
    would be one with a column that has no name, as the row numbers that pandas writes: then headers
    are not compared, nor where the options set `enforceSchema`.

    Args:
        context: The job.
        place: The files.
        options: Of the reader.
        schema: The columns as Spark DDL; none: those that the first file's header names.

    Raises:
        InputError: There is no row.
    """
    reader = context.spark.read.options(**options)
    named = True
    if schema is None:
        names = reader.csv(place).columns
        named = all(name != f"_c{index}" for index, name in enumerate(names))
        schema = ", ".join(f"`{name}` string" for name in names)
    if not schema:
        raise InputError(place, "the input is empty", "Give files with rows.")
    checked = {
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        "enforceSchema": options.get("enforceSchema", str(not named).lower()),
    }
    return reader.options(**checked).schema(with_corrupt(schema)).csv(place)


def with_corrupt(schema: str) -> str:
    """The columns, and the one that malformed records land in."""
    return f"{schema}, {CORRUPT} string"


def refused(
    rows: DataFrame, expressions: Mapping[str, str], source: str, error: AnalysisException
) -> HabitusError:
    """Find the expression over a source's columns that Spark refused, and say which it is."""
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


def unreadable(place: str, error: Exception) -> HabitusError:
    """Say why files could not be read."""
    known = understood(error)
    if isinstance(known, ClusterError):
        return known
    if header := _HEADER.search(str(error)):
        return _other_header(header)
    if isinstance(error, AnalysisException) and error.getCondition() == "PATH_NOT_FOUND":
        return InputError(place, "no such file or folder", "Give the path of the source's files.")
    return InputError(place, f"not readable: {spark_says(error)}", "Give files of the format.")


def _other_header(header: re.Match[str]) -> InputError:
    problem = (
        f"its header has {header['found']!r} where the mapping's schema, or the header of another "
        f"file, has {header['expected']!r}"
        if header["found"] is not None
        else f"its header has {header['columns']} columns, and the mapping's schema, or the header "
        f"of another file, {header['others']}"
    )
    mend = "Give files of the same columns in the same order together, others by themselves."
    return InputError(header["file"], problem, mend)


def count_useful(
    judged: DataFrame, what: str, source: str, path: str, more: Sequence[Column] = ()
) -> Row:
    """How many rows of a source are `read`, and how many are `valid`.

    Args:
        judged: Its rows, with the `_reasons` why each is not what it should be.
        what: What it should be, like "a valid event".
        source: The mapping's file.
        path: Of the source's files.
        more: What else is told of all rows.

    Raises:
        InputError: There are none, they cannot be read, or none is what it should be.
    """
    read, valid = F.count(F.lit(1)).alias("read"), F.count_if(F.size("_reasons") == 0)
    counts = _counted(judged, path, read, valid.alias("valid"), *more)
    if counts["read"] == 0:
        raise InputError(path, "the input is empty", "Give files with rows.")
    if counts["valid"] == 0:
        reason = judged.select(F.explode("_reasons").alias("reason")).groupBy("reason").count()
        worst = reason.orderBy(F.desc("count"), "reason").limit(3).collect()
        causes = ", ".join(f"{row['reason']} ({row['count']:,})" for row in worst)
        raise InputError(
            path,
            f"none of {counts['read']:,} rows is {what}: {causes}",
            f"Mend the mapping {source} or give the files it is for. Nothing was written.",
        )
    return counts


def count_rejected(judged: DataFrame, path: str) -> int:
    """How many rows of a source are not what they should be, of which there may be any number.

    Raises:
        InputError: They cannot be read.
    """
    rejected = F.count_if(F.size("_reasons") > 0)
    return int(_counted(judged, path, rejected.alias("rejected"))["rejected"])


def _counted(judged: DataFrame, path: str, *counts: Column) -> Row:
    try:
        return totals(judged, *counts)
    except SPARK_ERRORS as error:
        # Only now are the rows read: a file in the middle may be cut short or of another format.
        raise unreadable(path, error) from error
