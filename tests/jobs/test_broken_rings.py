"""Whoever trains in a ring that breaks reads why it starts again; its epochs are counted once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import horovod.spark
import pytest
from jobs.conftest import Lines
from jobs.unit_lakes import lake_of, only
from pyspark.sql import SparkSession

from habitus.edges.ring import LocalRing
from habitus.jobs import train

pytestmark = pytest.mark.jobs


def lost_once() -> Callable[..., list[Any]]:
    """Stands for Horovod: the work runs here, and at first is lost once it has told of an epoch.

    Two real rings would take long to start; `edges/test_ring` has them.
    """
    attempts: list[int] = []

    def run(task: object, args: Any, stdout: Any, **given: Any) -> list[Any]:
        work, arguments, more = args
        attempts.append(0)

        def report(line: str) -> None:
            stdout.write(f"[0]<stdout>:habitus says {line}\n")
            if len(attempts) == 1 and "epoch" in json.loads(line):
                stdout.write("[1]<stderr>:out of memory\n")
                raise RuntimeError("1 of 2 processes ended with status 137")

        return [work(LocalRing(), report, *arguments, **more)]

    return run


def test_a_restart_is_told_and_the_epochs_before_it_are_not_counted_twice(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horovod.spark, "run", lost_once())
    context = lake_of(spark, tmp_path, 240, *only("behaviour"), "train.workers=2")
    train.run(context)
    assert isinstance(context.reporter, Lines)
    begun = [line.partition(": ")[0] for line in context.reporter.lines]
    told = [line for line in context.reporter.lines if "restart" in line]
    assert told == ["a worker was lost: out of memory; restart 1 of 2"]
    epochs = ["epoch 1 of 2", "epoch 2 of 2"]
    note = "goes on from its checkpoint after epoch 1"
    after = begun.index("a worker was lost")
    assert begun[after - 1 : after + 4] == [epochs[0], "a worker was lost", note, *epochs]
    card = json.loads(context.artefacts.read(context.artefacts.current()["behaviour"])["card.json"])
    assert [epoch["epoch"] for epoch in card["epochs"]] == [1, 2]
