import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from domain.simulation.samples import shop
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.config import SimulateSettings
from habitus.domain.events import judge, valid_events
from habitus.domain.label_rows import judge_labels, valid_labels
from habitus.domain.mapping import load_mapping
from habitus.domain.simulation.shop import EVENT_COLUMNS, LABEL_COLUMNS
from habitus.errors import SettingsError
from habitus.jobs.simulate import simulate

pytestmark = pytest.mark.spark

MAPPING = "conf/sources/shop.yaml"


def _settings(folder: Path, **changes: object) -> SimulateSettings:
    # Three blocks of shoppers, the last one small.
    small = {"users": 1100, "days": 5, "promotion_days": (3,), "attack_share": 0.1}
    return shop(output=str(folder / "raw"), **(small | changes))


def _lines(folder: Path, name: str) -> list[str]:
    """Every line of every file but the headers, with the file's day, sorted."""
    found = []
    for path in (folder / "raw" / name).glob("day=*/*.txt"):
        header, *lines = path.read_text().splitlines()
        assert header == ",".join(EVENT_COLUMNS if name == "events" else LABEL_COLUMNS)
        found += [f"{path.parent.name}: {line}" for line in lines]
    return sorted(found)


def test_the_files_are_the_same_however_many_tasks_make_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    one = simulate(spark, _settings(tmp_path / "one"), 7, tasks=1)
    many = simulate(spark, _settings(tmp_path / "many"), 7, tasks=7)
    assert one == many
    for name in ("events", "labels"):
        lines = _lines(tmp_path / "one", name)
        assert len(lines) == one[name] > 100
        assert lines == _lines(tmp_path / "many", name)


def test_a_file_of_one_day_holds_late_rows_of_days_before(
    spark: SparkSession, tmp_path: Path
) -> None:
    simulate(spark, _settings(tmp_path), 7, tasks=1)
    (path,) = (tmp_path / "raw" / "events" / "day=3").glob("*.txt")
    with path.open() as lines:
        days = [row["ts"][:10] for row in csv.DictReader(lines) if row["ts"] > "2026"]
    assert days.count("2026-01-08") > 0.9 * len(days)
    assert "2026-01-06" in days


def test_the_mapping_reads_what_the_job_writes(spark: SparkSession, tmp_path: Path) -> None:
    settings = _settings(tmp_path, mess=0.1)
    written = simulate(spark, settings, 7)
    mapping = load_mapping(MAPPING)
    rows = (
        spark.read.options(**mapping.options)
        .options(columnNameOfCorruptRecord="_corrupt_record")
        .schema(f"{mapping.columns_in}, _corrupt_record string")
        .csv(f"{settings.output}/{mapping.path}")
        .cache()
    )
    judged = judge(rows, mapping, settings.start).cache()
    assert judged.count() == written["events"]
    reasons = {
        row["reason"]
        for row in judged.select(F.explode("_reasons").alias("reason")).distinct().collect()
    }
    assert reasons == {
        "malformed_record",
        "amount_malformed",
        "action_missing_or_malformed",
        "event_time_missing_or_malformed",
        "user_id_missing_or_malformed",
    }
    rejected = judged.where(F.size("_reasons") > 0).count()
    # Two of the five faults spoil a row.
    assert 0.03 < rejected / written["events"] < 0.05
    events = valid_events(judged)
    assert events.where("attributes['country'] is null").isEmpty()
    assert events.where("action = 'payment' and (amount is null or outcome is null)").isEmpty()
    label_file = mapping.label_file
    assert label_file is not None
    source = spark.read.options(**label_file.options).csv(f"{settings.output}/{label_file.path}")
    labels = valid_labels(judge_labels(source, label_file, "shop", settings.start))
    assert labels.count() == written["labels"]
    named = labels.where("unit_kind = 'event'")
    found = named.join(events, named["unit_id"] == events["event_id"]).count()
    assert found > 0.9 * named.count()


def test_a_later_simulation_replaces_an_earlier_one(spark: SparkSession, tmp_path: Path) -> None:
    simulate(spark, _settings(tmp_path), 7)
    first = _lines(tmp_path, "events")
    simulate(spark, _settings(tmp_path, users=500), 7)
    assert len(_lines(tmp_path, "events")) < len(first)
    simulate(spark, _settings(tmp_path), 7)
    assert _lines(tmp_path, "events") == first
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_folder_with_something_else_in_it_is_left_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    precious = tmp_path / "raw" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(SettingsError, match="no simulation"):
        simulate(spark, _settings(tmp_path), 7)
    assert precious.read_text() == "mine"


def test_a_killed_simulation_leaves_nothing_and_the_next_one_all(
    spark: SparkSession, tmp_path: Path
) -> None:
    code = (
        "from pathlib import Path; from habitus.edges.spark import start_spark;"
        "from habitus.jobs.simulate import simulate; from habitus.loading import load_settings;"
        "s = load_settings(overrides=['spark.master=local[1]', 'simulate.users=500000',"
        f"'simulate.output={tmp_path / 'raw'}']);"
        "simulate(start_spark(s.spark, 'killed'), s.simulate, 7)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "raw.making").exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "raw").exists()
    written = simulate(spark, _settings(tmp_path), 7)
    assert len(_lines(tmp_path, "events")) == written["events"]
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
