"""From a source's rows to canonical events, rejected rows and labels."""

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from habitus.domain.mapping import REQUIRED, SourceMapping
from habitus.tables import EVENTS, EVENTS_REJECTED, LABELS

CORRUPT = "_corrupt_record"
# Beyond, sums of amounts are no longer exact to a millionth; nothing costs as much.
_MOST_AMOUNT = 1e15
_RAW, _REASONS, _LABEL, _LABEL_KIND = "_raw", "_reasons", "_label", "_label_kind"
# A separator no text holds, so that ("ab", "c") and ("a", "bc") differ.
_SEPARATOR, _ABSENT = "\x1f", "\x00"
_IDENTITY = [
    name
    for name in EVENTS.names
    if name not in ("event_id", "attributes", "source", "ingested_at", "event_date")
]


def judge(rows: DataFrame, mapping: SourceMapping, ingested_at: datetime) -> DataFrame:
    """Add to every source row its canonical columns and the reasons why it is no event.

    Args:
        rows: The source's rows; a column `_corrupt_record`, if any, marks malformed ones.
        mapping: What the columns mean and what is valid.
        ingested_at: Start of the run.

    Returns:
        The columns of `events`, and `_raw` (the row as JSON), `_reasons` (array<string>, empty
        for a valid row), `_label` and `_label_kind`.
    """
    source = F.to_json(F.struct(*[F.col(f"`{name}`") for name in rows.columns]))
    mapped = rows.select(
        source.alias(_RAW),
        is_malformed(rows).alias("_bad"),
        _label(mapping),
        F.expr(mapping.label.kind if mapping.label else "null").cast("string").alias(_LABEL_KIND),
        _malformed(mapping).alias("_malformed"),
        *(_canonical(name, type_, mapping) for name, type_ in _types().items()),
    )
    identified = mapped.withColumns(
        {
            "event_id": F.coalesce("event_id", _hash(mapping.name, _IDENTITY)),
            "attributes": F.coalesce("attributes", F.expr("map()").cast("map<string,string>")),
            "source": F.lit(mapping.name),
            "ingested_at": F.lit(ingested_at),
            "event_date": F.to_date("event_time"),
        }
    )
    return identified.select(
        *EVENTS.names, _RAW, _reasons(mapping).alias(_REASONS), _LABEL, _LABEL_KIND
    )


def is_malformed(rows: DataFrame) -> Column:
    """Whether a source's row could not be read as a record."""
    return F.col(CORRUPT).isNotNull() if CORRUPT in rows.columns else F.lit(False)


def of_type(value: Column, type_: str) -> Column:
    """A source's value as a column's type; none where it is no such value.

    Spark's times go on for 290,000 years, such as those of milliseconds taken for seconds; what
    Python and other readers cannot hold in every time zone is no time, nor is the year 1, with
    which some systems say that there is none. Of text what is around it is cut off, and bytes that
    are none become the sign for that, as what reads text in Python would stop at them.
    """
    value = value.cast(type_)
    if type_ == "string":
        return F.nullif(F.trim(F.make_valid_utf8(value)), F.lit(""))
    return F.when(F.year(value).between(2, 9998), value) if type_ == "timestamp" else value


def valid_events(judged: DataFrame) -> DataFrame:
    """The valid rows as `events`, each `event_id` once.

    Of rows with the same id the first by content is kept, so that the choice does not hang on
    the order of the input.
    """
    content = F.struct(*[F.col(name).cast("string") for name in _IDENTITY], F.to_json("attributes"))
    rest = [name for name in EVENTS.names if name != "event_id"]
    chosen = F.min_by(F.struct(*rest), content).alias("chosen")
    unique = _valid(judged).groupBy("event_id").agg(chosen)
    return unique.select("event_id", *(F.col(f"chosen.{name}") for name in rest)).select(
        *EVENTS.names
    )


def spans(earliest: datetime, latest: datetime) -> tuple[Column, ...]:
    """When valid rows' events are, and how many are of a time that is perhaps none.

    Returns:
        Aggregates: the `first` and the `last` time as text, and how many are `before` the earliest
        and `after` the latest.
    """
    time = F.when(F.size(_REASONS) == 0, F.col("event_time"))
    return (
        F.min(time).cast("string").alias("first"),
        F.max(time).cast("string").alias("last"),
        F.count_if(time < F.lit(earliest)).alias("before"),
        F.count_if(time > F.lit(latest)).alias("after"),
    )


def where_known(mapping: SourceMapping, first: str, last: str) -> str:
    """A condition on `events`, as `old`, that holds for all that a source's rows may repeat.

    An id may be any event's; one that is made of what a row says is only of its day.

    Args:
        mapping: The source's.
        first: Time of the rows' first event, see `spans`.
        last: Of their last.
    """
    if "event_id" in mapping.columns:
        return "true"
    return f"old.event_date BETWEEN DATE'{first:.10}' AND DATE'{last:.10}'"


def others_ids(judged: DataFrame, events: DataFrame) -> DataFrame:
    """The valid rows that have the id of another event, of which one alone can be kept.

    Args:
        judged: See `judge`.
        events: Rows of `events`.

    Returns:
        `event_id`, and in `row` and `event` the `source`, `user_id` and `event_time` of either.
    """
    told = F.struct("source", "user_id", "event_time")
    rows = _valid(judged).select("event_id", told.alias("row"))
    return rows.join(events.select("event_id", told.alias("event")), "event_id").where(
        F.col("row") != F.col("event")
    )


def rejected_rows(judged: DataFrame) -> DataFrame:
    """The rows that are no events, or no labels, as `events_rejected`, each once."""
    rejected = judged.where(F.size(_REASONS) > 0)
    return (
        rejected.withColumn("rejected_id", F.md5(F.concat_ws(_SEPARATOR, "source", _RAW)))
        .select(
            "rejected_id",
            "source",
            F.col(_RAW).alias("raw"),
            F.col(_REASONS).alias("reasons"),
            "ingested_at",
        )
        .dropDuplicates(["rejected_id"])
        .select(*EVENTS_REJECTED.names)
    )


def row_labels(judged: DataFrame, mapping: SourceMapping) -> DataFrame:
    """The labels that valid rows carry, as `labels`, each event, or user and time, once.

    Of several rows of one, a row that says anomalous is enough. The source's sessions are not ours:
    what a row says of one is said of its event, which marks the session that holds it.
    """
    assert mapping.label is not None, "the mapping has labels"
    delay = F.lit(mapping.label.known_after)
    kind = "user" if mapping.label.unit_kind == "user" else "event"
    labelled = _valid(judged).where(F.col(_LABEL).isNotNull())
    of_one = [F.col(f"{kind}_id").alias("unit_id")]
    if kind == "user":
        of_one.append(F.col("event_time"))
    return (
        labelled.groupBy(*of_one)
        .agg(
            F.max(_LABEL).alias("label"),
            F.max(F.when(F.col(_LABEL), F.col(_LABEL_KIND))).alias("kind"),
            (F.max("event_time") + delay).alias("known_at"),
        )
        .withColumns({"unit_kind": F.lit(kind), "source": F.lit(mapping.name)})
        .select(*LABELS.names)
    )


def _types() -> dict[str, str]:
    derived = ("source", "ingested_at", "event_date")
    return {column.name: column.type for column in EVENTS.columns if column.name not in derived}


def _canonical(name: str, type_: str, mapping: SourceMapping) -> Column:
    value = of_type(F.expr(mapping.columns.get(name, "null")), type_)
    if type_ == "double":
        value = F.when(~F.isnan(value), value)  # some formats write what is missing as NaN
    if name == "action":
        value = F.lower(value)
    return value.alias(name)


def _malformed(mapping: SourceMapping) -> Column:
    """Reasons for values that are there but do not have the column's type."""
    typed = {name: type_ for name, type_ in _types().items() if type_ != "string"}
    given = {name: F.expr(mapping.columns[name]) for name in typed if name in mapping.columns}
    return F.array_compact(
        F.array(
            *[
                F.when(value.isNotNull() & _unfit(value, typed[name]), f"{name}_malformed")
                for name, value in given.items()
                if name not in REQUIRED
            ]
        )
    )


def _unfit(value: Column, type_: str) -> Column:
    typed = value.cast(type_)
    if type_ == "double":
        # To Spark NaN is larger than any number; it says that the amount is missing.
        return typed.isNull() | (~F.isnan(typed) & (F.abs(typed) > _MOST_AMOUNT))
    return typed.isNull()


def _label(mapping: SourceMapping) -> Column:
    return F.expr(mapping.label.value if mapping.label else "null").cast("boolean").alias(_LABEL)


def _hash(source: str, columns: list[str]) -> Column:
    parts = [F.coalesce(F.col(name).cast("string"), F.lit(_ABSENT)) for name in columns]
    return F.md5(F.concat_ws(_SEPARATOR, F.lit(source), *parts))


def _reasons(mapping: SourceMapping) -> Column:
    rules = [F.when(F.col("_bad"), F.lit("malformed_record"))]
    rules += [
        F.when(F.col(name).isNull(), F.lit(f"{name}_missing_or_malformed")) for name in REQUIRED
    ]
    # A condition that is null (its column is absent in this row) is not broken.
    rules += [
        F.when(~F.coalesce(F.expr(condition), F.lit(True)), F.lit(name))
        for name, condition in mapping.valid.items()
    ]
    return F.concat(F.array_compact(F.array(*rules)), "_malformed")


def _valid(judged: DataFrame) -> DataFrame:
    return judged.where(F.size(_REASONS) == 0)
