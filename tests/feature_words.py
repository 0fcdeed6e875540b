"""Features by their definition: plain loops over all events, slow and obvious."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from habitus.unit_settings import FeatureSettings

Row = dict[str, Any]
# How many seconds ago a label became known, what it says, its event's amount.
Known = tuple[float, bool, float | None]
COLUMN_OF = {
    "user": "user_id",
    "counterparty": "counterparty_id",
    "device": "device_id",
    "network": "network",
    "item": "item_id",
    "action": "action",
    "category": "category",
    "outcome": "outcome",
    "channel": "channel",
}


def values(
    declared: FeatureSettings,
    window: timedelta,
    place: tuple[datetime, str],
    amount: float | None,
    of_entity: Sequence[Row],
    labels: Sequence[Row],
) -> dict[str, float | None]:
    """Each measure of one unit.

    Args:
        declared: What is declared.
        window: One of its windows.
        place: The unit's time and event.
        amount: The unit's amount.
        of_entity: All events of its entity, in any order.
        labels: All labels.
    """
    time = place[0]
    before = [
        row
        for row in of_entity
        if time - window <= row["event_time"] and (row["event_time"], row["event_id"]) < place
    ]
    described, inside = (
        [row for row in rows if all(row[name] == told for name, told in declared.where.items())]
        for rows in (of_entity, before)
    )
    of = [row[COLUMN_OF[declared.of]] for row in inside] if declared.of else []
    counts = Counter(one for one in of if one is not None)
    known = known_labels(time, window, described, labels)
    return {
        measure: _value(measure, time, amount, before, inside, counts, known)
        for measure in declared.measures
    }


def _value(
    measure: str,
    time: datetime,
    amount: float | None,
    before: Sequence[Row],
    inside: Sequence[Row],
    counts: Counter[str],
    known: Sequence[Known],
) -> float | None:
    """One measure: `inside` are the events before it that are described, `known` their labels."""
    amounts = [row["amount"] for row in inside if row["amount"] is not None]
    anomalies = [ago for ago, says, _ in known if says]
    match measure:
        case "count":
            return len(inside)
        case "sum":
            return math.fsum(amounts)
        case "mean":
            return statistics.fmean(amounts) if amounts else None
        case "max":
            return max(amounts, default=None)
        case "median":
            return statistics.median(amounts) if amounts else None
        case "peak":
            middle = statistics.median(amounts) if amounts else 0
            return max(amounts) / middle if middle else None
        case "distinct":
            return len(counts)
        case "entropy":
            shares = [n / counts.total() for n in counts.values()]
            return -sum(share * math.log2(share) for share in shares) if shares else None
        case "share":
            return len(inside) / len(before) if before else None
        case "since_last":
            pauses = [(time - row["event_time"]).total_seconds() for row in inside]
            return min(pauses, default=None)
        case "new":
            return float(not inside)
        case "ratio":
            mean = statistics.fmean(amounts) if amounts else 0
            return amount / mean if amount is not None and mean else None
        case "multiple":
            middle = statistics.median(amounts) if amounts else 0
            return amount / middle if amount is not None and middle else None
        case "zscore":
            deviation = statistics.pstdev(amounts) if amounts else 0
            if amount is None or not deviation:
                return None
            return (amount - statistics.fmean(amounts)) / deviation
        case "risk":
            return statistics.fmean(says for _, says, _ in known) if known else None
        case "anomalies":
            return len(anomalies)
        case "anomalous_mean":
            paid = [paid for _, says, paid in known if says and paid is not None]
            return statistics.fmean(paid) if paid else None
        case "since_anomaly":
            return min(anomalies, default=None)
        case "since_first_anomaly":
            return max(anomalies, default=None)
    raise AssertionError(measure)


def known_labels(
    time: datetime, window: timedelta, described: Sequence[Row], labels: Sequence[Row]
) -> list[Known]:
    """The labels that became known within the window."""
    events = {row["event_id"]: row for row in described}
    known = [
        (time - max(row["known_at"], of["event_time"]), row["label"], of["amount"])
        for row in labels
        if row["unit_kind"] == "event" and (of := events.get(row["unit_id"]))
    ]
    return [
        (ago.total_seconds(), says, amount)
        for ago, says, amount in known
        if timedelta(0) < ago <= window
    ]
