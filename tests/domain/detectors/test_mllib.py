"""Clusters that MLlib finds are those of the units, wherever these are."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from builders import units, vocabulary
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.spatial.distance import cdist

from habitus.domain.detectors.kmeans import (
    BisectingKMeansDetector,
    ClusterDetector,
    KMeansDetector,
)
from habitus.domain.detectors.mllib import centres_among
from habitus.domain.units import Units

pytestmark = pytest.mark.spark

WORDS = vocabulary()
COUNT = 120


@cache
def training() -> Units:
    return units(COUNT, 1, WORDS)


def frame(spark: SparkSession) -> DataFrame:
    some = training()
    offsets = pa.array(some.offsets.astype(np.int32))
    lists = {**some.tokens, "amounts": some.amounts, "gaps": some.gaps}
    columns = {
        "unit_id": pa.array([f"u{number}" for number in range(COUNT)]),
        **{
            name: pa.ListArray.from_arrays(offsets, pa.array(values))
            for name, values in lists.items()
        },
        "context": pa.array(list(some.context), pa.list_(pa.float32())),
        "scored_from": pa.array(some.scored_from),
        "closed": pa.array(some.closed),
    }
    return spark.createDataFrame(pa.table(columns))


@pytest.mark.parametrize(("kind", "number"), [(KMeansDetector, 4), (BisectingKMeansDetector, 2)])
def test_centres_are_means_of_the_nearest_units_and_the_same_wherever_these_are(
    spark: SparkSession, kind: type[ClusterDetector], number: int
) -> None:
    sample = kind.fit(training(), WORDS, 7)
    numbers = sample.numbers(training()).astype(np.float64)
    detector = sample.with_centres(numbers[:number], training())
    here, there = frame(spark).repartition(3, "closed", "unit_id"), frame(spark).coalesce(1)

    one, other = (
        centres_among(rows.orderBy(order), detector, WORDS.field_names, COUNT, 7, together=50)
        for rows, order in ((here, F.desc("unit_id")), (there, F.rand(1)))
    )

    assert one.shape == (number, numbers.shape[1])
    np.testing.assert_array_equal(one, other)
    nearest = cdist(numbers, one).argmin(axis=1)
    means = [numbers[nearest == cluster].mean(axis=0) for cluster in range(number)]
    np.testing.assert_allclose(one, means, atol=1e-9)
