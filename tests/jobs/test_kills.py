"""Jobs killed at any moment, or run twice at once: the next run completes the same tables."""

import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from java_options import QUICK_JAVA
from jobs.conftest import SMALL, Lines, SmallLake, run, run_as_called, small_settings
from jobs.tables import content, contents, runs
from pyspark.sql import SparkSession

from habitus.errors import ConflictError
from habitus.jobs.catalogue import JOBS
from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs

# What a job prints when the moment to kill it has come, once for each time it is killed: the step
# has just begun and is cut off in the middle.
MOMENTS = {
    "features": ("encode sequences ...",),
    "score": ("score units with", "choose and explain flags ..."),
}
# What the killed runs and the one after them make.
MADE = ("features", "sequences", "scores", "anomalies", "flag_days")


def command(root: Path, *words: str) -> list[str]:
    """habitus with these words, in a process of its own, on the lake of a small shop."""
    settings = [f"--set={setting}" for setting in (*SMALL, f"lake.root={root}")]
    quick = f"--set=spark.options={{spark.driver.extraJavaOptions: {QUICK_JAVA}}}"
    main = "from habitus.cli.main import main; main()"
    return [sys.executable, "-c", main, *words, *settings, quick]


def kill_at(moment: str, first: str, root: Path, *overrides: str) -> None:
    """Start the chain and kill it, JVM and Python workers too, once it prints the moment."""
    # Beginning after ingest, neither is read.
    words = ["run", "--from", first, "--source", "none", "--input", "none"]
    words += [f"--set={override}" for override in overrides]
    with subprocess.Popen(
        command(root, *words), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().startswith(moment):
                break
        else:
            pytest.fail(f"the run never printed {moment!r}")
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=True)
        process.wait()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.timeout(900)
def test_killed_runs_are_completed_by_the_next_to_the_same_tables(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    root = tmp_path / "lake"
    made = shutil.ignore_patterns(*MADE, "reports", "runs")
    shutil.copytree(chain.settings.lake.root, root, ignore=made)

    for job, moments in MOMENTS.items():
        for moment in moments:
            kill_at(moment, job, root)
        run_as_called(spark, job, small_settings(tmp_path))

    assert contents(root) == contents(chain.settings.lake.root)
    # A killed run could not say how it ended; its row tells that it was under way.
    assert [row["status"] for row in runs(root)].count("running") == 3


class Killed(BaseException):
    """No job handles this."""


@dataclass
class UntilWritten(Lines):
    """A reporter with which a run ends as soon as it has committed to a table."""

    table: str = ""

    def say(self, text: str) -> None:
        if text.startswith(f"{self.table}:"):
            raise Killed


def test_scoring_that_ends_between_two_tables_twice_is_completed_to_the_same_tables(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    root, settings = tmp_path / "lake", small_settings(tmp_path)
    of_score = ("scores", "anomalies", "flag_days")
    shutil.copytree(
        chain.settings.lake.root, root, ignore=shutil.ignore_patterns(*of_score, "reports")
    )

    for table in of_score[:2]:
        with pytest.raises(Killed):
            JOBS["score"].run(JobContext("score", settings, spark, UntilWritten(table=table)))
    there = [(root / table).exists() for table in of_score]
    run(spark, "score", settings)

    assert there == [True, True, False]
    for table in of_score:
        assert content(root, table) == content(chain.settings.lake.root, table)


def test_a_killed_training_goes_on_from_its_last_epoch_to_the_same_model(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    root, only = tmp_path / "lake", ("detectors=[behaviour]", "alerts.detector=behaviour")
    for name in ("sequences", "vocabularies"):
        shutil.copytree(f"{chain.settings.lake.root}/{name}", root / name)

    kill_at("epoch 1 of 2", "train", root, *only)
    assert (root / "checkpoints").exists()
    again = run(spark, "train", small_settings(tmp_path, *only))

    assert isinstance(again.reporter, Lines)
    told = [line for line in again.reporter.lines if "epoch" in line]
    assert told[0].startswith("goes on from its checkpoint after epoch")
    assert [line.split(":")[0] for line in told[1:]] == ["epoch 1 of 2", "epoch 2 of 2"]
    model_id = again.artefacts.current()["behaviour"]
    mine, others = (c.artefacts.read(model_id) for c in (again, chain.contexts["train"]))
    assert mine.keys() == others.keys()
    for name in ("weights.npz", "whitening.npz", "behaviour.json", "calibration.json"):
        assert mine[name] == others[name]
    assert not list((root / "checkpoints").iterdir())


def test_two_scoring_runs_at_once_leave_one_table(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    root, settings = tmp_path / "lake", small_settings(tmp_path)
    made = shutil.ignore_patterns("scores", "anomalies", "flag_days")
    shutil.copytree(chain.settings.lake.root, root, ignore=made)

    with ThreadPoolExecutor(2) as threads:
        runs_at_once = [threads.submit(run, spark, "score", settings) for _ in range(2)]
    errors = [error for one in runs_at_once if (error := one.exception())]

    # One may be told that the other was first; it never leaves a row twice.
    assert len(errors) < 2
    assert [error for error in errors if not isinstance(error, ConflictError)] == []
    if errors:
        run(spark, "score", settings)
    assert contents(root) == contents(chain.settings.lake.root)


def test_two_processes_that_score_at_once_leave_one_table(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    root, settings = tmp_path / "lake", small_settings(tmp_path)
    made = shutil.ignore_patterns("scores", "anomalies", "flag_days", "runs")
    shutil.copytree(chain.settings.lake.root, root, ignore=made)
    error: ConflictError | None = None

    with subprocess.Popen(
        command(root, "score"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().startswith("score units with"):
                break
        try:
            run(spark, "score", settings)
        except ConflictError as conflict:
            error = conflict
        after = process.stdout.read()

    # One may be told that the other was first; it never leaves a row twice.
    if process.returncode:
        assert error is None
        assert "another run has changed the table at the same time. Run this one again." in after
    if error or process.returncode:
        run(spark, "score", settings)
    assert contents(root) == contents(chain.settings.lake.root)
