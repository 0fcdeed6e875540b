"""Cases of flags that belong together, and what their verdicts teach, on a small lake."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from delta.tables import DeltaTable
from jobs.conftest import Lines, SmallLake, copied, run
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from habitus.alert_settings import CaseSettings, SuppressSettings
from habitus.config import Settings
from habitus.domain.detectors.base import Reason
from habitus.errors import ConflictError
from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import JobContext
from habitus.jobs.reviewing import reviewed
from habitus.jobs.shown import shown_flags
from habitus.jobs.telling import _DETAILS, _STEADY, _case_events
from habitus.tables import ANOMALIES

pytestmark = pytest.mark.jobs


def case_settings(window: timedelta) -> CaseSettings:
    return CaseSettings(window=window, least_share=1.0, settled_after=window, on_driver=1000)


def test_flags_that_share_a_device_are_one_case_whose_handling_stays_and_teaches(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    root = settings.lake.root
    flags = pl.read_delta(f"{root}/anomalies").sort("event_time")
    one, other = flags.unique("user_id", maintain_order=True)["unit_id"][:2]
    sessions = pl.read_delta(f"{root}/sequences").filter(pl.col("unit_id").is_in([one, other]))
    event_ids = sessions["event_ids"].explode().to_list()
    events = DeltaTable.forPath(spark, f"{root}/events")
    events.update(F.col("event_id").isin(event_ids), {"device_id": F.lit("shared")})
    choice = case_settings(timedelta(days=99))
    settings = settings.model_copy(update={"cases": choice})

    run(spark, "cases", settings)
    cases = pl.read_delta(f"{root}/cases")

    # Put together by Spark they are the same, and one that an analyst has begun with keeps its id,
    # here that of a flag that is no longer its first.
    begun = {"case_id": F.lit("begun"), "status": F.lit("in review")}
    DeltaTable.forPath(spark, f"{root}/cases").update(F.array_contains("unit_ids", one), begun)
    in_rounds = choice.model_copy(update={"on_driver": 0})
    same = run(spark, "cases", settings.model_copy(update={"cases": in_rounds}))
    assert same.rows_out["cases"] == 0

    DeltaTable.forPath(spark, f"{root}/cases").update(set={"status": F.lit("confirmed")})
    again = run(spark, "cases", settings)

    assert sorted(cases["unit_ids"].explode()) == sorted(flags["unit_id"])
    assert cases["n_flags"].sum() == len(flags)
    ring = cases.filter(pl.col("unit_ids").list.contains(one)).row(0, named=True)
    assert other in ring["unit_ids"]
    assert ring["kind"] == "ring"
    assert {"kind": "device", "value": "shared", "users": 2, "flagged_users": 2} in ring["shared"]
    assert again.rows_out["cases"] == 0
    assert set(pl.read_delta(f"{root}/cases")["status"]) == {"confirmed"}

    # All cases are confirmed, but for one flag that was looked at by itself.
    alone = DeltaTable.forPath(spark, f"{root}/anomalies")
    alone.update(F.col("unit_id") == one, {"status": F.lit("dismissed")})
    first, second = run(spark, "feedback", settings), run(spark, "feedback", settings)
    labels = pl.read_delta(f"{root}/labels").filter(pl.col("source") == "analyst")
    assert dict(zip(labels["unit_id"], labels["label"], strict=True)) == {
        unit_id: unit_id != one for unit_id in flags["unit_id"]
    }
    assert (first.rows_out["labels"], second.rows_out["labels"]) == (len(flags), 0)
    # Its own verdict comes before that of its case, in labels and in the report.
    shown = shown_flags(second, flags["model_id"][0], second.read(ANOMALIES)).collect()
    assert {row["unit_id"]: row["verdict"] for row in shown} == {
        unit_id: "dismissed" if unit_id == one else "anomalous" for unit_id in flags["unit_id"]
    }
    found = reviewed(first, flags["model_id"][0])[-1]
    assert (found.flags, found.reviewed, found.confirmed) == (
        len(flags),
        len(flags),
        len(flags) - 1,
    )

    # A flag that came after the verdict on its case makes one of its own, still to be looked at.
    without = {"unit_ids": F.array_remove("unit_ids", other), "n_flags": F.col("n_flags") - 1}
    of_cases = DeltaTable.forPath(spark, f"{root}/cases")
    of_cases.update(F.array_contains("unit_ids", other), without)
    run(spark, "cases", settings)
    later = pl.read_delta(f"{root}/cases").filter(pl.col("unit_ids").list.contains(other))
    assert later.select("unit_ids", "status").rows() == [([other], "open")]


WINDOW = timedelta(hours=30)


def told_before(spark: SparkSession, chain: SmallLake, folder: Path) -> Settings:
    """Settings of a copy of the lake, whose cases have been told and bear that as summary."""
    settings = copied(chain, folder).model_copy(update={"cases": case_settings(WINDOW)})
    run(spark, "cases", settings)
    cases = DeltaTable.forPath(spark, f"{settings.lake.root}/cases")
    cases.update(set={"summary": F.lit("told before")})
    return settings


def test_a_case_that_ended_long_before_the_last_flag_stays_as_it_is(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = told_before(spark, chain, tmp_path)

    again = run(spark, "cases", settings)

    rows = pl.read_delta(f"{settings.lake.root}/cases")
    is_old = rows["ended_at"] < rows["ended_at"].max() - WINDOW
    is_kept = rows["summary"] == "told before"
    assert 0 < is_old.sum() < len(rows)
    assert is_kept.equals(is_old)
    assert again.rows_out["cases"] == len(rows) - is_old.sum()


def test_a_flag_of_a_time_to_come_settles_no_case(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = told_before(spark, chain, tmp_path)
    root = settings.lake.root
    last = pl.read_delta(f"{root}/cases")["ended_at"].max()
    first = pl.read_delta(f"{root}/anomalies").sort("event_time")["unit_id"][0]
    to_come = {"event_time": F.lit(datetime(2090, 1, 1, tzinfo=UTC))}
    DeltaTable.forPath(spark, f"{root}/anomalies").update(F.col("unit_id") == first, to_come)

    run(spark, "cases", settings)

    rows = pl.read_delta(f"{root}/cases")
    is_old = rows["ended_at"] < last - WINDOW
    assert 0 < is_old.sum() < len(rows)
    assert (rows["summary"] == "told before").equals(is_old)


@pytest.mark.parametrize(
    ("job", "table"), [("cases", "cases"), ("decide", "anomalies"), ("score", "anomalies")]
)
def test_what_an_analyst_says_while_a_job_looks_at_it_is_not_overwritten(
    job: str,
    table: str,
    spark: SparkSession,
    tmp_path: Path,
    chain: SmallLake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = copied(chain, tmp_path)
    place = f"{settings.lake.root}/{table}"
    # Something for either job to change: no flag is shown any more.
    nobody = {"suppress": (SuppressSettings(when="true", why="closed"),)}
    settings = settings.model_copy(update={"alerts": settings.alerts.model_copy(update=nobody)})
    if job == "cases":
        hidden = {"suppressed_by": F.lit("closed")}
        DeltaTable.forPath(spark, f"{settings.lake.root}/anomalies").update(set=hidden)

    merge = JobContext.merge

    def confirm_and_merge(*given: Any, **named: Any) -> int:
        DeltaTable.forPath(spark, place).update(set={"status": F.lit("confirmed")})
        return merge(*given, **named)

    monkeypatch.setattr(JobContext, "merge", confirm_and_merge)
    before = pl.read_delta(place)
    with pytest.raises(ConflictError):
        JOBS[job].run(JobContext(job, settings, spark, Lines()))
    after = pl.read_delta(place)

    assert set(after["status"]) == {"confirmed"}
    assert after.height == before.height > 0


def test_an_event_that_was_deleted_since_is_told_by_its_time_and_surprise() -> None:
    at = datetime(2026, 1, 5, tzinfo=UTC)
    unit = {"event_ids": ["a", "b"], "event_times": [at, at], "scored_from": 0}
    reason = Reason(1, "amount", "80 or more", (), 3.0, 0.5, "sequence")
    # How often a thing is done is told at an event, but no event's own surprise.
    count = Reason(1, "number of view", "40", (), 20.0, 0.5, "peers")
    known = {"a": Row(action="view", **dict.fromkeys((*_DETAILS, *_STEADY)))}

    kept, deleted = _case_events(unit, [count, reason], known)

    assert kept.action == "view"
    assert (deleted.time, deleted.action, deleted.detail, deleted.amount) == (
        at,
        "deleted since",
        "",
        None,
    )
    assert deleted.surprise == {"amount": 3.0}
