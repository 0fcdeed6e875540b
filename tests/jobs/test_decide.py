"""The rules of alerts, applied to the flags of a small lake."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from jobs.conftest import SmallLake, copied, run
from pyspark.sql import SparkSession

from habitus.alert_settings import RuleSettings, SuppressSettings
from habitus.jobs import decide
from habitus.jobs.frame import JobContext, Silent

pytestmark = pytest.mark.jobs


def test_rules_of_today_are_applied_to_the_flags_that_are_there(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    before = pl.read_delta(f"{settings.lake.root}/anomalies").sort("unit_id")
    user = before["user_id"][0]
    rules = {
        "rules": (
            RuleSettings(when="n_events >= 1 and flags_before = 0", decision="freeze", why="new"),
        ),
        "suppress": (SuppressSettings(when=f"user_id = '{user}'", why="a friend"),),
    }
    settings = settings.model_copy(update={"alerts": settings.alerts.model_copy(update=rules)})

    told = list(decide.preview(JobContext("decide", settings, spark, Silent())))
    run(spark, "decide", settings)
    after = pl.read_delta(f"{settings.lake.root}/anomalies").sort("unit_id")
    again = run(spark, "decide", settings)

    changed = (after["decision"] != before["decision"]) | after["suppressed_by"].is_not_null()
    assert told[0] == f"  of {len(before)} flags of the model {changed.sum()} change"
    assert any("to freeze (new)" in line for line in told[1:])
    hidden = after.filter(pl.col("suppressed_by") == "a friend")
    assert set(hidden["user_id"]) == {user}
    first = after.group_by("user_id").agg(pl.col("decision").sort_by("event_time").first())
    assert set(first["decision"]) == {"freeze"}
    rest = ["unit_id", "score", "summary", "status", "run_id", "scored_at"]
    assert after.select(rest).equals(before.select(rest))
    assert again.rows_out["anomalies"] == 0


def test_rules_see_amounts_as_they_were_paid(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    root = settings.lake.root
    flagged = pl.read_delta(f"{root}/anomalies")["unit_id"].implode()
    units = pl.read_delta(f"{root}/sequences").filter(pl.col("unit_id").is_in(flagged))
    events = units.select("unit_id", event_id="event_ids").explode("event_id")
    paid = events.join(pl.read_delta(f"{root}/events"), "event_id").group_by("unit_id")
    largest = paid.agg(pl.col("amount").max())["amount"].drop_nulls()
    price = next(one for one in largest.sort() if one != float(np.float32(one)))
    rule = RuleSettings(when=f"amount_max = {price}", decision="block", why="that price")
    alerts = settings.alerts.model_copy(update={"rules": (rule,)})
    settings = settings.model_copy(update={"alerts": alerts})

    told = list(decide.preview(JobContext("decide", settings, spark, Silent())))

    assert any("to block (that price)" in line for line in told)
