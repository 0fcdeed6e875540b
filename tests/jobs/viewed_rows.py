"""Flags, cases and days that BI tools read in tests."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
# Unit, user, day of January, p-value, severity, decision, suppressed by, status.
FLAGS = (
    ("a1", "ann", 1, 1e-6, "critical", "challenge", None, "open"),
    ("a2", "ann", 1, 1e-3, "medium", "watch", None, "confirmed"),
    ("b1", "bob", 1, 1e-2, "low", "watch", None, "dismissed"),
    ("b2", "bob", 2, 1e-4, "high", "challenge", None, "open"),
    ("c1", "cid", 2, 1e-3, "medium", "watch", "a friend", "open"),
    ("d1", "dan", 2, 1e-3, "medium", "allow", None, "open"),
    ("e1", "eve", 3, 1e-2, "low", "watch", None, "open"),
)
# Case, its units, status: what is said of a flag itself counts more than what is said of its case.
GROUPS = (("k1", ["b1", "b2"], "confirmed"), ("k2", ["e1"], "dismissed"), ("k3", ["a1"], "open"))
# Day of January, units, rare, suppressed, flagged, cut; the 3rd was flagged before days were kept.
DAYS = ((1, 100, 5, 0, 3, 2), (2, 90, 3, 1, 2, 0), (4, 80, 0, 0, 0, 0))


def flag_row(unit: tuple[Any, ...], model_id: str = "m-1") -> dict[str, Any]:
    unit_id, user_id, day, p_value, severity, decision, suppressed_by, status = unit
    time = NOON + timedelta(days=day - 1)
    return {
        "unit_kind": "session",
        "unit_id": unit_id,
        "user_id": user_id,
        "event_time": time,
        "score": 1.0,
        "p_value": p_value,
        "segment": "all",
        "severity": severity,
        "reasons": [],
        "summary": f"{unit_id}, as was found; it's strange.",
        "decision": decision,
        "decided_by": f"severity {severity}",
        "suppressed_by": suppressed_by,
        "status": status,
        "model_id": model_id,
        "run_id": "r",
        "scored_at": time,
        "event_date": time.date(),
    }


def case_row(case_id: str, unit_ids: list[str], status: str) -> dict[str, Any]:
    return {
        "case_id": case_id,
        "model_id": "m-1",
        "kind": "user",
        "started_at": NOON,
        "ended_at": NOON,
        "n_users": 1,
        "n_flags": len(unit_ids),
        "amount_sum": 0.0,
        "p_value": 0.01,
        "user_ids": ["ann"],
        "unit_ids": unit_ids,
        "shared": [],
        "summary": "A case.",
        "status": status,
        "run_id": "r",
        "made_at": NOON,
        "event_date": NOON.date(),
    }


def day_row(day: int, *counts: int) -> dict[str, Any]:
    names = ("units", "rare", "suppressed", "flagged", "cut")
    return {
        **dict(zip(names, counts, strict=True)),
        "model_id": "m-1",
        "unit_kind": "session",
        "event_date": date(2026, 1, day),
        "budget_per_day": 3,
        "false_positive_rate": 0.01,
        "false_discovery_rate": None,
        "cost_threshold": None,
        "precision_threshold": None,
        "counted_from": NOON,
        "counted_until": None,
        "run_id": "r",
        "scored_at": NOON,
    }
