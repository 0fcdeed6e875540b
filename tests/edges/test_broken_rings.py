"""A ring that breaks is started again so often and no more, and whoever waits is told each time."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import horovod.spark
import pytest
from pyspark.sql import SparkSession

from habitus.edges.ring import Processes, Report, launch
from habitus.errors import TrainingError

pytestmark = pytest.mark.train

TWO = Processes(2, timedelta(minutes=3))
MEND = "See --verbose for the workers' own words, raise train.restarts, or set train.workers=1."


@dataclass
class Breaking:
    """Stands for Horovod, whose rings all end with these words and this error.

    A real ring that breaks takes long to start each time; `test_ring` has one. Nothing here depends
    on the error's wording.
    """

    words: str
    error: str = "1 of 2 processes ended with status 137"
    tried: int = 0

    def run(self, work: Any, stdout: Any, **given: Any) -> None:
        self.tried += 1
        stdout.write(self.words.format(self.tried))
        raise RuntimeError(self.error)


def work(ring: object, report: Report) -> None:
    pytest.fail("nothing of a ring that Horovod cannot start is run here")


def ended(
    breaking: Breaking, restarts: int, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[str]]:
    """What is said in the end, and what was told at each restart."""
    monkeypatch.setattr(horovod.spark, "run", breaking.run)
    told: list[str] = []
    with pytest.raises(TrainingError) as caught:
        launch(work, replace(TWO, restarts=restarts), spark, pytest.fail, told.append)
    return str(caught.value), told


def test_a_ring_that_breaks_again_and_again_is_given_up_after_its_restarts(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking("[1]<stderr>:loading\n[1]<stderr>:out of memory, time {}\n")
    said, told = ended(breaking, 2, spark, monkeypatch)
    assert breaking.tried == 3
    assert told == [
        "a worker was lost: out of memory, time 1; restart 1 of 2",
        "a worker was lost: out of memory, time 2; restart 2 of 2",
    ]
    assert said == f"train.workers=2: a worker was lost: out of memory, time 3. {MEND}"


def test_without_restarts_a_ring_that_breaks_is_not_started_again(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking("")
    said, told = ended(breaking, 0, spark, monkeypatch)
    assert (breaking.tried, told) == (1, [])
    # No worker left a word, so Horovod's stand for theirs.
    assert said == f"train.workers=2: a worker was lost: {breaking.error}. {MEND}"


@contextmanager
def busy(spark: SparkSession, folder: Path) -> Iterator[None]:
    """Another job has both slots."""

    def wait(number: int) -> None:
        (folder / str(number)).touch()
        while not (folder / "done").exists():
            time.sleep(0.05)

    with ThreadPoolExecutor(1) as thread:
        tasks = spark.sparkContext.parallelize(range(2), 2)
        thread.submit(tasks.foreach, wait)
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.05)
        try:
            yield
        finally:
            (folder / "done").touch()


# Horovod's thread that waits for its workers ends with an error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_workers_that_do_not_start_in_time_are_not_waited_for_again(
    spark: SparkSession, tmp_path: Path
) -> None:
    two = Processes(2, timedelta(seconds=2), restarts=2)
    with busy(spark, tmp_path), pytest.raises(TrainingError) as caught:
        launch(work, two, spark, pytest.fail, pytest.fail)
    assert str(caught.value) == (
        "train.workers=2: the workers did not start within 2 s. "
        "Free the cluster's slots or raise train.start_timeout."
    )
