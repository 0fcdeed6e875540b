"""How fast the shop is simulated: `make bench-simulate`.

The time is that of the whole job, from the first shopper to the renamed folder of CSV files.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from habitus.config import Settings
from habitus.edges.spark import start_spark
from habitus.jobs.simulate import simulate
from habitus.loading import load_settings

CORES = 2
USERS, SMALL_USERS = 70_000, 7_000
GOAL = 200_000


def measure(users: int, folder: Path) -> list[dict[str, object]]:
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
        _row("events simulated and written", written["events"]),
        _row("labels written", written["labels"]),
        _row("MB of CSV", round(size / 1e6)),
        _row(f"seconds on {CORES} cores", round(seconds, 1)),
        _row("events a second", round(rate), GOAL, rate >= GOAL),
    ]


def _row(
    figure: str, value: float, goal: float | None = None, met: bool | None = None
) -> dict[str, object]:
    return {"figure": figure, "value": value, "rival": None, "goal": goal, "met": met}


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
        rows = measure(users, Path(folder))
    for row in rows:
        goal = "" if row["goal"] is None else f"   goal {row['goal']:,}: {row['met']}"
        print(f"{row['figure']:<32}{row['value']:>14,}{goal}")
    target = Path(".bench/simulate.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
