"""Sequences encode what they say, and their vocabulary knows training only."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from event_streams import NEW, START, Row, event, frame, many_worlds, sessions_of
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession

from habitus import tables
from habitus.domain.sequences import encode
from habitus.domain.vocabulary import FIRST_VALUE, MISSING, PADDING, RARE, Split, Vocabulary
from habitus.domain.vocabulary_fitting import fit_vocabulary, quantile_bounds
from habitus.errors import InputError
from habitus.setting_types import FieldName, UnitKind
from habitus.unit_settings import SequenceSettings

pytestmark = pytest.mark.spark

FIELDS: tuple[FieldName, ...] = (
    "action",
    "category",
    "outcome",
    "channel",
    "gap",
    "amount",
    "hour",
    "new_device",
    "new_network",
    "new_counterparty",
)
SETTINGS = SequenceSettings(fields=FIELDS, vocabulary_size=4, rare_below=2, bins=4, history=3)
CONTEXT = ("user_count_1h", "user_amount_mean_1h")


def split_at(seconds: float) -> Split:
    time = START + timedelta(seconds=seconds)
    later = time + timedelta(days=1)
    return Split(train_from=START, train_until=time, calibrate_from=later, validation_until=later)


def sessions_frame(spark: SparkSession, events: Sequence[Row]) -> DataFrame:
    return frame(spark, tables.SESSIONS, sessions_of(events))


def features_frame(spark: SparkSession, values: dict[str, tuple[float | None, ...]]) -> DataFrame:
    rows = [
        {"unit_kind": "session", "unit_id": unit, "user_id": "x", "as_of": START}
        | dict(zip(CONTEXT, numbers, strict=True))
        for unit, numbers in values.items()
    ]
    return frame(spark, tables.features(CONTEXT), rows)


def fitted(
    spark: SparkSession, events: Sequence[Row], unit_kind: UnitKind, train_seconds: float = 1e7
) -> Vocabulary:
    sessions = sessions_frame(spark, events)
    return fit_vocabulary(sessions, SETTINGS, unit_kind, CONTEXT, split_at(train_seconds))


def encoded(
    spark: SparkSession, events: Sequence[Row], vocabulary: Vocabulary
) -> dict[str, dict[str, Any]]:
    found = encode(
        sessions_frame(spark, events), features_frame(spark, {}), vocabulary, SETTINGS, 2
    )
    rows = found.collect()
    assert len({row["unit_id"] for row in rows}) == len(rows)
    # NaN equals nothing, itself included; another test looks at the context.
    return {row["unit_id"]: row.asDict() | {"context": None} for row in rows}


def expected_token(field: str, row: Row, gap: float | None, vocabulary: Vocabulary) -> int:
    """One token, slow and obvious."""
    known = vocabulary.field(field)
    first = gap is None or vocabulary.unit_kind == "event"
    hour = f"{row['event_time'].hour:02}:00" if first else None
    value = {"gap": gap, "hour": hour}.get(field, row.get(field))
    if field in NEW:
        value = ("yes" if row[field] else "no") if row[NEW[field]] is not None else None
    if value is None:
        return PADDING if field in ("gap", "hour") else MISSING
    if known.kind == "bins":
        return FIRST_VALUE + bisect_right(known.bounds, value)
    return FIRST_VALUE + known.values.index(value) if value in known.values else RARE


def expected(events: list[Row], vocabulary: Vocabulary) -> dict[str, Row]:
    """All units' arrays by plain loops."""
    sessions = sessions_of(events)
    if vocabulary.unit_kind == "session":
        groups = [(s["session_id"], s["events"], 0, len(s["events"])) for s in sessions]
    else:
        of_user: dict[str, list[Row]] = {}
        for session in sessions:
            of_user.setdefault(session["user_id"], []).extend(session["events"])
        groups = [
            (rows[i]["event_id"], rows, max(0, i + 1 - SETTINGS.history), i + 1)
            for rows in of_user.values()
            for i in range(len(rows))
        ]
    result = {}
    for unit_id, rows, start, end in groups:
        times = [row["event_time"] for row in rows]
        gaps = [
            (b - a).total_seconds() if a else None
            for a, b in zip([None, *times], times, strict=False)
        ]
        inside = range(start, end)
        result[unit_id] = {
            field: [expected_token(field, rows[i], gaps[i], vocabulary) for i in inside]
            for field in FIELDS
        } | {
            "amounts": [float(np.float32(rows[i]["amount"] or 0)) for i in inside],
            "gaps": [float(np.float32(gaps[i] or 0)) for i in inside],
            "event_ids": [rows[i]["event_id"] for i in inside],
            "n_events": end - start,
        }
    return result


@pytest.mark.parametrize("unit_kind", ["session", "event"])
@pytest.mark.parametrize("seed", [1, 2])
def test_sequences_equal_a_slow_reference(
    spark: SparkSession, unit_kind: UnitKind, seed: int
) -> None:
    events, _ = many_worlds(seed)
    vocabulary = fitted(spark, events, unit_kind)
    found, wanted = encoded(spark, events, vocabulary), expected(events, vocabulary)
    assert found.keys() == wanted.keys()
    for unit_id, values in wanted.items():
        row = found[unit_id]
        assert {name: row[name] for name in values} == values
        assert len(row["event_times"]) == row["n_events"]
        for field in vocabulary.fields:
            assert all(0 <= token < field.size for token in row[field.name])
        if unit_kind == "event":
            assert row["scored_from"] == row["n_events"] - 1
            assert row["event_ids"][-1] == unit_id
            assert row["started_at"] == row["ended_at"] == row["event_times"][-1]
        else:
            assert row["scored_from"] == 0


@pytest.mark.parametrize("unit_kind", ["session", "event"])
@pytest.mark.parametrize("cut", [7200, 90_000])
def test_the_vocabulary_knows_training_only(
    spark: SparkSession, unit_kind: UnitKind, cut: float
) -> None:
    until = START + timedelta(seconds=cut)
    past = [row for row in many_worlds(3)[0] if row["event_time"] < until]
    # Far enough ahead to join no session of the past.
    future = [
        row | {"event_id": f"f{row['event_id']}", "event_time": row["event_time"] + timedelta(30)}
        for row in many_worlds(4)[0]
    ]
    # A session that is still going on at the split is no training unit.
    cut += 1800 if unit_kind == "session" else 0
    alone = fitted(spark, past, unit_kind, cut)
    assert fitted(spark, [*future, *past[::-1]], unit_kind, cut) == alone


def test_users_do_not_affect_each_other(spark: SparkSession) -> None:
    events, _ = many_worlds(5)
    vocabulary = fitted(spark, events, "event")
    users = {row["user_id"] for row in events[:60]}
    alone = encoded(spark, [row for row in events if row["user_id"] in users], vocabulary)
    together = encoded(spark, events, vocabulary)
    assert len(alone) < len(together)
    assert {unit: row for unit, row in together.items() if row["user_id"] in users} == alone


def shop_events() -> list[Row]:
    actions = ["view"] * 4 + ["cart"] * 3 + ["buy"] * 3 + ["help"]
    return [
        event(
            f"user{index}", index * 10_000, f"e{index:02}", action=action, amount=float(index // 2)
        )
        for index, action in enumerate(actions)
    ]


@pytest.mark.parametrize("fields", [["gap"], ["action", "gap", "gap"]])
def test_fields_without_action_or_twice_are_refused(fields: list[str]) -> None:
    with pytest.raises(ValidationError, match="`action` must be among the fields"):
        SequenceSettings.model_validate(SETTINGS.model_dump() | {"fields": fields})


def test_values_are_kept_by_frequency_then_text(spark: SparkSession) -> None:
    vocabulary = fitted(spark, shop_events(), "session")
    # help is rare; buy and cart are alike and in the order of their text.
    assert vocabulary.field("action").values == ("view", "buy", "cart")
    assert vocabulary.field("category").values == ()
    assert vocabulary.context == CONTEXT


def test_the_context_is_the_features_in_order(spark: SparkSession) -> None:
    events = shop_events()
    vocabulary = fitted(spark, events, "session")
    features = features_frame(spark, {"s-e00": (2.0, None)})
    found = encode(sessions_frame(spark, events), features, vocabulary, SETTINGS, 3)
    assert tables.sequences(FIELDS).faults(found.schema) == []
    assert found.rdd.getNumPartitions() == 3
    contexts = {row["unit_id"]: row["context"] for row in found.collect()}
    assert contexts["s-e00"] == pytest.approx([2.0, float("nan")], nan_ok=True)
    assert contexts["s-e01"] == pytest.approx([float("nan")] * 2, nan_ok=True)


@pytest.mark.parametrize(
    ("end_reason", "ended"), [("gap", True), ("hint", True), ("cap", False), ("open", False)]
)
def test_a_unit_ends_where_its_user_ended_it(
    spark: SparkSession, end_reason: str, ended: bool
) -> None:
    changes = {"end_reason": end_reason, "closed": end_reason != "open"}
    sessions = frame(
        spark, tables.SESSIONS, [row | changes for row in sessions_of(shop_events()[:1])]
    )
    vocabulary = fitted(spark, shop_events(), "session")
    (row,) = encode(sessions, features_frame(spark, {}), vocabulary, SETTINGS, 1).collect()

    assert row["closed"] == ended


def test_a_part_begins_with_the_events_before_the_cap_that_cut_it(spark: SparkSession) -> None:
    def part(hint: str | None, ends: str, seconds: Sequence[int]) -> Row:
        name = f"{hint}-{seconds[0]}"
        stream = [event("ann", at, f"{name}-{at}", amount=float(at)) for at in seconds]
        (session,) = sessions_of(stream)
        heavy = {"heavy": True, "end_reason": ends, "session_hint": hint}
        return session | heavy | {"session_id": name}

    rows = [
        part(None, "cap", [0, 1, 2, 4]),
        part(None, "cap", [7, 8]),
        part(None, "gap", [12]),
        part(None, "gap", [9000, 9001]),
        part("h", "cap", [1, 3]),
        part("h", "hint", [6, 10]),
        *sessions_of([event("ann", 20_000, "light")]),
    ]
    vocabulary = fitted(spark, shop_events(), "session")
    sessions = frame(spark, tables.SESSIONS, rows)
    found = encode(sessions, features_frame(spark, {}), vocabulary, SETTINGS, 2).collect()

    told = {row["unit_id"]: (row["scored_from"], row["amounts"], row["gaps"]) for row in found}
    assert told == {
        "None-0": (0, [0, 1, 2, 4], [0, 1, 1, 2]),
        # Not more than the history, which is 3 events.
        "None-7": (3, [1, 2, 4, 7, 8], [0, 1, 2, 3, 1]),
        "None-12": (2, [7, 8, 12], [0, 1, 4]),
        "None-9000": (0, [9000, 9001], [0, 1]),
        "h-1": (0, [1, 3], [0, 2]),
        "h-6": (2, [1, 3, 6, 10], [0, 2, 3, 4]),
        "s-light": (0, [0], [0]),
    }
    for row in found:
        assert row["n_events"] == len(row["event_ids"]) == len(row["event_times"])
        assert row["event_ids"][row["scored_from"]].startswith(row["unit_id"].removeprefix("s-"))


def test_no_unit_before_the_split_is_an_error(spark: SparkSession) -> None:
    with pytest.raises(
        InputError, match=r"no session ends from 2026-01-05T00:00:00.* until 2026-01-05T00:00:00"
    ):
        fitted(spark, shop_events(), "session", train_seconds=0)


def test_collected_times_do_not_shift_the_split(spark: SparkSession) -> None:
    vocabulary = fitted(spark, shop_events(), "event", train_seconds=40_000)
    assert vocabulary.split.train_until == datetime.fromisoformat("2026-01-05T11:06:40Z")
    # Four views happened by then; the first cart is at the split itself.
    assert vocabulary.field("action").values == ("view",)


def test_what_comes_before_training_is_not_in_the_vocabulary(spark: SparkSession) -> None:
    split = split_at(1e7).model_copy(update={"train_from": START + timedelta(seconds=40_000)})
    sessions = sessions_frame(spark, shop_events())
    vocabulary = fit_vocabulary(sessions, SETTINGS, "event", CONTEXT, split)
    assert vocabulary.field("action").values == ("buy", "cart")


@pytest.mark.parametrize("prices", [(4.99, 9.99), (980.0, 1980.0), (-9.99, 0.3), (0.29, 0.3)])
def test_each_of_two_prices_has_a_bin_of_its_own(
    spark: SparkSession, prices: tuple[float, float]
) -> None:
    events = [event("ann", number, f"e{number}", amount=prices[number % 2]) for number in range(10)]
    vocabulary = fitted(spark, events, "session")
    (unit,) = encoded(spark, events, vocabulary).values()

    assert unit["amount"] == [FIRST_VALUE + number % 2 for number in range(10)]


def test_the_hour_of_an_event_before_1970_is_one_of_the_day(spark: SparkSession) -> None:
    before = (datetime(1970, 1, 1, tzinfo=UTC) - START).total_seconds() - 3 * 3600
    events = [event("ann", 0, "now"), event("bob", before, "epoch")]
    vocabulary = fitted(spark, events[:1], "session")

    found = encoded(spark, events, vocabulary)
    assert found["s-epoch"]["hour"] == [FIRST_VALUE + 21]


@pytest.mark.parametrize(
    ("counts", "bounds"),
    [
        ([], ()),
        ([(5.0, 10)], ()),
        ([(1.0, 1), (2.0, 1), (3.0, 1), (4.0, 1)], (2.0, 3.0, 4.0)),
        # A value with most of the mass stands alone, and what lies above it is told apart.
        ([(1.0, 5), (10.0, 900), (200.0, 5)], (10.0, 200.0)),
    ],
)
def test_bounds_part_values_evenly(
    counts: list[tuple[float, int]], bounds: tuple[float, ...]
) -> None:
    assert quantile_bounds(counts, 4) == bounds


def test_the_highest_values_have_bins_of_their_own() -> None:
    bounds = quantile_bounds([(float(value), 1) for value in range(10_000)], 2)
    assert bounds == (5000.0, 9900.0, 9990.0)
