"""Bad input, as a user meets it: one message with the place, the value and the mend."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import SHOP, Command, SmallLake, assert_clear
from jobs.tables import runs
from pyspark.sql import SparkSession

from habitus.cli.main import main

pytestmark = pytest.mark.jobs


def test_an_unknown_setting(habitus: Command) -> None:
    status, error = habitus("sessionize", "--set", "sessions.gapp=1 hour")

    assert status == 2
    assert_clear(error, "sessions.gapp", "'gap'")


def test_a_setting_of_the_wrong_type(habitus: Command) -> None:
    status, error = habitus("sessionize", "--set", "sessions.max_events=lots")

    assert status == 2
    assert_clear(error, "sessions.max_events", "'lots'")


def test_a_table_that_is_not_there(habitus: Command, tmp_path: Path) -> None:
    status, error = habitus("sessionize")

    assert status == 1
    assert_clear(error, "lake/events", "no such table", "Run the job that writes events")


def test_a_failed_run_leaves_its_error(habitus: Command, tmp_path: Path) -> None:
    habitus("sessionize")

    (row,) = runs(tmp_path / "lake")
    assert (row["job"], row["status"]) == ("sessionize", "failed")
    assert "no such table" in row["error"]


def test_a_table_with_another_schema(habitus: Command, tmp_path: Path) -> None:
    pl.DataFrame({"who": ["u"]}).write_delta(str(tmp_path / "lake" / "events"))

    status, error = habitus("sessionize")

    assert status == 1
    assert_clear(error, "lake/events", "column 'event_id' is missing")


def test_a_model_that_is_not_there(habitus: Command, tmp_path: Path, chain: SmallLake) -> None:
    shutil.copytree(f"{chain.settings.lake.root}/sequences", tmp_path / "lake" / "sequences")

    status, error = habitus("score")

    assert status == 1
    assert_clear(error, "lake/models", "no model of conduct", "habitus train")


def test_a_damaged_model(habitus: Command, tmp_path: Path, chain: SmallLake) -> None:
    for name in ("sequences", "models"):
        shutil.copytree(f"{chain.settings.lake.root}/{name}", tmp_path / "lake" / name)
    model = chain.contexts["score"].artefacts.current()["markov"]
    path = tmp_path / "lake" / "models" / model / "calibration.json"
    path.write_text(path.read_text() + " ")

    status, error = habitus("score")

    assert status == 1
    assert_clear(error, f"{model}/calibration.json", "not what training wrote", "train again")


def test_more_workers_than_slots(habitus: Command, tmp_path: Path, chain: SmallLake) -> None:
    for name in ("sequences", "vocabularies"):
        shutil.copytree(f"{chain.settings.lake.root}/{name}", tmp_path / "lake" / name)

    status, error = habitus("train", "--set", "train.workers=3")

    assert status == 1
    assert_clear(error, "train.workers", "3", "2")


def test_too_few_rows_to_train_on(habitus: Command, tmp_path: Path, chain: SmallLake) -> None:
    for name in ("sequences", "vocabularies"):
        shutil.copytree(f"{chain.settings.lake.root}/{name}", tmp_path / "lake" / name)

    status, error = habitus("train", "--set", "train.minimum_units=1000000")

    assert status == 1
    assert_clear(error, "train.minimum_units=1000000", "Ingest more")
    assert not (tmp_path / "lake" / "models").exists()


def test_a_dry_run_shows_settings_inputs_and_outputs_and_does_nothing(
    spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lake = tmp_path / "lake"
    with pytest.raises(SystemExit):
        main(["run", "--dry-run", f"--set=lake.root={lake}", "--source", SHOP, "--input", "x"])

    shown = capfd.readouterr().out
    assert "max_events: 500" in shown
    assert "reads csv files in x as shop" in shown
    assert f"reads delta.`{lake}/events`, not there yet" in shown
    assert f"writes delta.`{lake}/anomalies`" in shown
    assert not lake.exists()
