"""Bad input, as a user meets it: one message with the place, the value and the mend."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import SHOP, SMALL, Lines, SmallLake, run, small_settings
from jobs.tables import runs
from pyspark.sql import SparkSession

from habitus.cli.main import main

pytestmark = pytest.mark.jobs

HEADER = "id,ts,customer,event,price\n"
ROW = "1,2026-01-01 10:00:00,u1,view,3.5\n"
MAPPING = """
name: mine
format: csv
options: {header: "true"}
columns: {event_id: id, event_time: to_timestamp(ts), user_id: customer, action: event}
"""

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def habitus(spark: SparkSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command line on a lake of its own; returns exit status and standard error."""

    def run(*arguments: str, lake: Path | None = None) -> tuple[int, str]:
        settings = [
            f"--set={setting}" for setting in (*SMALL, f"lake.root={lake or tmp_path / 'lake'}")
        ]
        with pytest.raises(SystemExit) as caught:
            main([arguments[0], *settings, *arguments[1:]])
        return int(caught.value.code or 0), capfd.readouterr().err

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MAPPING)
    (tmp_path / "events.csv").write_text(HEADER + ROW)
    return tmp_path


def ingest(habitus: Command, files: Path, **changes: str) -> tuple[int, str]:
    source = changes.get("source", str(files / "mine.yaml"))
    path = changes.get("input", str(files / "events.csv"))
    return habitus("ingest", "--source", source, "--input", path)


def assert_clear(error: str, *words: str) -> None:
    assert error.count("\n") == 1, error
    for word in words:
        assert word in error
    for noise in ("Traceback", "java.", "org.apache", "JVM stacktrace"):
        assert noise not in error


def test_a_missing_file(habitus: Command, files: Path) -> None:
    status, error = ingest(habitus, files, input=str(files / "none.csv"))

    assert status == 1
    assert_clear(error, "none.csv", "no such file", "Give the path")


def test_a_missing_mapping(habitus: Command, files: Path) -> None:
    status, error = ingest(habitus, files, source=str(files / "min.yaml"))

    assert status == 2
    assert_clear(error, "min.yaml", "no such file", "'mine'")


def test_an_unreadable_file(habitus: Command, files: Path) -> None:
    (files / "mine.yaml").write_text(MAPPING.replace("csv", "parquet"))

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(error, "events.csv", "not readable", "Give files of the format")


def test_a_wrong_column_in_a_mapping(habitus: Command, files: Path) -> None:
    valid = "valid: {fair: amount >= 0}\n"
    (files / "mine.yaml").write_text(
        MAPPING.replace("user_id: customer", "user_id: client") + valid
    )

    status, error = ingest(habitus, files)

    assert status == 2
    assert_clear(error, "mine.yaml: columns.user_id", "'client'", "id, ts, customer, event, price")


def test_a_bad_expression_in_a_mapping(habitus: Command, files: Path) -> None:
    (files / "mine.yaml").write_text(MAPPING.replace("to_timestamp(ts)", "to_timestamp(ts"))

    status, error = ingest(habitus, files)

    assert status == 2
    assert_clear(error, "mine.yaml: columns.event_time", "'to_timestamp(ts'", "Mend the expression")


def test_a_bad_condition_in_a_mapping(habitus: Command, files: Path) -> None:
    (files / "mine.yaml").write_text(MAPPING + "valid: {fair: prize >= 0}\n")

    status, error = ingest(habitus, files)

    assert status == 2
    assert_clear(error, "mine.yaml: valid.fair", "'prize >= 0'")


def test_a_bad_expression_for_labels_is_found_before_anything_is_written(
    habitus: Command, files: Path
) -> None:
    columns = "{unit_kind: kind, unit_id: id, label: 'true', known_at: to_timestamp(when}"
    labels = f"{{path: events.csv, format: csv, columns: {columns}}}"
    (files / "mine.yaml").write_text(f"{MAPPING}path: events.csv\nlabel_file: {labels}\n")

    status, error = ingest(habitus, files, input=str(files))

    assert status == 2
    assert_clear(error, "mine.yaml: label_file.columns.", "does not work on this source")
    assert not (files / "lake" / "events").exists()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,ts,event,customer,price", "the header of another file, has 'customer'"),
        ("id,ts,customer,event,price,tax", "the header of another file, 6"),
    ],
)
def test_csv_files_with_other_columns_are_not_read_as_if_they_had_the_first_ones(
    habitus: Command, files: Path, header: str, said: str
) -> None:
    folder = files / "several"
    folder.mkdir()
    (folder / "a.csv").write_text(HEADER + ROW)
    (folder / "b.csv").write_text(f"{header}\n2,2026-01-01 10:00:00,view,u2,4\n")

    status, error = ingest(habitus, files, input=str(folder))

    assert status == 1
    assert_clear(error, "several/", said, "Give files of the same columns")
    assert not (files / "lake" / "events").exists()


def test_csv_files_with_the_row_numbers_that_pandas_writes_are_read(
    habitus: Command, files: Path
) -> None:
    (files / "events.csv").write_text(f",{HEADER}0,{ROW}")

    assert ingest(habitus, files) == (0, "")
    assert pl.read_delta(str(files / "lake" / "events"))["event_id"].to_list() == ["1"]


def test_malformed_json_is_rejected_line_by_line(habitus: Command, files: Path) -> None:
    line = '{"id": "1", "ts": "2026-01-01", "customer": "u", "event": "view", "price": "1"}'
    (files / "events.csv").write_text(f"{line}\n{{broken\nbroken too\n")
    names = "schema: 'id string, ts string, customer string, event string, price string'\n"
    (files / "mine.yaml").write_text(MAPPING.replace("csv", "json") + names)

    status, error = ingest(habitus, files)

    assert (status, error) == (0, "")
    rejected = pl.read_delta(str(files / "lake" / "events_rejected"))
    assert sorted("broken" in raw for raw in rejected["raw"]) == [True, True]
    assert set(rejected["reasons"].list.first()) == {"malformed_record"}


def test_a_mapping_that_yields_no_valid_row(habitus: Command, files: Path) -> None:
    (files / "mine.yaml").write_text(MAPPING.replace("to_timestamp(ts)", "to_timestamp(event)"))

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(
        error, "none of 1 rows", "event_time_missing_or_malformed (1)", "Nothing was written"
    )
    assert not (files / "lake" / "events").exists()


def test_events_of_a_time_to_come_are_told_with_the_rule_that_rejects_them(
    spark: SparkSession, files: Path
) -> None:
    (files / "events.csv").write_text(HEADER + ROW + ROW.replace("1,2026", "2,2999"))
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}

    told = run(spark, "ingest", small_settings(files / "told"), **given)
    assert isinstance(told.reporter, Lines)
    (said,) = (line for line in told.reporter.lines if "time to come" in line)
    assert said.startswith("1 events are of a time to come, the last of 2999-01-01 10:00:00")

    (files / "mine.yaml").write_text(MAPPING + said.partition("mapping, ")[2])
    mended = run(spark, "ingest", small_settings(files / "mended"), **given)
    assert mended.rows_out == {"events": 1, "events_rejected": 1, "duplicates": 0}


@pytest.mark.parametrize("text", ["", HEADER])
def test_an_empty_input(habitus: Command, files: Path, text: str) -> None:
    (files / "events.csv").write_text(text)

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(error, "events.csv", "empty")
    assert not (files / "lake" / "events").exists()


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


def test_an_ingest_into_a_foreign_table(habitus: Command, files: Path) -> None:
    pl.DataFrame({"who": ["u"]}).write_delta(str(files / "lake" / "events"))

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(error, "lake/events", "another lake.root")
    assert pl.read_delta(str(files / "lake" / "events")).height == 1


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
    habitus: Command, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(
            [
                "run",
                "--dry-run",
                f"--set=lake.root={files / 'lake'}",
                "--source",
                SHOP,
                "--input",
                "x",
            ]
        )

    shown = capfd.readouterr().out
    assert "max_events: 500" in shown
    assert "reads csv files in x as shop" in shown
    assert f"reads delta.`{files / 'lake'}/events`, not there yet" in shown
    assert f"writes delta.`{files / 'lake'}/anomalies`" in shown
    assert not (files / "lake").exists()
