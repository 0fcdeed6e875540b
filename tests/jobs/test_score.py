"""Scoring units that no other job has made, on a lake that has little else."""

import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import Lines, run
from jobs.unit_lakes import TABLE, context_of, lake_of, rows, settings_in
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sequence_files import START

from habitus.alert_settings import RuleSettings
from habitus.domain.features import feature_names
from habitus.domain.scoring import NOTES
from habitus.domain.vocabulary import RARE
from habitus.jobs import train
from habitus.jobs.frame import JobContext
from habitus.tables import features

pytestmark = pytest.mark.jobs

UNITS, TESTED = 800, 200
_, ALL_UNKNOWN, _ = NOTES
CHOICE = ("detectors=[markov, isolation_forest]", "alerts.detector=markov")


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> JobContext:
    """A lake whose units of the last two of eight days are to be scored."""
    folder: Path = tmp_path_factory.mktemp("lake")
    context = lake_of(spark, folder, UNITS, *CHOICE)
    train.run(context)
    return context


def test_events_of_actions_that_training_did_not_know_are_counted_once_and_told_of(
    spark: SparkSession, trained: JobContext
) -> None:
    unknown = F.transform("action", lambda token: F.lit(RARE))
    is_last = F.substring("unit_id", 2, 9).cast("int") >= UNITS - TESTED // 4
    action = F.when(is_last, unknown).otherwise(F.col("action"))
    changed = rows(spark, UNITS).withColumn("action", action)
    trained.lake.overwrite(TABLE, changed)
    strange = changed.where(is_last).agg(F.sum("n_events")).first()
    assert strange is not None

    first, second = run(spark, "score", trained.settings), run(spark, "score", trained.settings)

    # Two models score each unit.
    assert first.rows_in["units to score"] == TESTED
    assert first.rows_in["events of unknown actions"] == strange[0]
    assert isinstance(first.reporter, Lines)
    assert isinstance(second.reporter, Lines)
    told = "of the events to score have an action that training did not know"
    assert any(told in line for line in first.reporter.lines)
    assert second.rows_in["units to score"] == second.rows_in["events of unknown actions"] == 0
    # Neither model can score them, and both say so.
    scores = pl.read_delta(f"{trained.lake.root}/scores")
    noted = scores.filter(pl.col("note") == ALL_UNKNOWN)
    assert noted.height == 2 * (TESTED // 4) == scores["note"].count()
    assert noted.select("score", "p_value").unique().rows() == [(0, 1)]
    assert first.rows_out[f"scores that mean nothing: {ALL_UNKNOWN}"] == noted.height
    assert f"{noted.height} of the new scores mean nothing: {ALL_UNKNOWN}" in first.reporter.lines
    assert not any("mean nothing" in name for name in second.rows_out)
    assert not any(told in line for line in second.reporter.lines)


def test_a_rule_sees_the_users_earlier_flags_whichever_run_found_them(
    spark: SparkSession, tmp_path: Path, trained: JobContext
) -> None:
    for name in ("models", "vocabularies"):
        shutil.copytree(f"{trained.lake.root}/{name}", tmp_path / name)
    again = RuleSettings(when="flags_before >= 1", decision="restrict", why="again")
    settings = settings_in(tmp_path, "detectors=[markov]", "alerts.detector=markov")
    often = {"rules": (again,), "false_positive_rate": 0.5, "budget_per_day": TESTED}
    settings = settings.model_copy(update={"alerts": settings.alerts.model_copy(update=often)})
    lake, names = context_of(spark, settings).lake, feature_names(settings.features)
    lake.overwrite(TABLE, rows(spark, UNITS))
    lake.overwrite(features(names), spark.createDataFrame([], features(names).schema()))
    first_day = settings.score.model_copy(update={"until": START + timedelta(days=7)})

    run(spark, "score", settings.model_copy(update={"score": first_day}))
    run(spark, "score", settings)

    flags = pl.read_delta(str(tmp_path / "anomalies")).sort("event_time")
    assert flags["run_id"].n_unique() == 2
    of_users = flags.group_by("user_id").agg("decided_by", "run_id")
    assert of_users["run_id"].list.n_unique().max() == 2
    for first, *later in of_users["decided_by"].to_list():
        assert first.startswith("severity")
        assert set(later) <= {"again"}
    assert run(spark, "decide", settings).rows_out["anomalies"] == 0
