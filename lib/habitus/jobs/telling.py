"""Flagged units told event by event."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from habitus.domain.detectors.base import Reason
from habitus.domain.reporting.cases import CaseEvent
from habitus.domain.units import Units
from habitus.domain.wording import in_cents
from habitus.edges.models import load_model
from habitus.edges.spark import local_frame
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import units_for
from habitus.tables import EVENTS

# In the order of their use to a reader: a narrow page cuts the last ones off.
_DETAILS = ("amount", "outcome", "item_id", "category", "counterparty_id")
_STEADY = ("device_id", "network")  # said only where they change
_DELETED = "deleted since"


@dataclass(frozen=True)
class Told:
    """A unit's reasons, the strongest first, and its events."""

    reasons: tuple[Reason, ...]
    events: tuple[CaseEvent, ...]


def told(context: JobContext, model_id: str, unit_ids: Sequence[str]) -> dict[str, Told]:
    """Tell these few units in full: every event, and what of it surprised the model how much.

    Raises:
        InputError: The units are in words that the model does not know.
    """
    model = load_model(context.artefacts.root, model_id)
    table = units_for(context, [model_id], model.vocabulary)
    arrow = table.where(F.col("unit_id").isin(list(unit_ids))).toArrow()
    units = Units.from_arrow(arrow, model.vocabulary.field_names)
    most = int(units.lengths.max(initial=0)) * len(model.vocabulary.fields) + 1
    rows = arrow.select(["unit_id", "event_ids", "event_times", "scored_from"]).to_pylist()
    happened = _events(context, rows)
    return {
        row["unit_id"]: Told(tuple(reasons), _case_events(row, reasons, happened))
        for row, reasons in zip(rows, model.detector.explain(units, most), strict=True)
    }


def _events(context: JobContext, rows: Sequence[dict[str, Any]]) -> dict[str, Row]:
    """The units' events by id, read from their days only."""
    if not rows:
        return {}
    pairs = {
        (event_id, time.date())
        for row in rows
        for event_id, time in zip(row["event_ids"], row["event_times"], strict=True)
    }
    days = sorted({day for _, day in pairs})
    wanted = local_frame(
        context.spark, "event_id string", ({"event_id": event_id} for event_id, _ in pairs)
    )
    found = (
        context.read(EVENTS)
        .where(F.col("event_date").between(days[0], days[-1]))
        .join(F.broadcast(wanted), "event_id")
    )
    return {row["event_id"]: row for row in found.collect()}


def _case_events(
    row: dict[str, Any], reasons: Sequence[Reason], happened: dict[str, Row]
) -> tuple[CaseEvent, ...]:
    bits: dict[int, dict[str, float]] = defaultdict(dict)
    for reason in reasons:
        # A count beside those of peers is told at an event, but is no event's own surprise.
        if reason.event_index is not None and reason.against != "peers":
            bits[reason.event_index][reason.field] = reason.surprise
    # One that was deleted since, at its user's wish perhaps, is told of by its time and surprise.
    events = [happened.get(event_id) for event_id in row["event_ids"]]
    return tuple(
        CaseEvent(
            time=time,
            action=_DELETED if event is None else event["action"],
            detail="" if event is None else _detail(event, before),
            judged=index >= row["scored_from"],
            surprise=bits[index],
            amount=None if event is None else event["amount"],
        )
        for index, (event, before, time) in enumerate(
            zip(events, [None, *events[:-1]], row["event_times"], strict=True)
        )
    )


def _detail(event: Row, before: Row | None) -> str:
    changed = [name for name in _STEADY if before is None or event[name] != before[name]]
    values = [event[name] for name in (*_DETAILS, *changed) if event[name] is not None]
    return ", ".join(
        in_cents(value) if isinstance(value, float) else str(value) for value in values
    )
