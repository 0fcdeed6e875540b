"""`features`, as far as what is new in `sessions` and `labels` changes them."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.feature_changes import (
    longest_window,
    units_before_and_after,
    units_to_compute,
)
from habitus.domain.features import compute_features, needs_labels
from habitus.domain.totals import totals
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.increments import Made, changes_since, made_before, source
from habitus.setting_types import UnitKind
from habitus.table import Table
from habitus.tables import LABELS, SESSIONS

# To be raised when the code makes other features of the same sessions by the same settings.
_PASS = 1


def bring_up_to_date(context: JobContext, table: Table) -> None:
    """Compute the features that changed, or all."""
    labels = context.read_or_empty(LABELS)
    # Before the note is: what another run writes in between is then seen.
    version = context.lake.version(table) if context.lake.exists(table) else None
    before = made_before(context, table, _rule(context))
    sources = _made(context).sources
    if before is not None and before.sources.keys() != sources.keys():
        before = None
    changes = changes_since(context, before, SESSIONS)
    new_labels: DataFrame | None = labels.limit(0)
    if LABELS.name in sources:
        new_labels = changes_since(context, before, LABELS, only_added=True)
    if version is None or changes is None or new_labels is None:
        _compute_all(context, table, labels)
        return
    times = changes.select(F.col("started_at").alias("at")).unionByName(
        new_labels.select(F.col("known_at").alias("at"))
    )
    told = totals(times, F.count(F.lit(1)).alias("rows"), F.min("at").alias("first"))
    # Sessions that were all made anew are all there twice, as they were and are.
    if told["rows"] > context.read(SESSIONS).count():
        _compute_all(context, table, labels)
    elif told["rows"]:
        since = told["first"]
        with persisted(changes):
            _merge(context, table, version, changes, labels, new_labels, since)


def _compute_all(context: JobContext, table: Table, labels: DataFrame) -> None:
    settings = context.settings
    sessions = context.read(SESSIONS)
    computed = compute_features(sessions, labels, settings.features, settings.unit)
    context.overwrite(table, computed, _made(context).model_dump_json())


def _merge(
    context: JobContext,
    table: Table,
    version: int,
    changes: DataFrame,
    labels: DataFrame,
    new_labels: DataFrame,
    since: datetime,
) -> None:
    """Compute the features of units that what is new since a time may change."""
    declared, unit = context.settings.features, context.settings.unit
    sessions = context.read(SESSIONS)
    # A label may be of an event of any age; else nothing before the longest window matters.
    recent = history = sessions
    if not needs_labels(declared):
        recent = sessions.where(F.col("ended_at") >= F.lit(since))
        history = sessions.where(F.col("ended_at") >= F.lit(since - longest_window(declared)))
    chosen = units_to_compute(changes, recent, labels, new_labels, declared, unit)
    with persisted(chosen):
        computed = compute_features(history, labels, declared, unit, chosen)
        context.merge(
            table,
            _with_gone(computed, changes, unit),
            update=tuple(name for name in table.names if name not in table.key),
            where=f"old.as_of >= TIMESTAMP'{since.isoformat()}'",
            note=_made(context, version).model_dump_json(),
            made_from=version,
        )


def _with_gone(computed: DataFrame, changes: DataFrame, unit: UnitKind) -> DataFrame:
    gone = units_before_and_after(changes, unit).where("gone")
    return computed.withColumn("gone", F.lit(False)).unionByName(
        gone.select(F.lit(unit).alias("unit_kind"), "unit_id", "user_id", "gone"),
        allowMissingColumns=True,
    )


def _made(context: JobContext, based_on: int | None = None) -> Made:
    """What this run makes the features from."""
    tables = [SESSIONS]
    if needs_labels(context.settings.features) and LABELS.name in context.inputs:
        tables.append(LABELS)
    return Made(
        sources={table.name: source(context, table) for table in tables},
        rule=_rule(context),
        run=context.run_id,
        based_on=based_on,
    )


def _rule(context: JobContext) -> str:
    settings = context.settings
    declared = [one.model_dump_json() for one in settings.features]
    return f"{_PASS} {settings.unit} {' '.join(declared)}"
