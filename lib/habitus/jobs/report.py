"""From the lake's tables to one HTML page, and to what a run shows at its end."""

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import reduce
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from rich.text import Text

from habitus.domain.evaluation import (
    ALL,
    MEASURES,
    NORMAL,
    Evaluation,
    counts,
    histograms,
    kinds_of,
)
from habitus.domain.metrics import Figure, precision_recall
from habitus.domain.reporting.console import detectors_table, flags_table, steps_table
from habitus.domain.reporting.data import (
    Curve,
    Model,
    ReportData,
    ScoreHistogram,
    Step,
    UnitSample,
)
from habitus.domain.reporting.page import render
from habitus.domain.totals import last_until, totals
from habitus.jobs.frame import JobContext, persisted
from habitus.jobs.judging import flagging_model, judged_units, models_in_use
from habitus.jobs.plan import declared_tables
from habitus.jobs.queue import queue
from habitus.jobs.shifts import strangest_shifts
from habitus.jobs.shown import by_day, hidden, outcomes, shown_flags
from habitus.tables import (
    ANOMALIES,
    EVALUATIONS,
    RUNS,
    SCORES,
    VOLUME_SHIFTS,
    sequences,
)

NAME = "reports/report.html"
_DAYS = 90
_STRANGEST = 10
_FLAGS_DRAWN = 1000
_SHIFTS = 50
_BINS = 60
_POINTS = 2000
_CURVE_POINTS = 400


def run(context: JobContext) -> None:
    """Gather what the report shows, write the page, and show the strangest on screen."""
    with context.reporter.step("gather and draw the report"):
        report = _gather(context)
        place = context.artefacts.write_file(NAME, render(report).encode())
    _show(context, report, place)


def _show(context: JobContext, report: ReportData, place: str) -> None:
    if report.flags:
        flags = sorted(report.flags, key=lambda flag: (flag.p_value, -flag.score))
        of = len(flags) if len(flags) < report.flags_in_all else None
        context.reporter.show(flags_table(flags[:_STRANGEST], report.unit_kind, of))
    if report.evaluations:
        context.reporter.show(detectors_table(report.evaluations))
    context.reporter.show(steps_table(report.steps))
    # As JSON, in which an address names no password.
    uri = context.settings.tracking.model_dump(mode="json")["uri"]
    tracking = uri or f"{context.lake.root}/mlruns"
    in_metastore = context.settings.lake.schema_name is not None
    table = context.lake.name(ANOMALIES) if in_metastore else f"{context.lake.root}/anomalies"
    context.reporter.show(
        Text.assemble(
            ("Report      ", "bold"),
            f"{place}\n",
            ("Tables      ", "bold"),
            f"{table} and beside it; `habitus tables` says what is in them\n",
            ("MLflow runs ", "bold"),
            f"{tracking}\n",
            ("Next        ", "bold"),
            "your own data: write a mapping like conf/sources/shop.yaml, then\n"
            "            habitus run --source MAPPING.yaml --input FILES --set lake.root=FOLDER",
        )
    )


def _gather(context: JobContext) -> ReportData:
    settings, alerts = context.settings, context.settings.alerts
    models = models_in_use(context)
    model_id = flagging_model(context)
    # What the model cannot score has a score that means nothing.
    scores = context.read(SCORES).where((F.col("model_id") == model_id) & F.col("note").isNull())
    anomalies = context.read(ANOMALIES).where(F.col("model_id") == model_id)
    strange = F.when(F.col("p_value") <= alerts.false_positive_rate, F.col("score"))
    span = totals(
        scores,
        F.count(F.lit(1)).alias("units"),
        F.min("event_date").alias("first"),
        last_until("event_date", context.started_at).alias("last"),
        F.min("score").alias("low"),
        F.max("score").alias("high"),
        F.min(strange).alias("threshold"),
    )
    since = F.lit(None if span["last"] is None else span["last"] - timedelta(days=_DAYS))
    anomalies = anomalies.where(F.col("event_date") > since)
    evaluations = _evaluations(context, models)
    with persisted(shown_flags(context, model_id, anomalies)) as flags:
        found = queue(context, model_id, flags)
        counted = flags.groupBy("event_date", "severity", "decision", "verdict").count().collect()
        scored = _histogram(scores, flags, span), _sample(context, scores, flags, span["units"])
    return ReportData(
        made_at=context.started_at,
        place=context.lake.root,
        unit_kind=settings.unit,
        detector=settings.flagging_detector,
        budget_per_day=alerts.budget_per_day,
        false_positive_rate=alerts.false_positive_rate,
        first_day=span["first"],
        last_day=span["last"],
        units=span["units"],
        days=_DAYS,
        has_cases=found.has_cases,
        cases=found.cases,
        cases_in_all=found.cases_in_all,
        flags=found.flags,
        flags_in_all=sum(row["count"] for row in counted),
        by_day=by_day(counted, "severity"),
        decisions_by_day=by_day(counted, "decision"),
        outcomes=outcomes(counted),
        hidden=hidden(anomalies),
        scores=scored[0],
        sample=scored[1],
        evaluations=evaluations,
        curves=_curves(context, models) if evaluations else (),
        models=tuple(_model(context, name, id_) for name, id_ in sorted(models.items())),
        shifts=strangest_shifts(context.read_or_empty(VOLUME_SHIFTS), _SHIFTS),
        steps=_steps(context),
        table_rows=_table_rows(context),
    )


def _table_rows(context: JobContext) -> Mapping[str, int]:
    """Table -> rows, of the tables that are there."""
    counts = [
        context.lake.read(table)
        .agg(F.count(F.lit(1)).alias("rows"))
        .withColumn("name", F.lit(name))
        for name, table in declared_tables(context.settings).items()
        if context.lake.exists(table)
    ]
    return {row["name"]: row["rows"] for row in reduce(DataFrame.union, counts).collect()}


def _histogram(scores: DataFrame, flags: DataFrame, span: Row) -> ScoreHistogram | None:
    if not span["units"]:
        return None
    low, high = span["low"], max(span["high"], span["low"] + 1e-9)
    place = F.least(F.lit(_BINS - 1), F.floor((F.col("score") - low) / (high - low) * _BINS))
    flagged = F.broadcast(flags.select("unit_id", F.lit(1).alias("flagged")))
    rows = (
        scores.join(flagged, "unit_id", "left")
        .groupBy(place.cast("int").alias("bin"))
        .agg(F.count(F.lit(1)).alias("units"), F.count("flagged").alias("flagged"))
        .collect()
    )
    units, chosen = np.zeros(_BINS), np.zeros(_BINS)
    for row in rows:
        units[row["bin"]], chosen[row["bin"]] = row["units"], row["flagged"]
    return ScoreHistogram(np.linspace(low, high, _BINS + 1), units, chosen, span["threshold"])


def _sample(context: JobContext, scores: DataFrame, flags: DataFrame, units: int) -> UnitSample:
    """Units chosen by a hash of their ids, so that the same lake shows the same points."""
    lengths = context.read(sequences(context.settings.sequences.fields)).select(
        "unit_id", "n_events"
    )
    flagged = F.broadcast(
        flags.orderBy("p_value", F.desc("score"), "unit_id")
        .limit(_FLAGS_DRAWN)
        .select("unit_id", F.lit(True).alias("flagged"))
    )
    drawn = F.pmod(F.xxhash64("unit_id"), F.lit(1_000_000)) < 1_000_000 * _POINTS / max(units, 1)
    points = (
        scores.join(flagged, "unit_id", "left")
        .where(F.col("flagged").isNotNull() | drawn)
        .join(lengths, "unit_id")
        .select("n_events", -F.log10("p_value"), F.col("flagged").isNotNull())
        .orderBy("unit_id")
        .collect()
    )
    columns = [np.array(column) for column in zip(*points, strict=True)] or [np.zeros(0)] * 3
    return UnitSample(columns[0].astype(float), columns[1].astype(float), columns[2].astype(bool))


def _evaluations(context: JobContext, models: Mapping[str, str]) -> tuple[Evaluation, ...]:
    if not context.lake.exists(EVALUATIONS):
        return ()
    order = {measure: index for index, measure in enumerate(MEASURES)}
    shown = F.col("model_id").isin(list(models.values())) & F.col("measure").isin(list(order))
    rows = context.read(EVALUATIONS).where(shown).collect()
    rows.sort(key=lambda row: (row["detector"], row["kind"], order[row["measure"]]))
    names = ("model_id", "detector", "kind", "measure", "units", "anomalous")
    return tuple(
        Evaluation(
            figure=Figure(*(_number(row[name]) for name in ("value", "low", "high"))),
            **{name: row[name] for name in names},
        )
        for row in rows
    )


def _curves(context: JobContext, models: dict[str, str]) -> tuple[Curve, ...]:
    histogram = histograms(judged_units(context, models), context.started_at).toPandas()
    curves = []
    for detector, model_id in sorted(models.items()):
        rows = histogram[histogram["model_id"] == model_id]
        if not kinds_of(rows):
            continue
        anomalous, normal = counts(rows, ALL), counts(rows, NORMAL)
        precision, recall = precision_recall(anomalous, normal)
        there = np.flatnonzero((anomalous + normal) > 0)
        kept = there[np.unique(np.linspace(0, len(there) - 1, _CURVE_POINTS).astype(int))]
        share = anomalous.sum() / (anomalous.sum() + normal.sum())
        curves.append(Curve(detector, precision[kept], recall[kept], float(share)))
    return tuple(curves)


def _model(context: JobContext, detector: str, model_id: str) -> Model:
    files = context.artefacts.read(model_id)
    epochs = json.loads(files["card.json"])["epochs"]
    names = [name for name in (epochs[0] if epochs else {}) if name.endswith("loss")]
    history = {name: tuple(epoch[name] for epoch in epochs) for name in names}
    return Model(model_id, detector, files["card.md"].decode(), history)


def _steps(context: JobContext) -> tuple[Step, ...]:
    """The last finished run of every job."""
    done = context.read(RUNS).where(F.col("status") == "done")
    last = done.groupBy("job").agg(F.max_by(F.struct("*"), "started_at").alias("run"))
    rows = last.select("run.*").orderBy("started_at").collect()
    return tuple(
        Step(
            job=row["job"],
            seconds=(row["ended_at"] - row["started_at"]).total_seconds(),
            rows_in=row["rows_in"],
            rows_out=row["rows_out"],
        )
        for row in rows
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
