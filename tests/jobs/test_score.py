"""Scoring units that no other job has made, on a lake that has little else."""

from pathlib import Path

import pytest
from jobs.conftest import Lines, run
from jobs.unit_lakes import TABLE, lake_of, rows
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.domain.vocabulary import RARE
from habitus.jobs import train
from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs

UNITS, TESTED = 800, 200
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
    assert not any(told in line for line in second.reporter.lines)
