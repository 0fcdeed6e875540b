"""Source files: what is read of them, what is told, and what is wrong with them."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import Command, Lines, assert_clear, run, small_settings
from pyspark.sql import SparkSession

from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs

HEADER = "id,ts,customer,event,price\n"
ROW = "1,2026-01-01 10:00:00,u1,view,3.5\n"
MAPPING = """
name: mine
format: csv
options: {header: "true"}
columns: {event_id: id, event_time: to_timestamp(ts), user_id: customer, action: event}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MAPPING)
    (tmp_path / "events.csv").write_text(HEADER + ROW)
    return tmp_path


def ingest(habitus: Command, files: Path, **changes: str) -> tuple[int, str]:
    source = changes.get("source", str(files / "mine.yaml"))
    path = changes.get("input", str(files / "events.csv"))
    return habitus("ingest", "--source", source, "--input", path)


def lines(context: JobContext) -> list[str]:
    assert isinstance(context.reporter, Lines)
    return context.reporter.lines


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


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2999-01-01 10:00:00", "1 events are of a time to come, the last of 2999-01-01 10:00:00"),
        ("1970-01-01 00:00:00", "1 events are more than ten years old, the first of 1970-01-01"),
    ],
)
def test_times_that_are_perhaps_none_are_told_with_the_rule_that_rejects_them(
    spark: SparkSession, files: Path, time: str, said: str
) -> None:
    wrong = ROW.replace("1,2026-01-01 10:00:00", f"3,{time}")
    (files / "events.csv").write_text(HEADER + ROW + ROW.replace("1,", "2,", 1) + wrong)
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}

    told = run(spark, "ingest", small_settings(files / "told"), **given)
    (line,) = (line for line in lines(told) if "reject them" in line)
    assert line.startswith(said)

    (files / "mine.yaml").write_text(MAPPING + line.partition("mapping, ")[2])
    mended = run(spark, "ingest", small_settings(files / "mended"), **given)
    assert mended.rows_out == {"events": 2, "events_rejected": 1, "duplicates": 0}


def test_a_history_that_is_old_throughout_is_not_told_to_be_wrong(
    spark: SparkSession, files: Path
) -> None:
    (files / "events.csv").write_text(HEADER + ROW.replace("2026", "1999"))
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}

    told = run(spark, "ingest", small_settings(files), **given)

    assert not any("years old" in line for line in lines(told))


def test_rows_with_the_id_of_another_event_are_told_apart_from_repeated_ones(
    spark: SparkSession, files: Path
) -> None:
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}
    settings = small_settings(files)
    run(spark, "ingest", settings, **given)
    again = run(spark, "ingest", settings, **given)
    (files / "mine.yaml").write_text(MAPPING.replace("name: mine", "name: logins"))
    other = run(spark, "ingest", settings, **given)

    assert again.rows_out == {"events": 0, "events_rejected": 0, "duplicates": 1}
    assert other.rows_out == again.rows_out | {"duplicates of another event": 1}
    (line,) = (line for line in lines(other) if "other events" in line)
    assert "event_id '1'" in line
    assert "from logins here" in line
    assert "of 'u1' at 2026-01-01 10:00:00 from mine. " in line


def test_rows_without_ids_are_known_again_beside_those_of_other_days(
    spark: SparkSession, files: Path
) -> None:
    (files / "mine.yaml").write_text(MAPPING.replace("event_id: id, ", ""))
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}
    settings = small_settings(files)
    found = []
    for days in (["03"], ["03", "01", "01", "05"], ["05"]):
        rows = [ROW.replace("2026-01-01", f"2026-01-{day}") for day in days]
        (files / "events.csv").write_text(HEADER + "".join(rows))
        found.append(run(spark, "ingest", settings, **given).rows_out)

    assert [one["events"] for one in found] == [1, 2, 0]
    assert [one["duplicates"] for one in found] == [0, 2, 1]


def test_a_label_that_changes_when_rows_are_read_again_is_known_from_then_on(
    spark: SparkSession, files: Path
) -> None:
    label = "label: {unit_kind: event, value: price > 100, known_after: 7 days}\n"
    (files / "mine.yaml").write_text(MAPPING + label)
    given = {"source": str(files / "mine.yaml"), "input": str(files / "events.csv")}
    settings = small_settings(files)
    first = run(spark, "ingest", settings, **given)
    (files / "events.csv").write_text(HEADER + ROW.replace("3.5", "350"))

    second, again = (run(spark, "ingest", settings, **given) for _ in range(2))

    rows = [context.rows_out.get("labels") for context in (first, second, again)]
    assert rows == [1, 1, 0]
    labels = pl.read_delta(f"{settings.lake.root}/labels").sort("known_at")
    assert labels["label"].to_list() == [False, True]
    assert labels["known_at"].to_list() == [datetime(2026, 1, 8, 10, tzinfo=UTC), second.started_at]


@pytest.mark.parametrize("text", ["", HEADER])
def test_an_empty_input(habitus: Command, files: Path, text: str) -> None:
    (files / "events.csv").write_text(text)

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(error, "events.csv", "empty")
    assert not (files / "lake" / "events").exists()


def test_an_ingest_into_a_foreign_table(habitus: Command, files: Path) -> None:
    pl.DataFrame({"who": ["u"]}).write_delta(str(files / "lake" / "events"))

    status, error = ingest(habitus, files)

    assert status == 1
    assert_clear(error, "lake/events", "another lake.root")
    assert pl.read_delta(str(files / "lake" / "events")).height == 1
