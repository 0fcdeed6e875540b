"""A ring of processes trains the model that one process would, and fails in words."""

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import builders
import cloudpickle
import numpy as np
import pytest
import ring_work
from pyspark.sql import SparkSession

from habitus.edges.ring import LocalRing, Processes, launch, slots
from habitus.errors import TrainingError

pytestmark = pytest.mark.train

ONE, TWO, THREE = (Processes(workers, timedelta(minutes=3)) for workers in (1, 2, 3))

# Modules of tests are not on the workers' path, so they travel with the work.
cloudpickle.register_pickle_by_value(ring_work)
cloudpickle.register_pickle_by_value(builders)


def nothing(line: str) -> None:
    """Whoever reports is not heard."""


def never(why: str) -> None:
    pytest.fail(f"started again: {why}")


def test_two_processes_end_with_the_weights_of_one_with_the_doubled_batch(
    spark: SparkSession, tmp_path: Path
) -> None:
    """To 1e-4 of each weight: sums of floats come in another order."""
    said: list[str] = []
    two = launch(ring_work.train_share, TWO, spark, said.append, never, str(tmp_path))
    one = ring_work.train_share(LocalRing(), nothing, str(tmp_path))
    ranks = [np.load(tmp_path / f"2_{rank}.npz") for rank in range(2)]
    for name in ranks[0].files:
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name])
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert len(said) == 1
    assert float(said[0]) == pytest.approx(one[0][-1][1], rel=1e-4)


def test_more_workers_than_slots_are_refused_before_anything_starts(spark: SparkSession) -> None:
    assert slots(spark) == 2
    with pytest.raises(TrainingError, match=r"train.workers=3: Spark can run 2 tasks at once"):
        launch(ring_work.fail_unexpectedly, THREE, spark, nothing, never)


def test_one_worker_runs_here(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        launch(ring_work.fail_unexpectedly, ONE, spark, nothing, never)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_worker_makes_the_work_start_again_and_its_own_error_ends_it_in_its_words(
    spark: SparkSession, tmp_path: Path
) -> None:
    began = time.monotonic()
    told: list[tuple[float, str]] = []

    def on_restart(why: str) -> None:
        told.append((time.monotonic() - began, why))

    again = replace(TWO, restarts=2)
    with pytest.raises(TrainingError, match=r"epoch 3, batch 4: the loss is nan. Lower the rate"):
        launch(ring_work.die_then_fail, again, spark, nothing, on_restart, str(tmp_path))

    assert (tmp_path / "taking part").read_text() == "2"
    ((seconds, why),) = told
    assert seconds < 60
    assert why.startswith("a worker was lost: ")
    assert why.endswith("restart 1 of 2")
