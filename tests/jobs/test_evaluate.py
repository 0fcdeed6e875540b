"""What an evaluation leaves of the one before it."""

from pathlib import Path

import polars as pl
import pytest
from jobs.unit_lakes import context_of, settings_in
from pyspark.sql import SparkSession

from habitus.config import Settings
from habitus.edges.spark import local_frame
from habitus.jobs.evaluate import write_figures
from habitus.tables import EVALUATIONS

pytestmark = pytest.mark.jobs

Key = tuple[str, str, str]


def written(spark: SparkSession, settings: Settings, *figures: Key) -> list[Key]:
    """The keys in the table once these figures of model m-1 have been written."""
    context = context_of(spark, settings)
    names = ("model_id", "kind", "measure")
    rest = {"detector": "m", "value": 0.5, "low": 0.4, "high": 0.6, "units": 9, "anomalous": 3}
    rows = [dict(zip(names, figure, strict=True)) | rest for figure in figures]
    frame = local_frame(spark, EVALUATIONS.schema(), rows)
    write_figures(context, frame, ["m-1"], with_refitted=settings.evaluate.refit)
    return sorted(pl.read_delta(f"{settings.lake.root}/evaluations").select(names).rows())


def test_figures_that_a_model_has_no_more_go_and_those_of_others_stay(
    spark: SparkSession, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    fraud, theft, every = (("m-1", kind, "auc") for kind in ("fraud", "theft", "all"))
    refitted = ("m-1", "all", "refitted_average_precision")
    other = ("m-2", "fraud", "auc")
    assert written(spark, settings, fraud, every, refitted, other) == sorted(
        [fraud, every, refitted, other]
    )

    # What was a fraud turned out to be a theft, and nothing was refitted this time.
    assert written(spark, settings, theft, every) == sorted([theft, every, refitted, other])

    evaluate = settings.evaluate.model_copy(update={"refit": True})
    again = settings.model_copy(update={"evaluate": evaluate})
    assert written(spark, again, theft, every) == sorted([theft, every, other])
