"""Vectors of units, and the past units that flagged ones are most like, on a small lake."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from delta.tables import DeltaTable
from jobs.conftest import SmallLake, run, small_settings
from jobs.tables import content
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.errors import ArtefactError

pytestmark = pytest.mark.jobs


@pytest.fixture(scope="module")
def embedded(
    spark: SparkSession, chain: SmallLake, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A copy of the small lake, with vectors and neighbours."""
    folder = tmp_path_factory.mktemp("embedded")
    shutil.copytree(chain.settings.lake.root, folder / "lake")
    settings = small_settings(folder)
    run(spark, "embed", settings)
    return settings


def test_every_unit_has_one_vector_of_length_1(embedded: Settings, chain: SmallLake) -> None:
    vectors = pl.read_delta(f"{embedded.lake.root}/embeddings")
    units = pl.read_delta(f"{embedded.lake.root}/sequences")

    assert sorted(vectors["unit_id"]) == sorted(units["unit_id"])
    assert set(vectors["model_id"]) == {chain.contexts["score"].artefacts.current()["behaviour"]}
    matrix = np.array(vectors["vector"].to_list())
    assert matrix.shape[1] == embedded.train.behaviour.hidden
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-3)


def test_flags_have_the_past_units_that_are_most_like_them(embedded: Settings) -> None:
    root = embedded.lake.root
    vectors = {row["unit_id"]: row for row in pl.read_delta(f"{root}/embeddings").to_dicts()}
    neighbours = pl.read_delta(f"{root}/neighbours")
    flags = pl.read_delta(f"{root}/anomalies")

    assert sorted(neighbours["unit_id"]) == sorted(flags["unit_id"])
    assert neighbours["of_user"].list.len().sum() > 0
    for row in neighbours.to_dicts():
        for found, own in ((row["of_user"], True), (row["of_others"], False)):
            cosines = [
                np.dot(vectors[row["unit_id"]]["vector"], other["vector"])
                for other in vectors.values()
                if other["ended_at"] < row["event_time"]
                and (other["user_id"] == row["user_id"]) == own
            ]
            expected = np.minimum(sorted(cosines, reverse=True)[:3], 1)
            np.testing.assert_allclose([past["similarity"] for past in found], expected, atol=1e-4)
            assert all((past["user_id"] == row["user_id"]) == own for past in found)


def test_only_what_is_new_changed_or_gone_is_embedded_again(
    spark: SparkSession, tmp_path: Path, embedded: Settings
) -> None:
    shutil.copytree(embedded.lake.root, tmp_path / "lake")
    settings = small_settings(tmp_path)
    table = DeltaTable.forPath(spark, f"{settings.lake.root}/embeddings")
    missing, changed, gone = sorted(pl.read_delta(f"{settings.lake.root}/embeddings")["unit_id"])[
        :3
    ]
    table.delete(F.col("unit_id") == missing)
    table.update(
        F.col("unit_id") == changed,
        {"fingerprint": F.lit(0), "vector": F.array(F.lit(1.0).cast("float"))},
    )
    stray = table.toDF().where(F.col("unit_id") == gone).withColumn("unit_id", F.lit("stray"))
    stray.write.format("delta").mode("append").save(f"{settings.lake.root}/embeddings")

    again = run(spark, "embed", settings)

    assert again.rows_out == {"embeddings": 3, "neighbours": 0}
    for name in ("embeddings", "neighbours"):
        assert content(settings.lake.root, name) == content(embedded.lake.root, name)


def test_the_report_tells_of_them(spark: SparkSession, embedded: Settings) -> None:
    run(spark, "report", embedded)

    page = Path(f"{embedded.lake.root}/reports/report.html").read_text()
    cases = page.split('<section class="story">')[1:]
    assert cases
    assert all("Most like it in the past" in case for case in cases)


def test_without_a_model_that_makes_vectors_the_job_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match=r"no model of behaviour.*Run `habitus train`"):
        run(spark, "embed", small_settings(tmp_path))
