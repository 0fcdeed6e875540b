"""What BI tools were promised, word for word."""

import pytest

from habitus.table import reference
from habitus.tables import ANOMALIES, CASES, FLAG_DAYS
from habitus.views import VIEWS

pytestmark = pytest.mark.plain

# Whoever changes what is promised gives it a new version, in both places; the others have 1.
VERSIONS = {"flag_days": 2, "daily_counts": 2}
PROMISED = {
    "anomalies": "unit_kind string, unit_id string, user_id string, event_time timestamp, score "
    "double, p_value double, segment string, severity string, reasons array<struct<rank: "
    "int, event_index: int, event_id: string, event_time: timestamp, field: string, "
    "observed: string, expected: array<struct<value: string, probability: double>>, "
    "surprise: double, share: double, against: string>>, summary string, decision string, "
    "decided_by string, suppressed_by string, status string, model_id string, run_id string, "
    "scored_at timestamp, event_date date",
    "flag_days": "model_id string, unit_kind string, event_date date, units bigint, rare bigint, "
    "suppressed bigint, flagged bigint, cut bigint, budget_per_day int, "
    "false_positive_rate double, false_discovery_rate double, cost_threshold double, "
    "precision_threshold double, counted_from timestamp, counted_until timestamp, run_id string, "
    "scored_at timestamp",
    "cases": "case_id string, model_id string, kind string, started_at timestamp, ended_at "
    "timestamp, n_users int, n_flags int, amount_sum double, p_value double, user_ids "
    "array<string>, unit_ids array<string>, shared array<struct<kind: string, value: "
    "string, users: bigint, flagged_users: bigint>>, summary string, status string, "
    "run_id string, made_at timestamp, event_date date",
    "shown_flags": "model_id string, unit_kind string, unit_id string, user_id string, event_time "
    "timestamp, event_date date, score double, p_value double, severity string, segment "
    "string, decision string, decided_by string, summary string, verdict string",
    "daily_counts": "event_date date, model_id string, unit_kind string, units bigint, "
    "rare bigint, "
    "suppressed bigint, cut bigint, budget_per_day int, flags bigint, users bigint, "
    "critical bigint, high bigint, medium bigint, low bigint, confirmed bigint, dismissed"
    " bigint",
    "users_at_risk": "model_id string, user_id string, flags bigint, confirmed bigint, "
    "p_value double, "
    "severity string, decision string, summary string, first_at timestamp, last_at "
    "timestamp",
    "precision_by_decision": "model_id string, decision string, flags bigint, "
    "reviewed bigint, confirmed bigint, "
    "precision double",
}


def test_what_is_promised_has_not_changed_within_its_version() -> None:
    declared = (ANOMALIES, FLAG_DAYS, CASES, *VIEWS)

    versions = dict.fromkeys(PROMISED, 1) | VERSIONS
    assert {table.name: table.contract for table in declared} == versions
    assert {
        table.name: ", ".join(f"{column.name} {column.type}" for column in table.columns)
        for table in declared
    } == PROMISED


def test_what_a_view_has_from_a_table_means_the_same_there() -> None:
    tables = {"shown_flags": ANOMALIES, "daily_counts": FLAG_DAYS}

    for view in VIEWS:
        if view.name in tables:
            shared = [name for name in view.names if name in tables[view.name].names]
            assert view.some(*shared) == tables[view.name].some(*shared)


def test_every_column_of_a_view_says_what_it_means() -> None:
    text = reference(VIEWS)

    for view in VIEWS:
        assert set(view.key) <= set(view.names)
        assert [column.name for column in view.columns if not column.comment.endswith(".")] == []
        assert f"### {view.name}" in text
