"""Features of a real lake, brought up to date run by run."""

from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from event_streams import START, Row, frame, shoppers
from jobs.conftest import run, small_settings
from pyspark.sql import SparkSession

from habitus.config import FeatureSettings, MeasureName, Settings, UnitKind
from habitus.domain.features import feature_names
from habitus.edges.lake import Lake
from habitus.tables import EVENTS, LABELS, features

pytestmark = pytest.mark.jobs

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MEASURES = tuple(measure for measure in get_args(MeasureName) if measure != "share")
DECLARED = (
    FeatureSettings(entity="user", windows=(HOUR, DAY), measures=MEASURES, of="network"),
    FeatureSettings(entity="counterparty", windows=(HOUR,), measures=MEASURES, of="user"),
    FeatureSettings(entity=("user", "device"), windows=(DAY,), measures=("new", "since_last")),
)
WITHOUT_LABELS = tuple(
    one.model_copy(update={"measures": tuple(name for name in one.measures if name != "risk")})
    for one in DECLARED
)
# Of the two shops, the second is everybody's.
SHOPS = ["stall", "shop", None, None]


def settings_of(folder: Path, unit: UnitKind, declared: tuple[FeatureSettings, ...]) -> Settings:
    return small_settings(folder, f"unit={unit}", "sessions.max_duration=2 hours").model_copy(
        update={"features": declared}
    )


def content(lake: Lake, declared: tuple[FeatureSettings, ...]) -> dict[str, Any]:
    rows = lake.read(features(feature_names(declared))).collect()
    assert len({row["unit_id"] for row in rows}) == len(rows)
    return {row["unit_id"]: row.asDict() for row in rows}


def events_and_labels() -> tuple[list[Row], list[Row]]:
    """Events of some days; of every tenth it becomes known an hour later whether it was bad."""
    events = [
        row | {"counterparty_id": SHOPS[number % 4] and f"{SHOPS[number % 4]}-{number % 3}"}
        for number, row in enumerate(shoppers(11, users=30))
    ]
    labels = [
        {
            "unit_kind": "event",
            "unit_id": row["event_id"],
            "label": number % 20 == 0,
            "known_at": row["event_time"] + HOUR,
            "source": "test",
        }
        for number, row in enumerate(events)
        if number % 10 == 0
    ]
    return events, labels


@pytest.mark.parametrize(
    ("unit", "declared"), [("session", DECLARED), ("event", WITHOUT_LABELS), ("event", DECLARED)]
)
def test_features_follow_new_events_and_labels_and_are_what_a_rebuild_makes(
    spark: SparkSession, tmp_path: Path, unit: UnitKind, declared: tuple[FeatureSettings, ...]
) -> None:
    settings = settings_of(tmp_path, unit, declared)
    lake = Lake(spark, settings.lake)
    events, labels = events_and_labels()
    late = [row for number, row in enumerate(events) if number % 25 == 3]
    newest = [row for row in events if row["event_time"] > START + timedelta(days=20)]
    new = [*late, *(row for row in newest if row not in late)]
    lake.append(EVENTS, frame(spark, EVENTS, [row for row in events if row not in new]))
    lake.append(LABELS, frame(spark, LABELS, labels[::2]))
    run(spark, "sessionize", settings)
    run(spark, "features", settings)
    lake.append(EVENTS, frame(spark, EVENTS, new))
    lake.append(LABELS, frame(spark, LABELS, labels[1::2]))

    run(spark, "sessionize", settings)
    updated = run(spark, "features", settings)
    after = content(lake, declared)
    again = run(spark, "features", settings)
    updates = settings.updates.model_copy(update={"rebuild": True})
    rebuilt = run(spark, "features", settings.model_copy(update={"updates": updates}))

    assert 0 < updated.rows_out["features"] < rebuilt.rows_out["features"]
    assert "features" not in again.rows_out
    assert content(lake, declared) == after
    assert len(after) == rebuilt.rows_out["features"]


def test_sessions_made_anew_have_all_their_features_computed(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, "session", WITHOUT_LABELS)
    lake = Lake(spark, settings.lake)
    lake.append(EVENTS, frame(spark, EVENTS, events_and_labels()[0]))
    run(spark, "sessionize", settings)
    first = run(spark, "features", settings)
    updates = settings.updates.model_copy(update={"rebuild": True})
    run(spark, "sessionize", settings.model_copy(update={"updates": updates}))

    again = run(spark, "features", settings)

    assert again.rows_out["features"] == first.rows_out["features"]
