"""Machines, disks and files that fail under `sessionize`, and runs beside each other."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from event_streams import frame, shoppers
from java_options import QUICK_JAVA
from jobs.conftest import rebuilding, run, run_as_called, small_settings
from jobs.tables import content, sessions
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.edges.lake import Lake
from habitus.errors import ConflictError, InputError
from habitus.jobs.frame import JobContext
from habitus.tables import EVENTS, SESSIONS

pytestmark = pytest.mark.jobs


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


@pytest.fixture
def lake(spark: SparkSession, settings: Settings) -> Lake:
    return Lake(spark, settings.lake)


def many_events(spark: SparkSession, events: int) -> DataFrame:
    """So many events of a thousand users over a month, with long ids."""
    number = F.xxhash64("id")
    told = {
        "event_id": F.sha2(F.col("id").cast("string"), 256),
        "user_id": F.concat(F.lit("u"), F.pmod(number, F.lit(1000))),
        "event_time": F.timestamp_micros(
            F.lit(1_767_225_600_000_000) + F.pmod(number, F.lit(30 * 86_400)) * 1_000_000
        ),
        "action": F.lit("view"),
        "item_id": F.sha2(number.cast("string"), 256),
        "attributes": F.create_map().cast("map<string,string>"),
        "source": F.lit("test"),
        "ingested_at": F.lit("2026-02-01").cast("timestamp"),
        "event_date": F.col("event_time").cast("date"),
    }
    rows = spark.range(events)
    for column in EVENTS.columns:
        rows = rows.withColumn(column.name, told.get(column.name, F.lit(None)).cast(column.type))
    return rows.drop("id")


def command(settings: Settings, options: dict[str, str], master: str = "local[2]") -> list[str]:
    quick = {"spark.driver.extraJavaOptions": QUICK_JAVA}
    pairs = ", ".join(f"{key}: '{value}'" for key, value in (quick | options).items())
    wanted = (
        f"lake.root={settings.lake.root}",
        f"spark.master={master}",
        "spark.driver_memory=1g",
        "spark.shuffle_partitions=4",
        "updates.rebuild=true",
        f"spark.options={{{pairs}}}",
    )
    program = [sys.executable, "-c", "from habitus.cli.main import main; main()", "sessionize"]
    return [*program, *(f"--set={setting}" for setting in wanted)]


def test_a_full_disk_under_the_shuffle_is_told_and_leaves_the_sessions_as_they_were(
    spark: SparkSession, lake: Lake, settings: Settings, tmp_path: Path
) -> None:
    lake.append(EVENTS, frame(spark, EVENTS, shoppers(5, users=3)))
    run(spark, "sessionize", settings)
    before = content(lake.root, "sessions")
    lake.append(EVENTS, many_events(spark, 100_000))
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=4m none {small} && exec "$@"'
    inside = ["unshare", "--map-root-user", "--mount", "bash", "-c", mount, "bash"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")

    failed = subprocess.run(
        [*inside, *command(settings, {"spark.local.dir": str(small)})],
        capture_output=True,
        text=True,
        check=False,
    )

    assert failed.returncode == 1
    assert "spark.local.dir: no space left on a disk" in failed.stderr
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert content(lake.root, "sessions") == before
    run(spark, "sessionize", rebuilding(settings))
    assert count_events(lake) == lake.read(EVENTS).count()


def count_events(lake: Lake) -> int:
    (row,) = lake.read(SESSIONS).agg(F.sum("n_events").alias("events")).collect()
    return int(row["events"])


def test_a_damaged_file_is_named_and_leaves_the_sessions_as_they_were(
    spark: SparkSession, lake: Lake, settings: Settings
) -> None:
    lake.append(EVENTS, frame(spark, EVENTS, shoppers(5, users=3)))
    run(spark, "sessionize", settings)
    before = content(lake.root, "sessions")
    known = set(Path(lake.root, "events").glob("*.parquet"))
    lake.append(EVENTS, many_events(spark, 1000).coalesce(1))
    (added,) = set(Path(lake.root, "events").glob("*.parquet")) - known
    added.with_name(f".{added.name}.crc").unlink()
    whole = added.read_bytes()
    added.write_bytes(whole[:1000] + bytes(1000) + whole[2000:])

    with pytest.raises(InputError, match="the file is damaged") as caught:
        run_as_called(spark, "sessionize", rebuilding(settings))

    assert caught.value.place.endswith(added.name)
    assert content(lake.root, "sessions") == before
    added.write_bytes(whole)
    run(spark, "sessionize", rebuilding(settings))
    assert count_events(lake) == lake.read(EVENTS).count()


def test_of_two_runs_at_once_one_wins_and_the_other_says_why(
    spark: SparkSession, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = shoppers(5)
    lake.append(EVENTS, frame(spark, EVENTS, events[::2]))
    run(spark, "sessionize", settings)
    lake.append(EVENTS, frame(spark, EVENTS, events[1::2]))
    merge = JobContext.merge

    def after_the_other(*given: Any, **named: Any) -> int:
        monkeypatch.undo()
        run_as_called(spark.newSession(), "sessionize", settings)
        return merge(*given, **named)

    monkeypatch.setattr(JobContext, "merge", after_the_other)
    with pytest.raises(ConflictError, match="another run has changed the table"):
        run_as_called(spark, "sessionize", settings)

    made = sessions(lake)
    run(spark, "sessionize", rebuilding(settings))
    assert sessions(lake) == made


@contextmanager
def daemon(folder: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon of Spark's, its executors with it, that writes `name`.log in a folder."""
    environment = os.environ | {
        "SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / name / "local"),
        "SPARK_WORKER_DIR": str(folder / name / "work"),
    }
    program = [
        str(Path(sys.prefix, "bin", "spark-class")),
        f"org.apache.spark.deploy.{arguments[0]}",
        *arguments[1:],
    ]
    with (
        (folder / f"{name}.log").open("w") as log,
        subprocess.Popen(
            program, stdout=log, stderr=log, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.wait()


def awaited(log: Path, words: str) -> re.Match[str]:
    for _ in range(600):
        if found := re.search(words, log.read_text()):
            return found
        time.sleep(0.1)
    pytest.fail(f"{words!r} did not appear in {log}: {log.read_text()}")


def test_a_worker_killed_in_the_shuffle_costs_time_but_no_session(
    spark: SparkSession, lake: Lake, settings: Settings, tmp_path: Path
) -> None:
    lake.append(EVENTS, many_events(spark, 120_000).repartition(8))
    at = ("--host", "127.0.0.1", "--webui-port", "0")
    with daemon(tmp_path, "master", "master.Master", *at, "--port", "0"):
        master = awaited(tmp_path / "master.log", r"Starting Spark master at (\S+)")[1]
        room = ("--cores", "1", "--memory", "1g", master)
        with (
            daemon(tmp_path, "first", "worker.Worker", *at, *room),
            daemon(tmp_path, "second", "worker.Worker", *at, *room) as second,
        ):
            for name in ("first", "second"):
                awaited(tmp_path / f"{name}.log", "Successfully registered")
            options = {
                "spark.executor.memory": "700m",
                "spark.executor.cores": "1",
                "spark.executor.extraJavaOptions": QUICK_JAVA,
                # Without both from the beginning, the second may have no part of the shuffle.
                "spark.scheduler.minRegisteredResourcesRatio": "1.0",
                "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
            }
            with subprocess.Popen(
                command(settings, options, master), stderr=subprocess.PIPE, text=True
            ) as job:
                # Its part of the shuffle is partly there, and partly under way.
                while shuffled(tmp_path / "second") < 500_000:
                    assert job.poll() is None, "the job ended before the worker could be killed"
                    time.sleep(0.02)
                kill(second)
                _, error = job.communicate(timeout=300)

    assert job.returncode == 0, error
    assert (
        lake.read(SESSIONS).select("session_id").distinct().count() == lake.read(SESSIONS).count()
    )
    assert count_events(lake) == 120_000
    made = lake.version(SESSIONS)
    run(spark, "sessionize", rebuilding(settings))
    others = (
        lake.read(SESSIONS).drop("n_actions").exceptAll(lake.read(SESSIONS, made).drop("n_actions"))
    )
    assert others.count() == 0


def shuffled(folder: Path) -> int:
    """Bytes of shuffle files that a worker has."""
    return sum(path.stat().st_size for path in folder.rglob("shuffle_*.data"))
