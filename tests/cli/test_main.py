"""The command line without Spark: what it lists, and how it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from habitus.cli import main
from habitus.cli.main import habitus
from habitus.jobs.catalogue import CHAIN, JOBS

pytestmark = pytest.mark.plain

ROOT = Path(__file__).parents[2]


def test_every_job_is_a_command_with_its_summary() -> None:
    shown = CliRunner().invoke(habitus, ["--help"]).output

    for job in JOBS.values():
        assert f"{job.name}  " in shown
        assert job.summary in shown
    assert set(CHAIN) < set(JOBS)


def test_every_job_has_a_file_for_spark_submit_that_is_a_docstring_and_a_call() -> None:
    files = {path.stem: path.read_text() for path in (ROOT / "jobs").glob("*.py")}

    assert set(files) == {*JOBS, "run"}
    for name, text in files.items():
        assert f'main(["{name}", *sys.argv[1:]])' in text
        assert f"spark-submit jobs/{name}.py" in text
        assert len(text.splitlines()) <= 20


def test_settings_are_listed_with_value_and_meaning() -> None:
    shown = CliRunner().invoke(habitus, ["settings"], env={"COLUMNS": "300"}).output

    assert "sessions.gap" in shown
    assert "30 minutes" in shown
    assert "[conduct, behaviour, markov, isolation_forest]" in shown
    assert "A longer pause than this starts a new session." in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sessionise"], "No such command 'sessionise'"),
        (["ingest", "--input", "x"], "Missing option '--source'"),
        (["run", "--source", "x"], "Missing option '--input'"),
        (["run", "--from", "sessionise"], "'sessionise' is not one of 'simulate', 'ingest'"),
        (["sessionize", "--what"], "No such option '--what'"),
        (["settings", "--env", "nowhere"], "nowhere.yaml: no such file"),
        (["tables", "--env", "nowhere"], "nowhere.yaml: no such file"),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(habitus, arguments)

    assert result.exit_code == 2
    assert words in result.output


def test_a_run_from_a_later_job_needs_no_source(capfd: pytest.CaptureFixture[str]) -> None:
    CliRunner().invoke(habitus, ["run", "--from", "train", "--env", "nowhere"])

    assert "nowhere.yaml: no such file" in capfd.readouterr().err


@pytest.mark.parametrize("job", ["train", "score", "evaluate"])
def test_detectors_can_be_named_without_brackets(
    job: str, capfd: pytest.CaptureFixture[str]
) -> None:
    refusals = []
    for given in (["--detectors", "markov,marcov"], ["--set", "detectors=[markov,marcov]"]):
        assert CliRunner().invoke(habitus, [job, *given]).exit_code == 2
        refusals.append(capfd.readouterr().err)

    assert "setting 'detectors.1' is 'marcov'" in refusals[0]
    assert refusals[0] == refusals[1]


def test_a_wrong_setting_is_one_line_on_standard_error_and_status_2() -> None:
    command = [sys.executable, str(ROOT / "jobs" / "sessionize.py"), "--set", "sessions.gapp=1"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "unknown setting 'sessions.gapp'. Did you mean 'gap'?" in done.stderr


def test_only_verbose_shows_where_in_the_code_a_command_ended(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = []
    for more in ([], ["--verbose"]):
        result = CliRunner().invoke(habitus, ["score", "--env", "nowhere", *more])
        assert result.exit_code == 2
        told.append(result.stderr + capfd.readouterr().err)

    brief, full = told
    assert len(brief.splitlines()) == 1
    assert full.startswith("Traceback (most recent call last):")
    assert full.endswith(brief)


def test_what_nobody_foresaw_names_the_log_that_has_its_stack_trace(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*layers: object) -> None:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(main, "load_settings", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert CliRunner().invoke(habitus, ["score"]).exit_code == 1

    (log,) = tmp_path.glob("habitus-score-*.log")
    words = f"ZeroDivisionError: nobody foresaw it. The stack trace is in {log}."
    assert capfd.readouterr().err == f"habitus score: {words}\n"
    assert log.read_text().startswith("Traceback (most recent call last):")


def test_what_was_foreseen_leaves_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    CliRunner().invoke(habitus, ["score", "--env", "nowhere"])

    assert list(tmp_path.iterdir()) == []
