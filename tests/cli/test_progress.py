"""What a step shows of its work, on a terminal and in a log."""

import io
import re
import threading
import time
from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from habitus.cli.progress import ConsoleReporter
from habitus.edges.spark_progress import stage_progress


def shown(progress: Callable[[], str | None], terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    told = threading.Event()

    def tell() -> str | None:
        told.set()
        return progress()

    with ConsoleReporter(console, tell, every=0.01).step("count"):
        assert told.wait(10)
        time.sleep(0.2)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.plain
@pytest.mark.parametrize("terminal", [True, False])
def test_a_step_shows_how_far_it_is_and_how_long_it_took(terminal: bool) -> None:
    lines = shown(lambda: "3 of 8 tasks", terminal)

    assert "3 of 8 tasks" in lines
    assert re.search(r"count: \d+\.\d s\n$", lines)


@pytest.mark.plain
def test_a_step_that_has_nothing_to_say_shows_its_time_alone() -> None:
    assert re.fullmatch(r"  count \.\.\.\n  count: \d+\.\d s\n", shown(lambda: None, False))


@pytest.mark.spark
def test_a_stage_under_way_tells_tasks_rows_rate_and_time_left(spark: SparkSession) -> None:
    def slow(batches):  # type: ignore[no-untyped-def]
        time.sleep(1)
        yield from batches

    rows = spark.range(0, 1000, 1, 8).repartition(6).mapInArrow(slow, "id bigint")
    worker = threading.Thread(target=rows.count)
    worker.start()
    told: list[str] = []
    while worker.is_alive():
        told += filter(None, [stage_progress(spark)])
        time.sleep(0.1)
    worker.join()

    words = r"stage \d+: [1-5] of 6 tasks, [\d,]+ rows, [\d,]+ rows/s, about [\d,]+ s left"
    assert any(re.fullmatch(words, one) for one in told), told
    assert stage_progress(spark) is None
