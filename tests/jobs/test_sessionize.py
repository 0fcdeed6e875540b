"""Sessions of a real lake, brought up to date run by run."""

import re
from pathlib import Path

import pytest
from event_streams import frame, shoppers
from jobs.conftest import Lines, rebuilding, run, small_settings
from jobs.tables import sessions
from pyspark.sql import SparkSession

from habitus.config import Settings
from habitus.edges.lake import Lake
from habitus.errors import InputError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS, SESSIONS

pytestmark = pytest.mark.jobs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path, "sessions.max_events=4", "sessions.max_duration=2 hours")


@pytest.fixture
def lake(spark: SparkSession, settings: Settings) -> Lake:
    return Lake(spark, settings.lake)


def test_new_events_change_only_what_they_must_and_leave_what_a_rebuild_makes(
    spark: SparkSession, lake: Lake, settings: Settings
) -> None:
    events = shoppers(5)
    first, more = events[::2], events[1:20:2]
    lake.append(EVENTS, frame(spark, EVENTS, first))
    run(spark, "sessionize", settings)
    lake.append(EVENTS, frame(spark, EVENTS, more))

    updated = run(spark, "sessionize", settings)
    after = sessions(lake)
    again = run(spark, "sessionize", settings)
    rebuilt = run(spark, "sessionize", rebuilding(settings))

    assert updated.rows_in == {"events": len(more)}
    assert 0 < updated.rows_out["sessions"] < rebuilt.rows_out["sessions"]
    assert (again.rows_in, again.rows_out) == ({"events": 0}, {})
    assert sessions(lake) == after


def test_many_small_files_are_compacted_at_the_end_of_a_run_or_when_asked(
    spark: SparkSession, lake: Lake, settings: Settings
) -> None:
    events = shoppers(5, users=3)
    lake.append(EVENTS, frame(spark, EVENTS, events[:-5]))
    run(spark, "sessionize", settings)
    lake.append(EVENTS, frame(spark, EVENTS, events[-5:]))
    tidy = settings.lake.model_copy(update={"compact_above": 1})

    updated = run(spark, "sessionize", settings.model_copy(update={"lake": tidy}))
    made, files = sessions(lake), lake.layout(SESSIONS).files
    again = run(spark, "sessionize", settings)
    asked = run(spark, "compact", settings)

    assert "compact sessions" in told(updated)
    assert files == 1
    assert (again.rows_in, again.rows_out) == ({"events": 0}, {})
    assert any(re.match(r"events: \d+ files are now 1 of", line) for line in told(asked))
    assert sessions(lake) == made


def told(context: JobContext) -> list[str]:
    assert isinstance(context.reporter, Lines)
    return context.reporter.lines


def test_another_rule_makes_all_sessions_anew(
    spark: SparkSession, lake: Lake, settings: Settings
) -> None:
    lake.append(EVENTS, frame(spark, EVENTS, shoppers(5, users=3)))
    before = run(spark, "sessionize", settings)
    shorter = settings.sessions.model_copy(update={"max_events": 2})

    after = run(spark, "sessionize", settings.model_copy(update={"sessions": shorter}))

    assert after.rows_in == before.rows_in
    assert after.rows_out["sessions"] > before.rows_out["sessions"]


def test_events_that_cannot_tell_what_is_new_are_all_read_or_refused_as_set(
    spark: SparkSession, lake: Lake, settings: Settings
) -> None:
    events = shoppers(5, users=3)
    lake.append(EVENTS, frame(spark, EVENTS, events))
    run(spark, "sessionize", settings)
    lake.overwrite(EVENTS, frame(spark, EVENTS, events[1:]))
    refusing = settings.updates.model_copy(update={"lost_history": "refuse"})

    with pytest.raises(InputError, match="cannot tell what was added since version 1"):
        run(spark, "sessionize", settings.model_copy(update={"updates": refusing}))
    rebuilt = run(spark, "sessionize", settings)

    assert rebuilt.rows_in == {"events": len(events) - 1}
    assert sum(len(row["event_ids"]) for row in lake.read(SESSIONS).collect()) == len(events) - 1
