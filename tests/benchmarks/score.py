"""How fast units are scored: `make bench-score`.

Sessions of a simulated shop, copied under other ids until there are enough, are scored by the job,
from table to table, with the behaviour model that was trained on the shop. The rivals score some of
the same sessions:

- the bare exported model, on batches that are ready in memory, one thread for each core;
- the plain Keras model, called batch by batch, all padded to the longest session allowed.

`python tests/benchmarks/score.py 200000` scores so many sessions, or some more, instead of five
million, `--small` takes 20,000. `--tried` tells what lighter models would gain and lose.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
from _figures import Figure, at_least, at_most, publish
from _kept import kept
from _scorers import LEAKED, bare, keras, memory, worker
from _training import matrix_rate

FOLDER = kept("score")
SESSIONS, SMALL = 5_000_000, 20_000
SHOP = f"{FOLDER}/shop"
SETTINGS = ("simulate.users=1000", "train.epochs=2", "detectors=[behaviour]")
SESSIONS_A_FILE = 250_000
TIMES = 3
LEAK_MB = 5  # what the allocator itself comes and goes by


class Clock:
    """A reporter that keeps how many seconds each step of a job took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self.seconds[text.split()[0]] = time.perf_counter() - before

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def show(self, renderable: object) -> None: ...


def context_of(job: str, lake: str) -> Any:
    """The context of a job on the lake of a shop, or of copied sessions."""
    from habitus.edges.spark import start_spark
    from habitus.jobs.frame import Arguments, JobContext
    from habitus.loading import configuration_folder, load_settings

    places = [f"lake.root={lake}", f"simulate.output={lake}/raw", "score.from=2000-01-01"]
    settings = load_settings(overrides=[*SETTINGS, *places])
    shop = str(configuration_folder() / "sources" / "shop.yaml")
    spark = start_spark(settings.spark, "benchmark")
    return JobContext(job, settings, spark, Clock(), Arguments(shop, settings.simulate.output))


def prepare(sessions: int) -> dict[str, float]:
    """Make the lake with so many sessions, or some more, once for each size."""
    from pyspark.sql import functions as F

    from habitus.jobs.catalogue import JOBS
    from habitus.jobs.frame import run_job
    from habitus.tables import sequences

    target = Path(f"{FOLDER}/{sessions}")
    if not Path(f"{SHOP}/models/current.json").exists():
        for job in ("simulate", "ingest", "sessionize", "features", "train"):
            run_job(JOBS[job], context_of(job, SHOP))
    shutil.rmtree(target, ignore_errors=True)
    context = context_of("score", str(target))
    table = sequences(context.settings.sequences.fields)
    units = context_of("score", SHOP).lake.read(table)
    copies = -(-sessions // units.count())
    several = units.withColumn("copy", F.explode(F.sequence(F.lit(1), F.lit(copies))))
    several = several.withColumn("unit_id", F.concat("unit_id", F.lit("-"), "copy"))
    files = max(4, sessions // SESSIONS_A_FILE)
    context.overwrite(table, several.drop("copy").repartition(files, "unit_id"))
    for name in ("vocabularies", "models"):
        shutil.copytree(f"{SHOP}/{name}", target / name)
    return {"sessions": sessions}


def job(sessions: int) -> dict[str, float]:
    """The job from table to table, into a lake without scores: of few sessions the median run."""
    from habitus.jobs.catalogue import JOBS
    from habitus.jobs.frame import run_job

    runs: list[dict[str, float]] = []
    for _ in range(TIMES if sessions <= SMALL else 1):
        lake = f"{FOLDER}/run-{len(runs)}"
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(f"{FOLDER}/{sessions}", lake, copy_function=os.link)
        context = context_of("score", lake)
        before = time.perf_counter()
        run_job(JOBS["score"], context)
        clock, told = context.reporter.seconds, context.rows_in
        runs.append(
            {
                "seconds": time.perf_counter() - before,
                "units": told["units to score"],
                "scoring": clock["score"],
                "reasons": clock["choose"],
                "positions": told["positions of units scored by length"],
                "padding": told["positions of them that are padding"],
            }
        )
    runs.sort(key=lambda run: run["seconds"])
    return runs[len(runs) // 2]


def reading(sessions: int) -> dict[str, float]:
    """Seconds until all that is scored has reached the workers, which do nothing with it."""
    from pyspark.sql import functions as F

    from habitus.jobs.score import SENT
    from habitus.tables import sequences

    context = context_of("score", f"{FOLDER}/{sessions}")
    fields = context.settings.sequences.fields
    units = context.read(sequences(fields))
    sent = units.withColumns(
        {
            "segment": F.array(F.lit("all")),
            "models": F.array(F.lit("behaviour")),
        }
    ).select(*SENT, *fields, "models")

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"units": [len(batch)]})

    found = []
    for _ in range(TIMES):
        before = time.perf_counter()
        sent.mapInArrow(count, "units bigint").count()
        found.append(time.perf_counter() - before)
    events = units.agg(F.sum("n_events")).first()[0]
    return {"seconds": median(found), "events": events}


def matrix(sessions: int) -> dict[str, float]:
    """Floating point operations a second of TensorFlow's fp32 matrix product."""
    return matrix_rate("")


def lighter(sessions: int) -> list[dict[str, Any]]:
    """What lighter models gain and lose, on the shop's sessions of the time to score."""
    import polars as pl
    from _lighter import tried
    from _trained import Learning

    from habitus.domain.labelling import unit_labels
    from habitus.domain.units import Units
    from habitus.edges.models import load_model
    from habitus.tables import LABELS, sequences

    context = context_of("score", SHOP)
    model = load_model(SHOP, context.artefacts.current()["behaviour"])
    fields, split = model.vocabulary.field_names, model.vocabulary.split
    marked = unit_labels(context.lake.read(LABELS), context.lake.read(sequences(fields)))
    odd = {row["unit_id"] for row in marked.select("unit_id").collect()}
    rows = pl.read_delta(f"{SHOP}/sequences").sort("unit_id")
    ended = pl.col("ended_at")
    times = [split.train_from, split.train_until, split.calibrate_from]
    trained, held_out = (
        rows.filter(ended >= start, ended < end) for start, end in itertools.pairwise(times)
    )
    late = rows.filter(ended >= split.validation_until)
    learnt, known, judged = (
        Units.from_arrow(some.to_arrow(), fields) for some in (trained, held_out, late)
    )
    learning = Learning.of(context.settings.train)
    figures = tried(model, learning, (learnt, known, judged), late["unit_id"].is_in(odd).to_numpy())
    return [asdict(figure) for figure in figures]


def part_of(name: str, sessions: int) -> Any:
    """What one part finds."""
    if name in IN_MEMORY:
        return IN_MEMORY[name](f"{FOLDER}/{sessions}")
    return {**WITH_SPARK, "matrix": matrix, "prepare": prepare, "lighter": lighter}[name](sessions)


IN_MEMORY = {part.__name__: part for part in (worker, bare, keras, memory)}
WITH_SPARK = {part.__name__: part for part in (job, reading)}


def measured(part: str, sessions: int) -> Any:
    """One part, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, str(sessions)]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=quiet)
    found = json.loads(done.stdout.splitlines()[-1])
    print(part, found, file=sys.stderr)
    return found


def figures(sessions: int) -> list[Figure]:
    """All that is measured."""
    found = {part: measured(part, sessions) for part in (*WITH_SPARK, *IN_MEMORY, "matrix")}
    whole, ready, plain = found["job"], found["bare"], found["keras"]
    rate, bare_rate = whole["units"] / whole["seconds"], ready["units"] / ready["seconds"]
    keras_rate = plain["units"] / plain["seconds"]
    arithmetic = ready["flops"] * ready["positions"] / ready["seconds"]
    return [
        Figure("sessions a second, table to table", round(rate), round(bare_rate)),
        Figure("events a second", round(found["reading"]["events"] / whole["seconds"])),
        at_least("against the bare exported model on ready batches", rate / bare_rate, 0.8),
        at_least("against Keras, padded to the longest", rate / keras_rate, 4, round(keras_rate)),
        at_least(
            "the model's arithmetic against the fp32 matrix rate",
            arithmetic / found["matrix"]["rate"],
            0.65,
        ),
        Figure("GFLOP/s of the model", arithmetic / 1e9, found["matrix"]["rate"] / 1e9),
        at_most("padded share", whole["padding"] / whole["positions"], 0.08),
        at_most(
            f"MB more after {LEAKED:,} batches than after a tenth",
            found["memory"]["growth"],
            LEAK_MB,
        ),
        *split(found),
    ]


def split(found: dict[str, dict[str, float]]) -> list[Figure]:
    """Shares of the job's time; what workers do is spread over the cores."""
    whole, reading = found["job"], found["reading"]["seconds"]
    each = whole["units"] / found["worker"]["units"] / (os.cpu_count() or 1)
    model = each * found["worker"]["model"]
    encoding = each * (found["worker"]["all"] - found["worker"]["model"])
    shares = {
        "reading, and handing to the workers": reading,
        "encoding and calibrating": encoding,
        "the model": model,
        "writing, and all else until scores are there": (
            whole["scoring"] - reading - encoding - model
        ),
        "choosing flags and their reasons": whole["reasons"],
        "starting, and telling of the run": (
            whole["seconds"] - whole["scoring"] - whole["reasons"]
        ),
    }
    return [
        Figure(f"share of the time: {name}", seconds / whole["seconds"])
        for name, seconds in shares.items()
    ]


def main() -> None:
    """Print the table; `--small`, or a number of sessions, takes fewer."""
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(part_of(sys.argv[2], int(sys.argv[3]))))
        return
    given = [int(word) for word in sys.argv[1:] if word.isdigit()]
    sessions = SMALL if "--small" in sys.argv else (given or [SESSIONS])[0]
    if not Path(f"{FOLDER}/{sessions}/models").exists():
        measured("prepare", sessions)
    if "--tried" in sys.argv:
        publish("score-tried", [Figure(**one) for one in measured("lighter", sessions)])
    else:
        publish("score", figures(sessions))


if __name__ == "__main__":
    main()
