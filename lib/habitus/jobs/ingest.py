"""From source files to `events`, `events_rejected` and `labels`."""

from contextlib import ExitStack
from datetime import datetime, timedelta

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.events import (
    judge,
    others_ids,
    rejected_rows,
    row_labels,
    spans,
    valid_events,
    where_known,
)
from habitus.domain.label_rows import CHANGING, news, valid_labels
from habitus.domain.mapping import SourceMapping, load_mapping
from habitus.domain.totals import totals
from habitus.edges.spark_errors import SPARK_ERRORS, spark_says
from habitus.errors import HabitusError, SettingsError
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.source_files import (
    count_rejected,
    count_useful,
    read_csv,
    read_labels,
    refused,
    unreadable,
    with_corrupt,
)
from habitus.tables import EVENTS, EVENTS_REJECTED, LABELS

# Clocks of sources may be wrong by hours, and by a time zone.
_AHEAD = timedelta(days=1)
# What is missing is the year 1900, 1970 or 2000 in some systems.
_LONG_AGO = timedelta(days=3652)


def run(context: JobContext) -> None:
    """Ingest one input; rows that are there already are counted as duplicates."""
    source, path = context.arguments.source, context.arguments.input
    if source is None or path is None:
        raise SettingsError("ingest", "no source or no input", "Give --source and --input.")
    mapping = load_mapping(source)
    judged = _judge(_read(context, mapping, path), mapping, source, context)
    labels = None
    if mapping.label_file is not None:
        labels = read_labels(context, mapping.label_file, mapping.name, source, path)
    # Rows are parsed and judged once, for the counts, the rejected, the events and the labels.
    with ExitStack() as kept:
        for frame in (judged, labels):
            if frame is not None:
                kept.enter_context(persisted(frame))
        with context.reporter.step("read and judge the rows"):
            times = spans(_long_ago(context), context.started_at + _AHEAD)
            counts = count_useful(judged, "a valid event", source, path, times)
            lost = 0 if labels is None else count_rejected(labels, path)
        context.rows_in["source"] = read = counts["read"]
        _tell_times(context, counts)
        with context.reporter.step("write events, rejected rows and labels"):
            rejected = context.merge(EVENTS_REJECTED, rejected_rows(judged))
            where = where_known(mapping, counts["first"], counts["last"])
            events = context.merge(EVENTS, valid_events(judged), where=where)
            _write_labels(context, mapping, judged, labels, lost)
        context.rows_out["duplicates"] = duplicates = read - events - rejected
        context.reporter.say(
            f"{read:,} rows read = {events:,} events + {rejected:,} rejected "
            f"+ {duplicates:,} duplicates"
        )
        if counts["valid"] > events and "event_id" in mapping.columns:
            _tell_others_ids(context, judged)


def _tell_times(context: JobContext, counts: Row) -> None:
    """Say which events are of a time to come, or of one long past, as few are of a history.

    A single one ends every session before it, or is what training begins with.
    """
    if counts["after"]:
        context.rows_in["events of a time to come"] = counts["after"]
        context.reporter.say(
            f"{counts['after']:,} events are of a time to come, the last of {counts['last']}: they "
            "end sessions and move the split. Where a source's clock is wrong, reject them in the "
            "mapping, valid: {not_ahead: event_time < current_timestamp() + interval 1 day}"
        )
    if 0 < counts["before"] < counts["valid"] / 2:
        context.rows_in["events long past"] = counts["before"]
        context.reporter.say(
            f"{counts['before']:,} events are more than ten years old, the first of "
            f"{counts['first']}: they move the split, unless split.train_until and "
            "split.validation_until are dates. Where that is no time, reject them in the mapping, "
            f"valid: {{not_long_ago: event_time >= timestamp'{_long_ago(context):%Y-%m-%d}'}}"
        )


def _long_ago(context: JobContext) -> datetime:
    return context.started_at - _LONG_AGO


def _tell_others_ids(context: JobContext, judged: DataFrame) -> None:
    """Say how many rows were duplicates by their id only, as two sources may count alike."""
    found = totals(
        others_ids(judged, context.read_now(EVENTS)),
        F.count(F.lit(1)).alias("rows"),
        F.min(F.struct("event_id", "row", "event")).alias("one"),
    )
    if found["rows"]:
        context.rows_out["duplicates of another event"] = found["rows"]
        own, kept = (
            f"of {one['user_id']!r} at {one['event_time']:%Y-%m-%d %H:%M:%S} from {one['source']}"
            for one in (found["one"]["row"], found["one"]["event"])
        )
        context.reporter.say(
            f"{found['rows']:,} of the duplicates are other events, as event_id "
            f"{found['one']['event_id']!r} is one {own} here, and is kept as one {kept}. Where ids "
            "are not the same in all sources, map them apart: event_id: concat('orders-', id)"
        )


def _read(context: JobContext, mapping: SourceMapping, path: str) -> DataFrame:
    reader = context.spark.read.format(mapping.format).options(**mapping.options)
    place = f"{path.rstrip('/')}/{mapping.path}".rstrip("/")
    try:
        if mapping.format == "csv":
            return read_csv(context, place, mapping.options, mapping.columns_in)
        if mapping.columns_in is not None:
            is_text = mapping.format == "json"
            reader = reader.schema(
                with_corrupt(mapping.columns_in) if is_text else mapping.columns_in
            )
        return reader.load(place)
    except SPARK_ERRORS as error:
        raise unreadable(place, error) from error


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
    try:
        judge(rows, mapping.model_copy(update={"valid": {}}), datetime.min)
    except SPARK_ERRORS:
        return refused(rows, expressions, source, error)
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
    return refused(rows, expressions, source, error)


def _write_labels(
    context: JobContext,
    mapping: SourceMapping,
    judged: DataFrame,
    from_files: DataFrame | None,
    lost: int,
) -> None:
    """Write the labels that events and files have; so many rows of the files are none."""
    if mapping.label is not None:
        said = row_labels(judged, mapping)
        context.merge(
            LABELS, news(said, context.read_or_empty(LABELS), context.started_at), CHANGING
        )
    if from_files is not None:
        context.merge(LABELS, valid_labels(from_files), CHANGING)
        if lost:
            context.merge(EVENTS_REJECTED, rejected_rows(from_files))
            context.reporter.say(
                f"{lost:,} rows of the label files are no labels; `events_rejected` says why"
            )
