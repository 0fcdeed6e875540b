"""Shifts of segments of a real lake."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from event_streams import event, frame, ingested
from jobs.conftest import Lines, run, small_settings
from jobs.tables import content
from pyspark.sql import SparkSession

from habitus.edges.lake import Lake
from habitus.errors import SettingsError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS

pytestmark = pytest.mark.jobs

DAYS = 10
SELLERS = tuple(f"v{number}" for number in range(1, 9))
SHIFTED = 24 * 8  # the hour from which seller v1 has six times its events
CHOSEN = (
    "volumes.segments={category: null, channel: null, country: null}",
    "volumes.measures={amount: null}",
    "volumes.orders=[]",
)


def happened() -> list[dict[str, Any]]:
    """Nine sellers, the last of them for a day only, and events without a seller or a true time."""
    random = np.random.default_rng(1)
    hours = np.arange(24 * DAYS)
    counts = {name: random.poisson(2, len(hours)) for name in ("", *SELLERS)}
    counts["v1"][SHIFTED : SHIFTED + 8] += 10
    counts["v9"] = np.where(hours // 24 == 7, 2, 0)
    events = [
        event(
            "u",
            int(hour) * 3600 + number,
            f"{name}-{hour}-{number}",
            counterparty_id=name or None,
            outcome="failure" if number == 0 else "success",
        )
        for name, of_hour in counts.items()
        for hour in hours
        for number in range(of_hour[hour])
    ]
    events += [event("u", years * 31_556_952, f"zero{years}") for years in (-56, 900)]
    return ingested(events)


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> JobContext:
    """The first run on a lake of these events."""
    settings = small_settings(tmp_path_factory.mktemp("volumes"), *CHOSEN)
    Lake(spark, settings.lake).append(EVENTS, frame(spark, EVENTS, happened()))
    return run(spark, "volumes", settings)


def test_a_sellers_shift_is_found_and_told(first: JobContext) -> None:
    shifts = content(first.settings.lake.root, "volume_shifts")

    (shift,) = [row for row in shifts if "seller v1: events" in row]
    assert "from 2026-01-13 00:00 to 2026-01-13 08:00; fewer than 1 in 1,000,000 hours" in shift
    assert not [row for row in shifts if "seller v2: events" in row]
    assert "Segments that shifted" in "\n".join(cast(Lines, first.reporter).lines)


def test_every_segment_and_series_is_counted(first: JobContext) -> None:
    events = happened()

    assert first.rows_in["events"] == len(events)
    assert first.rows_in["seller segments modelled"] == 8
    assert first.rows_in["seller segments others"] == 1
    assert first.rows_in["seller segments unknown"] == 1
    assert first.rows_in["events without seller"] == sum(
        event["counterparty_id"] is None for event in events
    )
    assert first.rows_out["series modelled"] == 18
    assert first.rows_out["series skipped"] == 2  # the others' events and failures
    told = "\n".join(cast(Lines, first.reporter).lines)
    assert "seller events: 1 series skipped, too rare in training" in told


def test_a_second_run_finds_the_same(spark: SparkSession, first: JobContext) -> None:
    before = content(first.settings.lake.root, "volume_shifts")

    second = run(spark, "volumes", first.settings)

    assert content(first.settings.lake.root, "volume_shifts") == before
    assert (second.rows_in, second.rows_out) == (first.rows_in, first.rows_out)


def test_volumes_by_day_tell_of_days(spark: SparkSession, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    counts = {name: random.poisson(12, 80) for name in SELLERS[:4]}
    counts["v1"][70:72] += 40
    events = [
        event("u", day * 86_400 + number, f"{name}-{day}-{number}", counterparty_id=name)
        for name, of_day in counts.items()
        for day, count in enumerate(of_day)
        for number in range(count)
    ]
    by_day = ("volumes.period=day", "volumes.windows=[1, 2]", "volumes.minimum_periods=30")
    settings = small_settings(tmp_path, *CHOSEN, *by_day)
    Lake(spark, settings.lake).append(EVENTS, frame(spark, EVENTS, ingested(events)))

    run(spark, "volumes", settings)

    shifts = content(settings.lake.root, "volume_shifts")
    (shift,) = [row for row in shifts if "seller v1: events" in row]
    assert "from 2026-03-16 00:00 to 2026-03-18 00:00" in shift
    assert not [row for row in shifts if "seller v2: events" in row]


def test_an_expression_that_cannot_be_used_is_named(spark: SparkSession, first: JobContext) -> None:
    segments = {"seller": "seler"}
    volumes = first.settings.volumes.model_copy(update={"segments": segments})
    wrong = first.settings.model_copy(update={"volumes": volumes})

    with pytest.raises(SettingsError, match=r"volumes\.segments.*seler.*Use the columns"):
        run(spark, "volumes", wrong)
