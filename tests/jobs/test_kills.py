"""Jobs killed at any moment: the next run completes the tables to the same content."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jobs.conftest import SHOP, SMALL, SmallLake
from jobs.tables import contents, runs

pytestmark = pytest.mark.jobs

# Where each run begins, and what it prints when the moment to kill it has come: the step has just
# begun and is cut off in the middle.
MOMENTS = (("ingest", "choose and explain flags ..."),)


def command(first: str, root: Path, raw: str) -> list[str]:
    settings = [f"--set={setting}" for setting in (*SMALL, f"lake.root={root}")]
    java = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
    quick = f"--set=spark.options={{spark.driver.extraJavaOptions: {java}}}"
    given = ["--from", first, "--source", SHOP, "--input", raw]
    main = "from habitus.cli.main import main; main()"
    return [sys.executable, "-c", main, "run", *given, *settings, quick]


def kill_at(moment: str, first: str, root: Path, raw: str) -> None:
    """Start the chain and kill it, JVM and Python workers too, once it prints the moment."""
    with subprocess.Popen(
        command(first, root, raw), stdout=subprocess.PIPE, text=True, start_new_session=True
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


@pytest.mark.timeout(1800)
def test_a_killed_run_is_completed_by_the_next_to_the_same_tables(
    tmp_path: Path, chain: SmallLake
) -> None:
    root = tmp_path / "lake"

    for first, moment in MOMENTS:
        kill_at(moment, first, root, chain.raw)
    last = command("score", root, chain.raw)
    done = subprocess.run(last, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert contents(root) == contents(chain.settings.lake.root)
    # A killed run could not say how it ended; its row tells that it was under way.
    assert [row["status"] for row in runs(root)].count("running") == len(MOMENTS)
