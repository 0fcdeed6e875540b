"""What every run leaves behind, also beside others."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from jobs.tables import runs
from jobs.unit_lakes import settings_in
from pyspark.sql import Column, SparkSession

from habitus.edges.lake import Lake
from habitus.errors import ConflictError
from habitus.jobs.frame import Job, JobContext, Silent, run_job
from habitus.table import Table

pytestmark = pytest.mark.jobs


class Idle(Job):
    """A job that does nothing."""

    def run(self, context: JobContext) -> None: ...


NOTHING = Idle("nothing", "Does nothing.", reads=(), writes=())


class BusyLake(Lake):
    """A lake whose rows other runs change whenever this one is about to, so many times."""

    times = 0

    def update(self, table: Table, where: str, values: Mapping[str, Column]) -> None:
        if self.times:
            self.times -= 1
            raise self._conflict(table)
        super().update(table, where, values)


def pauses(spark: SparkSession, root: Path, run_id: str, times: int) -> list[float]:
    """Seconds that a run waits each time that others are in its way."""
    waited: list[float] = []
    context = JobContext(NOTHING.name, settings_in(root), spark, Silent(), run_id=run_id)
    context.lake = BusyLake(spark, context.settings.lake)
    context.lake.times = times
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("habitus.jobs.frame.time", SimpleNamespace(sleep=waited.append))
        run_job(NOTHING, context)
    return waited


def test_runs_that_are_in_each_others_way_wait_longer_each_time_and_not_equally_long(
    spark: SparkSession, tmp_path: Path
) -> None:
    first, second = (pauses(spark, tmp_path, run_id, times=4) for run_id in ("1", "2"))

    for waited in (first, second):
        assert waited == sorted(waited)
        assert len(set(waited)) == 4
        assert sum(waited) < 15
    assert not set(first) & set(second)
    assert [row["status"] for row in runs(tmp_path)] == ["done", "done"]


def test_a_run_that_others_never_let_tell_how_it_ended_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match=r"runs`: another run has changed the table"):
        pauses(spark, tmp_path, "1", times=5)
