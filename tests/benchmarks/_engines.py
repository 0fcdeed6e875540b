"""Engines side by side: each in a process of its own, with the machine to itself."""

import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import psutil
from _figures import Figure
from pyspark.sql import DataFrame, SparkSession

from habitus.edges.spark import start_spark
from habitus.loading import load_settings

CORES = 2
MEMORY = "4g"
# Where engines write: Spark a Delta table, DuckDB a file beside it.
OUT = ".bench/out"

# Prepares the work on the events in a folder, and returns what is to be timed.
Engine = Callable[[str], Callable[[], object]]


def with_spark(make: Callable[[DataFrame], DataFrame]) -> Engine:
    """An engine that makes a frame of events and writes it as Delta."""

    def prepare(events: str) -> Callable[[], object]:
        spark = session(events)
        return lambda: make(spark.read.parquet(events)).write.format("delta").save(OUT)

    return prepare


def with_duckdb(query: str) -> Engine:
    """An engine that writes what a query makes of `{events}` as Parquet."""

    def prepare(events: str) -> Callable[[], object]:
        connection = duckdb.connect()
        connection.execute(f"set threads={CORES}; set memory_limit='16GB'")
        connection.execute(f"set temp_directory='{OUT}.spill'; set preserve_insertion_order=false")
        source = f"read_parquet('{events}/*.parquet')"
        target = f"copy ({query.format(events=source)}) to '{OUT}.parquet' (format parquet)"
        return lambda: connection.execute(target)

    return prepare


def measured(
    script: str, engine: str, events: str, runs: int, limit: float | None = None
) -> dict[str, float]:
    """The median `seconds` of some runs in a new process, the GB it took at most, and the bytes of
    Delta it had `written` and, on average, sent through shuffles (`shuffled`).

    Args:
        script: The benchmark, which calls `run_engine` when asked to.
        engine: The engine's name.
        events: Folder of events.
        runs: How many runs.
        limit: Seconds after which it is stopped, and `seconds` says just so many.
    """
    command = [sys.executable, script, "--engine", engine, events, str(runs)]
    with psutil.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            told, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            for child in (process, *process.children(recursive=True)):
                child.kill()
            told = json.dumps({"seconds": limit})
        else:
            if process.returncode:
                sys.exit(f"{engine} ended with {process.returncode}")
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    clear()
    print(engine, Path(events).name, found, file=sys.stderr)
    return found


def per_event(found: Mapping[str, float], millions: int) -> list[Figure]:
    """What an engine wrote and shuffled, by event."""
    return [
        Figure(f"bytes an event, {kind} by habitus", found[kind] / (millions * 1e6))
        for kind in ("written", "shuffled")
    ]


def run_engine(engines: Mapping[str, Engine]) -> bool:
    """Run the engine that the command line asks for, if it does, and print what it took as JSON."""
    if sys.argv[1:2] != ["--engine"]:
        return False
    name, events, runs = sys.argv[2:]
    peaks = {"java": 0.0, "python": 0.0}
    threading.Thread(target=_watch, args=(peaks,), daemon=True).start()
    work = engines[name](events)
    times = []
    for _ in range(int(runs)):
        clear()
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    written = sum(path.stat().st_size for path in Path(OUT).rglob("*.parquet"))
    shuffled = _shuffled() / int(runs)
    found = {"seconds": statistics.median(times), "written": written, "shuffled": shuffled}
    print(json.dumps(found | peaks))
    return True


def _shuffled() -> float:
    """Bytes that the session, if there is one, has sent through shuffles."""
    spark = SparkSession.getActiveSession()
    if spark is None:
        return 0.0
    context = spark.sparkContext
    assert context._gateway is not None
    no_quantiles = context._gateway.new_array(context._jvm.double, 0)  # type: ignore[union-attr]
    store = context._jsc.sc().statusStore()
    stages = store.stageList(None, False, False, no_quantiles, None)
    return float(sum(stages.apply(at).shuffleWriteBytes() for at in range(stages.size())))


def session(events: str) -> SparkSession:
    """Spark on two cores, partitions of about half a million events."""
    partitions = max(8, 2 * int(Path(events).name.partition("M")[0]))
    overrides = [
        f"spark.master=local[{CORES}]",
        f"spark.driver_memory={MEMORY}",
        f"spark.shuffle_partitions={partitions}",
    ]
    return start_spark(load_settings(overrides=overrides).spark, "benchmark")


def clear() -> None:
    """Remove what engines wrote."""
    shutil.rmtree(OUT, ignore_errors=True)
    Path(f"{OUT}.parquet").unlink(missing_ok=True)


def _watch(peaks: dict[str, float]) -> None:
    while True:
        now = dict.fromkeys(peaks, 0.0)
        for child in psutil.Process().children(recursive=True):
            try:
                # Java's own children are Java still, for a moment, and share its memory.
                kind = child.name().rstrip("0123456789.")
                if kind in now:
                    now[kind] += child.memory_info().rss / 1e9
            except psutil.NoSuchProcess:
                continue
        for kind, used in now.items():
            peaks[kind] = max(peaks[kind], used)
        time.sleep(0.5)
