import pytest
from pyspark.sql import DataFrame, SparkSession

from habitus.domain import joining
from habitus.domain.joining import whole_if_few

pytestmark = pytest.mark.spark


def is_sent_whole(frame: DataFrame) -> bool:
    return "strategy=broadcast" in frame._jdf.queryExecution().logical().toString()


@pytest.mark.parametrize(("rows", "whole"), [(0, True), (3, True), (4, False)])
def test_a_frame_is_sent_to_every_task_whole_only_if_it_has_few_rows(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, rows: int, whole: bool
) -> None:
    monkeypatch.setattr(joining, "_FEW", 3)
    joined = spark.range(9).join(whole_if_few(spark.range(rows)), "id")

    assert is_sent_whole(joined) == whole
    assert joined.count() == rows
