"""Features of a real lake, brought up to date run by run."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from event_streams import START, Row, frame, shoppers
from jobs.conftest import Lines, rebuilding, run, small_settings
from pyspark.sql import SparkSession

from habitus.config import Settings
from habitus.domain.features import feature_names
from habitus.edges.lake import Lake
from habitus.jobs.feature_updates import bring_up_to_date
from habitus.jobs.frame import JobContext
from habitus.setting_types import UnitKind
from habitus.tables import EVENTS, LABELS, SESSIONS, features
from habitus.unit_settings import FeatureSettings

pytestmark = pytest.mark.jobs

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DECLARED = (
    FeatureSettings(entity="user", windows=(HOUR, DAY), measures=("count", "zscore", "risk")),
    FeatureSettings(entity="counterparty", windows=(HOUR,), measures=("distinct",), of="user"),
    FeatureSettings(entity=("user", "device"), windows=(DAY,), measures=("new",)),
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


def updated(spark: SparkSession, settings: Settings) -> JobContext:
    """Bring the features up to date, as the job does before it learns the vocabulary."""
    context = JobContext("features", settings, spark, Lines())
    context.read(SESSIONS)
    bring_up_to_date(context, features(feature_names(settings.features)))
    return context


def events_and_what_comes_later() -> tuple[list[Row], list[Row]]:
    """Some events come late, some are new."""
    events, _ = events_and_labels()
    late = [row for number, row in enumerate(events) if number % 25 == 3]
    newest = [row for row in events if row["event_time"] > START + timedelta(days=20)]
    later = [*late, *(row for row in newest if row not in late)]
    return [row for row in events if row not in later], later


@pytest.fixture(scope="module")
def early(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a lake with the features of the first events and half the labels."""
    settings = settings_of(tmp_path_factory.mktemp("early"), "session", DECLARED)
    lake = Lake(spark, settings.lake)
    lake.append(EVENTS, frame(spark, EVENTS, events_and_what_comes_later()[0]))
    lake.append(LABELS, frame(spark, LABELS, events_and_labels()[1][::2]))
    run(spark, "sessionize", settings)
    updated(spark, settings)
    return Path(lake.root)


@pytest.fixture
def settings(early: Path, tmp_path: Path) -> Settings:
    """Settings of a copy of that lake."""
    shutil.copytree(early, tmp_path / "lake")
    return settings_of(tmp_path, "session", DECLARED)


def test_features_follow_new_events_and_labels_and_are_what_a_rebuild_makes(
    spark: SparkSession, settings: Settings
) -> None:
    lake = Lake(spark, settings.lake)
    later, labels = events_and_what_comes_later()[1], events_and_labels()[1]
    for part in (later[::2], later[1::2]):
        lake.append(EVENTS, frame(spark, EVENTS, part))
        run(spark, "sessionize", settings)
    lake.append(LABELS, frame(spark, LABELS, labels[1::2]))

    found = updated(spark, settings)
    after = content(lake, DECLARED)
    again = updated(spark, settings)
    rebuilt = updated(spark, rebuilding(settings))

    assert 0 < found.rows_out["features"] < rebuilt.rows_out["features"]
    assert again.rows_out == {}
    assert content(lake, DECLARED) == after
    assert len(after) == rebuilt.rows_out["features"]


def test_sessions_made_anew_have_all_their_features_computed(
    spark: SparkSession, settings: Settings
) -> None:
    before = content(Lake(spark, settings.lake), DECLARED)
    run(spark, "sessionize", rebuilding(settings))

    again = updated(spark, settings)

    assert again.rows_out["features"] == len(before)
    assert content(Lake(spark, settings.lake), DECLARED) == before
