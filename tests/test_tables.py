"""The tables' declarations: the contract that readers rely on."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from habitus import tables
from habitus.jobs.plan import declared_tables
from habitus.loading import load_settings
from habitus.table import reference, with_fields

CONTRACT = {
    "events": "event_id user_id event_time action item_id category counterparty_id amount outcome "
    "device_id network channel session_hint attributes source ingested_at event_date",
    "events_rejected": "source raw reasons ingested_at",
    "labels": "unit_kind unit_id label kind known_at source",
    "sessions": "session_id user_id started_at ended_at duration_s n_events closed end_reason "
    "n_actions n_items amount_sum event_ids session_date",
    "features": "unit_kind unit_id user_id as_of",
    "sequences": "unit_id unit_kind user_id started_at n_events context event_date vocabulary_id",
    "scores": "unit_kind unit_id model_id user_id event_time score p_value segment scored_at "
    "event_date",
    "anomalies": "unit_kind unit_id model_id user_id event_time score p_value severity segment "
    "reasons summary decision suppressed_by status run_id scored_at event_date",
    "embeddings": "unit_kind unit_id user_id event_time ended_at model_id vector event_date",
    "neighbours": "unit_kind unit_id user_id event_time model_id of_user of_others event_date",
    "runs": "run_id job started_at ended_at status inputs outputs rows_in rows_out settings error",
}


@pytest.mark.plain
def test_every_column_of_the_contract_is_declared() -> None:
    declared = declared_tables(load_settings())

    for name, columns in CONTRACT.items():
        assert set(columns.split()) <= set(declared[name].names), name


@pytest.mark.plain
def test_every_column_says_what_it_means() -> None:
    for table in declared_tables(load_settings()).values():
        assert set(table.key) <= set(table.names)
        assert set(table.cluster_by) <= set(table.names)
        every = with_fields(table.columns)
        assert [name for name, column in every if not column.comment.endswith(".")] == []


@pytest.mark.plain
def test_every_field_of_a_struct_says_what_it_means_but_those_of_all_events() -> None:
    untold = [
        f"{table.name}.{name}"
        for table in declared_tables(load_settings()).values()
        for name, column in with_fields(table.columns)
        if "struct<" in column.type and not column.fields
    ]

    # With meanings in its type every event would be cast when sessions are merged.
    assert untold == ["sessions.events", "sessions.new_values"]


@pytest.mark.plain
def test_the_reference_lists_every_table_and_column() -> None:
    declared = declared_tables(load_settings()).values()
    text = reference(declared)

    for table in declared:
        assert f"### {table.name}" in text
        assert all(f"| `{name}` |" in text for name, _ in with_fields(table.columns))


@pytest.mark.spark
def test_faults_are_named(spark: SparkSession) -> None:
    given = StructType.fromDDL("rejected_id string, source int, raw string, more string")

    assert tables.EVENTS_REJECTED.faults(given) == [  # type: ignore[arg-type]
        "column 'source' is int, not string",
        "column 'reasons' is missing",
        "column 'ingested_at' is missing",
        "column 'more' is not declared",
    ]
