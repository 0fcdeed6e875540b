"""Clusters among all training units, found by Spark's MLlib.

MLlib draws its first centres from rows by their places in the partitions. Rows are therefore put
where their ids belong, into as many partitions as there are units for: the same units and seed give
the same centres, from whatever files and on however many machines. (Bisecting k-means deals its
random numbers out by the partitions of a shuffle: where `spark.default.parallelism` is set, another
value of it gives other centres.)
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.ml.clustering import BisectingKMeans, KMeans
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, FloatType, StringType, StructField, StructType

from habitus.domain.detectors.kmeans import ClusterDetector
from habitus.domain.detectors.summary import Numbers
from habitus.domain.units import Units

_ESTIMATORS = {"kmeans": KMeans, "bisecting_kmeans": BisectingKMeans}
_TOGETHER = 50_000  # units in a partition
# MLlib takes arrays whose elements cannot be null, and no others.
_ROW = StructType(
    [
        StructField("unit_id", StringType()),
        StructField("numbers", ArrayType(FloatType(), containsNull=False)),
    ]
)


def centres_among(
    sequences: DataFrame,
    detector: ClusterDetector,
    fields: tuple[str, ...],
    units: int,
    seed: int,
    together: int = _TOGETHER,
) -> Numbers:
    """The centres of as many clusters as a detector has, among all training units.

    Args:
        sequences: The training units, rows of `sequences`.
        detector: Fitted on a sample of them.
        fields: Names of the token columns.
        units: How many rows there are.
        seed: Of the first centres.
        together: Units in a partition.

    Returns:
        [K, D], fewer than the detector has where rows are not distinct enough.
    """

    def numbers(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = detector.numbers(Units.from_arrow(batch, fields))
            flat = pa.array(rows.ravel(), pa.float32())
            offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
            yield pa.RecordBatch.from_arrays(
                [batch.column("unit_id"), pa.ListArray.from_arrays(offsets, flat)],
                ["unit_id", "numbers"],
            )

    rows = (
        sequences.mapInArrow(numbers, _ROW)
        .repartition(math.ceil(units / together), "unit_id")
        .sortWithinPartitions("unit_id")
        .select("numbers")
    )
    estimator = _ESTIMATORS[detector.name](
        k=len(detector.clusters), seed=seed, featuresCol="numbers"
    )
    return np.array(estimator.fit(rows).clusterCenters())
