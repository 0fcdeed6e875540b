"""Features are point-in-time exact."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, get_args

import pytest
from event_streams import START, event, frame, label, many_worlds, sessions_of
from feature_words import COLUMN_OF, values
from pyspark.sql import DataFrame, SparkSession

from habitus import tables
from habitus.domain.features import LABEL_MEASURES, compute_features, feature_names
from habitus.errors import SettingsError
from habitus.setting_types import MeasureName, UnitKind
from habitus.unit_settings import FeatureSettings

pytestmark = pytest.mark.spark

Row = dict[str, Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAILED = {"outcome": "failure"}
# Every measure is tried in test_feature_pass; here, what reaches it.
FEATURES = (
    FeatureSettings(
        entity="user",
        windows=(DAY,),
        measures=("count", "share", "zscore", "entropy", "risk"),
        of="device",
        where={"outcome": "failure", "action": "pay"},
    ),
    FeatureSettings(
        entity="counterparty", windows=(HOUR, DAY), measures=("mean", "distinct"), of="user"
    ),
    FeatureSettings(
        entity=("user", "device"), windows=(DAY,), measures=("new", "risk", "since_anomaly")
    ),
    FeatureSettings(entity=("network", "item"), windows=(HOUR,), measures=("count",)),
    FeatureSettings(
        entity="network", windows=(HOUR, DAY), measures=tuple(sorted(LABEL_MEASURES)), where=FAILED
    ),
)
OF_COUNTERPARTY = FEATURES[1:2]


def computed(
    spark: SparkSession,
    events: Sequence[Row],
    labels: Sequence[Row] = (),
    unit_kind: UnitKind = "event",
    features: Sequence[FeatureSettings] = FEATURES,
) -> dict[str, Row]:
    """What the code under test makes of the events, by unit."""
    found = compute_features(
        frame(spark, tables.SESSIONS, sessions_of(events)),
        frame(spark, tables.LABELS, labels),
        features,
        unit_kind,
    )
    rows = found.collect()
    assert len({row["unit_id"] for row in rows}) == len(rows)
    return {row["unit_id"]: row.asDict() for row in rows}


def expected(events: list[Row], labels: list[Row], unit_kind: UnitKind) -> dict[str, Row]:
    """The features of all units, slow and obvious."""
    units = []
    for session in sessions_of(events):
        inside = [row | {"user_id": session["user_id"]} for row in session["events"]]
        if unit_kind == "session":
            units.append((session["session_id"], inside))
        else:
            units += [(row["event_id"], [row]) for row in inside]
    result: dict[str, Row] = {}
    for unit_id, rows in units:
        place = (rows[0]["event_time"], rows[0]["event_id"])
        amount = max((row["amount"] for row in rows if row["amount"] is not None), default=None)
        told = []
        for declared in FEATURES:
            columns = [COLUMN_OF[entity] for entity in declared.entities]
            entities = {tuple(row[column] for column in columns) for row in rows}
            histories = [
                [row for row in events if tuple(row[column] for column in columns) == entity]
                for entity in entities
                if None not in entity
            ]
            for window in declared.windows:
                found = [
                    values(declared, window, place, amount, history, labels)
                    for history in histories
                ]
                for measure in declared.measures:
                    known = [one[measure] for one in found if one[measure] is not None]
                    told.append(max(known, default=None))
        result[unit_id] = dict(zip(feature_names(FEATURES), told, strict=True))
    return result


@pytest.mark.parametrize("unit_kind", ["event", "session"])
@pytest.mark.parametrize("seed", [1, 2])
def test_features_equal_a_slow_reference(
    spark: SparkSession, unit_kind: UnitKind, seed: int
) -> None:
    data = many_worlds(seed)
    found, wanted = computed(spark, *data, unit_kind=unit_kind), expected(*data, unit_kind)
    assert found.keys() == wanted.keys()
    for unit_id, features in wanted.items():
        for name, one in features.items():
            near = one if one is None else pytest.approx(one, rel=1e-6, abs=1e-6)
            assert found[unit_id][name] == near, (unit_id, name)


@pytest.mark.parametrize(("cut", "shift"), [(3600, 1), (7201, 10_000)])
def test_shifting_the_future_changes_nothing(spark: SparkSession, cut: int, shift: int) -> None:
    events, labels = many_worlds(3)
    time, later = START + timedelta(seconds=cut), timedelta(seconds=shift)

    def shifted(rows: list[Row], column: str) -> list[Row]:
        return [r | {column: r[column] + later} if r[column] >= time else r for r in rows]

    moved = shifted(events, "event_time"), shifted(labels, "known_at")
    before = computed(spark, events, labels, features=OF_COUNTERPARTY)
    after = computed(spark, *moved, features=OF_COUNTERPARTY)
    past = {row["event_id"] for row in events if row["event_time"] < time}
    assert 0 < len(past) < len(events)
    assert {unit: after[unit] for unit in past} == {unit: before[unit] for unit in past}


def test_the_order_of_rows_does_not_matter(spark: SparkSession) -> None:
    events, labels = many_worlds(4)
    shuffled = random.Random(4).sample(events, len(events))
    found = computed(spark, shuffled, labels[::-1], features=OF_COUNTERPARTY)
    assert found == computed(spark, events, labels, features=OF_COUNTERPARTY)


def test_an_example_by_hand(spark: SparkSession) -> None:
    events = [
        event("ann", 0, "e1", counterparty_id="shop", amount=10.0, outcome="failure"),
        event("bob", 60, "e2", counterparty_id="shop", amount=20.0),
        event("ann", 3600, "e3", counterparty_id="shop", device_id="phone"),
        event("ann", 7200, "e4"),
    ]
    labels = [
        label("e1", True, 100),
        label("e2", False, 3600),
        label("e3", True, 3599),
        label("e1", True, 0, unit_kind="session"),
    ]
    features = [
        FeatureSettings(
            entity="user", windows=(HOUR,), measures=("count", "sum", "mean", "max", "since_last")
        ),
        FeatureSettings(entity="user", windows=(HOUR,), measures=("share",), where=FAILED),
        FeatureSettings(
            entity="counterparty",
            windows=(HOUR, DAY),
            measures=(
                "count",
                "sum",
                "mean",
                "max",
                "distinct",
                "entropy",
                *sorted(LABEL_MEASURES),
            ),
            of="user",
        ),
        FeatureSettings(entity="device", windows=(HOUR,), measures=("count",)),
        FeatureSettings(entity=("user", "device"), windows=(DAY,), measures=("new",)),
    ]
    found = computed(spark, events, labels, features=features)
    e3, e4 = found["e3"], found["e4"]
    assert (e3["unit_kind"], e3["user_id"]) == ("event", "ann")
    # e1 is exactly one hour before e3, and the window includes its start.
    user = ("count", "share_failure", "amount_sum", "since_last")
    assert [e3[f"user_{name}_1h"] for name in user] == [1, 1, 10, 3600]
    shop = ("count", "distinct_user", "entropy_user", "amount_sum", "amount_mean", "amount_max")
    assert [e3[f"counterparty_{name}_1h"] for name in shop] == [2, 2, 1, 30, 15, 20]
    # Known before e3: that e1 is anomalous. e2 is told at the time of e3, and e3 itself too early.
    assert e3["counterparty_risk_1h"] == 1
    assert found["e1"]["counterparty_risk_1h"] is None
    assert (e3["counterparty_anomalies_1h"], found["e1"]["counterparty_anomalies_1h"]) == (1, 0)
    assert e3["counterparty_since_anomaly_1h"] == 3500
    assert (e3["device_count_1h"], e3["user_device_new_1d"]) == (0, 1)
    # The one event of the last hour has no amount; no device and no counterparty means no feature.
    assert (e4["user_count_1h"], e4["user_amount_sum_1h"]) == (1, 0)
    assert e4["user_amount_mean_1h"] is None
    assert e4["user_amount_max_1h"] is None
    assert e4["device_count_1h"] is None
    assert e4["counterparty_distinct_user_1d"] is None


def test_a_session_is_asked_about_when_it_starts(spark: SparkSession) -> None:
    events = [
        event("bob", 0, "e1", counterparty_id="stall"),
        event("bob", 1, "e2", counterparty_id="stall"),
        event("cyd", 2, "e3", counterparty_id="shop"),
        event("ann", 10, "e4", counterparty_id="shop", device_id="phone"),
        event("ann", 20, "e5", counterparty_id="stall", device_id="desk"),
        event("ann", 30, "e6"),
    ]
    features = [
        FeatureSettings(entity=entity, windows=(HOUR,), measures=("count",))
        for entity in ("user", "counterparty", "device")
    ]
    session = computed(spark, events, unit_kind="session", features=features)["s-e4"]
    assert session["user_count_1h"] == 0
    assert session["device_count_1h"] == 0
    # The stall has two events by then, the shop one.
    assert session["counterparty_count_1h"] == 2


def test_a_session_s_amount_is_its_largest(spark: SparkSession) -> None:
    amounts = {"e1": 10.0, "e2": 20.0, "e3": 45.0, "e4": 30.0, "e5": None}
    events = [
        event("ann", (3600 if number > 1 else 0) + number, name, amount=amount)
        for number, (name, amount) in enumerate(amounts.items())
    ]
    measures = ("ratio", "zscore", "multiple", "peak")
    features = [FeatureSettings(entity="user", windows=(DAY,), measures=measures)]
    session = computed(spark, events, unit_kind="session", features=features)["s-e3"]
    assert (session["user_amount_ratio_1d"], session["user_amount_zscore_1d"]) == (3, 6)
    assert (session["user_amount_multiple_1d"], session["user_amount_peak_1d"]) == (3, 4 / 3)


def test_the_frame_is_as_the_table_declares(spark: SparkSession) -> None:
    sessions = frame(spark, tables.SESSIONS, [])
    labels = frame(spark, tables.LABELS, [])
    for features in (FEATURES, ()):
        found = compute_features(sessions, labels, features, "session")
        assert tables.features(feature_names(features)).faults(found.schema) == []


def exchanges(found: DataFrame) -> list[str]:
    plan = found._jdf.queryExecution().executedPlan().toString()
    return [line.strip() for line in plan.splitlines() if "Exchange " in line]


def test_there_is_one_shuffle_per_entity_and_one_by_unit(spark: SparkSession) -> None:
    measures = tuple(sorted(set(get_args(MeasureName)) - LABEL_MEASURES))
    features = [
        FeatureSettings(
            entity=entity, windows=(HOUR, DAY), measures=measures, of="action", where=FAILED
        )
        for entity in ("user", "counterparty", "device", "network")
    ]
    # Of no rows at all Spark knows, and plans nothing.
    sessions = frame(spark, tables.SESSIONS, sessions_of([event("ann", 0, "e1")]))
    found = exchanges(
        compute_features(sessions, frame(spark, tables.LABELS, []), features, "session")
    )
    assert len([line for line in found if "(unit_id#" in line]) == 1
    assert len(found) == 5


@pytest.mark.parametrize(
    ("window", "name"),
    [("7 days", "7d"), ("90 minutes", "90min"), ("24 hours", "1d"), ("90s", "90s")],
)
def test_a_name_says_entity_measure_and_window(window: str, name: str) -> None:
    declared = FeatureSettings.model_validate(
        {"entity": "user", "windows": [window], "measures": ["count", "mean"]}
    )
    assert feature_names([declared]) == [f"user_count_{name}", f"user_amount_mean_{name}"]


def test_a_feature_declared_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="'counterparty_amount_mean_1d' is declared twice"):
        feature_names([FEATURES[1], FEATURES[1].model_copy(update={"measures": ("mean",)})])
