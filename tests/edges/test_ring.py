"""A ring of processes trains the model that one process would, and fails in words."""

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import builders
import cloudpickle
import numpy as np
import pytest
import ring_work
from pyspark.sql import SparkSession
from training_task import task_in

from habitus.edges.artefacts import ArtefactStore
from habitus.edges.ring import LocalRing, Processes, launch, slots
from habitus.edges.training import Task
from habitus.errors import HabitusError, TrainingError

pytestmark = [
    pytest.mark.train,
    # Horovod's threads that wait for a lost worker end with an error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

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


def test_what_keeps_a_report_from_being_kept_ends_the_workers_and_is_told(
    spark: SparkSession, tmp_path: Path
) -> None:
    def refused(line: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        launch(ring_work.train_share, TWO, spark, refused, never, str(tmp_path))


def test_more_workers_than_slots_are_refused_before_anything_starts(spark: SparkSession) -> None:
    assert slots(spark) == 2
    with pytest.raises(TrainingError, match=r"train.workers=3: Spark can run 2 tasks at once"):
        launch(ring_work.fail_unexpectedly, THREE, spark, nothing, never)


def test_one_worker_runs_here(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        launch(ring_work.fail_unexpectedly, ONE, spark, nothing, never)


@dataclass(frozen=True)
class Trained:
    """What became of a ring that trained the behaviour model.

    Args:
        error: What ended it.
        told: Lines of JSON that it reported since it last began.
        restarts: Why it began again.
        files: The detector's.
    """

    error: HabitusError
    told: list[dict[str, Any]]
    restarts: list[str]
    files: dict[str, bytes]


def ring_trained(
    spark: SparkSession, task: Task, error: Exception, killed_at: int | None = None
) -> Trained:
    told: list[dict[str, Any]] = []
    restarts: list[str] = []
    heard = Path(task.root, "heard")
    heard.touch()

    def give_up() -> None:
        restarts.append("not within a minute of the kill")
        spark.sparkContext.cancelAllJobs()

    minute = Timer(60, give_up)

    def on_restart(why: str) -> None:
        minute.cancel()
        told.clear()
        restarts.append(why)

    def on_report(line: str) -> None:
        told.append(json.loads(line))
        if killed_at and not restarts:  # soon: in the second epoch
            minute.start()
        heard.write_text(line)

    with pytest.raises(HabitusError) as caught:
        launch(
            ring_work.train_then_fail,
            replace(TWO, restarts=2),
            spark,
            on_report,
            on_restart,
            task,
            error,
            killed_at,
        )
    minute.cancel()
    files = {path.name: path.read_bytes() for path in Path(task.root).glob("stored/*")}
    return Trained(caught.value, told, restarts, files)


def short_task(folder: Path) -> Task:
    task = task_in(folder)
    return replace(task, plan=replace(task.plan, epochs=3, steps=6))


@pytest.fixture(scope="module")
def killed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A ring whose last process was killed once, at the third step of the second epoch."""
    task = short_task(tmp_path_factory.mktemp("killed"))
    error = TrainingError("epoch 3, batch 4", "the loss is nan", "Lower the rate.")
    first_epoch = task.plan.steps + 1  # a sum for each step and one for validation
    return ring_trained(spark, task, error, killed_at=first_epoch + 3)


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A ring of which no process was killed, which found a damaged checkpoint."""
    task = short_task(tmp_path_factory.mktemp("undisturbed"))
    ArtefactStore(task.root).write_file(f"{task.checkpoint}/state.npz", b"PK damaged")
    return ring_trained(spark, task, KeyError("no such field"))


def test_a_ring_that_lost_a_worker_begins_again_after_its_last_epoch(killed: Trained) -> None:
    assert [why.partition(":")[0] for why in killed.restarts] == ["a worker was lost"]
    assert killed.restarts[0].endswith("restart 1 of 2")
    note, *epochs = killed.told
    assert note == {"note": "goes on from its checkpoint after epoch 1"}
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]


def test_a_ring_that_lost_a_worker_comes_to_the_weights_of_one_that_did_not(
    killed: Trained, undisturbed: Trained
) -> None:
    """To the last bit: a sum of two does not depend on their order."""
    assert killed.told[1:] == undisturbed.told[1:]
    for name in ("weights.npz", "behaviour.json", "whitening.npz"):
        assert killed.files[name] == undisturbed.files[name]


def test_epochs_are_told_as_they_come(undisturbed: Trained) -> None:
    """Each was heard before the ring went on: it would have ended otherwise."""
    assert [epoch["epoch"] for epoch in undisturbed.told[1:]] == [1, 2, 3]


def test_all_workers_begin_anew_where_the_checkpoint_is_damaged(undisturbed: Trained) -> None:
    assert undisturbed.told[0]["note"].endswith("; begins with epoch 1")
    assert not undisturbed.restarts


def test_an_error_of_ours_ends_the_ring_in_its_words(killed: Trained) -> None:
    assert str(killed.error) == "epoch 3, batch 4: the loss is nan. Lower the rate."


def test_an_error_that_nobody_foresaw_ends_the_ring_at_once_and_is_told(
    undisturbed: Trained,
) -> None:
    assert isinstance(undisturbed.error, TrainingError)
    assert undisturbed.error.place == "worker 2 of 2"
    assert undisturbed.error.problem == "KeyError: 'no such field'"
