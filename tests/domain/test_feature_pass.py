"""Features of sorted histories are what their definition says, however batches are cut."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from event_streams import START, event, labelled_streams
from feature_words import COLUMN_OF, values
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.feature_pass import Feature, with_features
from habitus.domain.features import LABEL_MEASURES
from habitus.unit_settings import FeatureSettings

pytestmark = pytest.mark.plain

Row = dict[str, Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAILED = "outcome = failure"
LABELS = tuple(sorted(LABEL_MEASURES))
DECLARED = (
    FeatureSettings(
        entity="user",
        windows=(HOUR, DAY),
        measures=("count", "sum", "mean", "max", "since_last", "new", "ratio", "zscore"),
    ),
    FeatureSettings(entity="user", windows=(HOUR, DAY), measures=("median", "peak", "multiple")),
    FeatureSettings(
        entity="user",
        windows=(HOUR, DAY),
        measures=("count", "max", "median", "share", "distinct", "entropy", "since_last", "zscore"),
        of="device",
        where={"outcome": "failure"},
    ),
    FeatureSettings(
        entity="user",
        windows=(timedelta(minutes=10),),
        measures=("distinct", "entropy"),
        of="category",
    ),
    FeatureSettings(entity="user", windows=(HOUR, DAY), measures=LABELS),
    FeatureSettings(entity="user", windows=(HOUR,), measures=LABELS, where={"outcome": "failure"}),
)
FEATURES = [
    Feature(
        f"{measure} {number} {window}",
        measure,
        window // timedelta(microseconds=1),
        COLUMN_OF[declared.of] if declared.of else None,
        FAILED if declared.where else None,
    )
    for number, declared in enumerate(DECLARED)
    for window in declared.windows
    for measure in declared.measures
]
SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("user_id", pa.string()),
        ("at", pa.int64()),
        ("happened", pa.bool_()),
        ("amount", pa.float64()),
        ("label", pa.bool_()),
        ("device_id", pa.string()),
        ("category", pa.string()),
        (FAILED, pa.bool_()),
    ]
)


def history(events: Sequence[Row], labels: Sequence[Row] = ()) -> pa.RecordBatch:
    """Sorted rows of users' histories: the events, each of which asks for itself, and labels."""
    by_id = {row["event_id"]: row for row in events}
    told = [
        by_id[one["unit_id"]]
        | {
            "event_time": max(one["known_at"], by_id[one["unit_id"]]["event_time"]),
            "happened": False,
            "label": one["label"],
        }
        for one in labels
    ]
    asking = [row | {"unit_id": row["event_id"], "happened": True} for row in events]
    rows = [
        row
        | {
            "at": (row["event_time"] - START) // timedelta(microseconds=1),
            FAILED: None if row["outcome"] is None else row["outcome"] == "failure",
        }
        for row in sorted(
            [*told, *asking],
            key=lambda e: (e["user_id"], e["event_time"], e["event_id"], e["happened"]),
        )
    ]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def found(
    batches: Sequence[pa.RecordBatch], features: Sequence[Feature] = FEATURES, at_once: int = 1
) -> dict[str, Row]:
    answers = [
        row
        for batch in with_features(batches, ["user_id"], features, at_once)
        for row in batch.to_pylist()
    ]
    by_unit = {row["unit_id"]: row for row in answers}
    assert len(by_unit) == len(answers)
    return by_unit


@given(stream=labelled_streams(size=40), data=st.data())
def test_every_measure_is_what_its_definition_says(
    stream: tuple[list[Row], list[Row]], data: st.DataObject
) -> None:
    events, labels = stream
    rows = history(events, labels)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows.num_rows), max_size=5)))
    batches = [
        rows.slice(start, end - start)
        for start, end in zip([0, *cuts], [*cuts, rows.num_rows], strict=True)
    ]
    answers = found(batches, at_once=data.draw(st.integers(1, 10)))
    assert answers.keys() == {row["event_id"] for row in events}
    for row in events:
        of_user = [other for other in events if other["user_id"] == row["user_id"]]
        place = (row["event_time"], row["event_id"])
        for number, declared in enumerate(DECLARED):
            for window in declared.windows:
                wanted = values(declared, window, place, row["amount"], of_user, labels)
                for measure, one in wanted.items():
                    name = f"{measure} {number} {window}"
                    near = None if one is None else pytest.approx(one, rel=1e-6, abs=1e-6)
                    assert answers[row["event_id"]][name] == near, (row["event_id"], name)


def test_an_event_sees_those_of_its_microsecond_that_come_before_it_in_order() -> None:
    events = [event("ann", 0, name) for name in ("b", "a", "c")]
    counts = {unit: row[f"count 0 {HOUR}"] for unit, row in found([history(events)]).items()}
    assert counts == {"a": 0, "b": 1, "c": 2}


def test_sums_stay_exact_after_amounts_of_very_different_size() -> None:
    amounts = [1e12, 0.01, 0.02, 0.03]
    events = [event("ann", n * 7200, f"e{n}", amount=amount) for n, amount in enumerate(amounts)]
    answers = found([history([*events, event("ann", 6 * 3600 + 60, "last", amount=0.05)])])
    assert answers["last"][f"sum 0 {HOUR}"] == 0.03
    assert answers["e2"][f"sum 0 {DAY}"] == 1e12 + 0.01


def test_deviations_are_exact_over_millions_of_events_and_of_refunds() -> None:
    n = 3_000_000
    amounts = np.where(np.arange(n) % 1000 == 0, -2.99, -1.99)
    rows = pa.RecordBatch.from_pydict(
        {
            "unit_id": pa.array([None] * (n - 1) + ["last"]),
            "user_id": pa.array(["ann"] * n),
            "at": pa.array(np.arange(n)),
            "happened": pa.array(np.ones(n, dtype=bool)),
            "amount": pa.array(amounts),
        }
    )
    zscore = Feature("zscore", "zscore", 2 * n, None, None)
    before = amounts[:-1]
    wanted = (amounts[-1] - before.mean()) / before.std()
    assert found([rows], [zscore])["last"]["zscore"] == pytest.approx(wanted, rel=1e-6)


def test_entities_whose_times_do_not_fit_one_clock_are_taken_apart() -> None:
    years = Feature("count", "count", 400 * 365 * 86_400 * 1_000_000, None, None)
    events = [
        event(f"u{user:04}", n * 600, f"{user}-{n}") for user in range(2000) for n in range(2)
    ]
    answers = found([history(events)], [years], at_once=10_000)
    assert {unit: row["count"] for unit, row in answers.items()} == {
        row["event_id"]: float(row["event_id"].endswith("-1")) for row in events
    }


def test_rows_that_ask_nothing_are_not_answered() -> None:
    rows = history([event("ann", 0, "a"), event("ann", 1, "b")]).to_pylist()
    rows[0]["unit_id"] = None
    answers = found([pa.RecordBatch.from_pylist(rows, SCHEMA)])
    assert answers.keys() == {"b"}
    assert answers["b"][f"count 0 {HOUR}"] == 1
    assert list(with_features([], ["user_id"], FEATURES)) == []
