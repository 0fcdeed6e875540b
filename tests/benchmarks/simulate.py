"""How fast the shop is simulated: `make bench-simulate`.

The time is that of the whole job, from the first shopper to the renamed folder of CSV files.
"""

import sys
import tempfile
import time
from pathlib import Path

from _figures import Figure, at_least, publish

from habitus.config import Settings
from habitus.edges.spark import start_spark
from habitus.jobs.simulate import simulate
from habitus.loading import load_settings

CORES = 2
USERS, SMALL_USERS = 70_000, 7_000
GOAL = 200_000


def measure(users: int, folder: Path) -> list[Figure]:
    """Simulate twice: a small shop to start the Python workers, and then the one that counts."""
    settings = _settings(users, folder)
    spark = start_spark(settings.spark, "benchmark")
    simulate(spark, _settings(1000, folder).simulate, settings.seed)
    before = time.perf_counter()
    written = simulate(spark, settings.simulate, settings.seed)
    seconds = time.perf_counter() - before
    spark.stop()
    rate = written["events"] / seconds
    size = sum(path.stat().st_size for path in folder.rglob("*.txt"))
    return [
        Figure("events simulated and written", written["events"]),
        Figure("labels written", written["labels"]),
        Figure("MB of CSV", round(size / 1e6)),
        Figure(f"seconds on {CORES} cores", round(seconds, 1)),
        at_least("events a second", round(rate), GOAL),
    ]


def _settings(users: int, folder: Path) -> Settings:
    overrides = [
        f"simulate.output={folder / 'raw'}",
        f"simulate.users={users}",
        f"spark.master=local[{CORES}]",
    ]
    return load_settings(overrides=overrides)


def main() -> None:
    users = SMALL_USERS if sys.argv[1:] == ["--small"] else USERS
    with tempfile.TemporaryDirectory() as folder:
        publish("simulate", measure(users, Path(folder)))


if __name__ == "__main__":
    main()
