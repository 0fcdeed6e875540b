"""Jobs killed at any moment: the next run completes the tables to the same content."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jobs.conftest import SHOP, SMALL, SmallLake
from jobs.tables import contents, runs

pytestmark = pytest.mark.kills

# What the command prints when the moment has come. The table named was just written, or the step
# has just begun and is cut off in the middle.
MOMENTS = (
    "read and judge the rows: ",
    "events_rejected: ",
    "group events into sessions ...",
    "features: ",
    "score units with ",
    "scores: ",
)


def command(root: Path, raw: str) -> list[str]:
    settings = [f"--set={setting}" for setting in (*SMALL, f"lake.root={root}")]
    quick = "--set=spark.options={spark.driver.extraJavaOptions: -XX:TieredStopAtLevel=1}"
    given = ["--source", SHOP, "--input", raw]
    main = "from habitus.cli.main import main; main()"
    return [sys.executable, "-c", main, "run", *given, *settings, quick]


def kill_at(moment: str, root: Path, raw: str) -> None:
    """Start the whole chain and kill it, JVM and Python workers too, once it prints the moment."""
    with subprocess.Popen(
        command(root, raw), stdout=subprocess.PIPE, text=True, start_new_session=True
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
def test_a_killed_run_is_completed_by_the_next_to_the_same_tables(
    tmp_path: Path, chain: SmallLake
) -> None:
    root = tmp_path / "lake"

    for moment in MOMENTS:
        kill_at(moment, root, chain.raw)
    done = subprocess.run(command(root, chain.raw), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert contents(root) == contents(chain.settings.lake.root)
    # A killed run could not say how it ended; its row tells that it was under way.
    assert [row["status"] for row in runs(root)].count("running") == len(MOMENTS)
