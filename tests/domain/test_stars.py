"""Components found in rounds by Spark are those that scipy finds."""

import numpy as np
import pytest
from pyspark.sql import SparkSession
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from habitus.domain.stars import components

pytestmark = pytest.mark.spark

NODES = 50


def graphs() -> np.ndarray:
    """[E, 2] edges of graphs of many shapes, of which no two touch: scattered ones, a long path."""
    random = np.random.default_rng(3)
    scattered = [random.integers(0, NODES, (count, 2)) for count in (1, 15, 25, 40, 120)]
    order = random.permutation(NODES)
    path = np.stack([order[:-1], order[1:]], axis=1)
    star = np.stack([np.full(NODES, 7), np.arange(NODES)], axis=1)
    shapes = [*scattered, path, star, np.repeat(path[:3], 2, axis=0), np.array([[4, 4]])]
    return np.concatenate([edges + number * NODES for number, edges in enumerate(shapes)])


def test_components_are_scipys(spark: SparkSession) -> None:
    edges = graphs()
    size = int(edges.max()) + 1
    graph = coo_matrix((np.ones(len(edges)), tuple(edges.T)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, least = np.unique(label, return_index=True)

    frame = spark.createDataFrame(edges.tolist(), "a int, b int")
    rows = components(frame).collect()

    assert len({row["node"] for row in rows}) == len(rows)
    found = np.arange(size)
    for row in rows:
        found[row["node"]] = row["component"]
    np.testing.assert_array_equal(found, least[label])


def test_without_edges_there_is_no_component(spark: SparkSession) -> None:
    assert components(spark.createDataFrame([], "a string, b string")).count() == 0
