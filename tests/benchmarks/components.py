"""How long Spark takes to put linked flags together: `make bench-components`.

`stars.components`, which `habitus cases` turns to beyond `cases.on_driver` links, on graphs of
EDGES edges: scattered ones, a path, and stars of a thousand nodes. Beside it SciPy, on the whole
graph in memory (the rival); both find the same components.
"""

import sys
import time

import numpy as np
import pyarrow as pa
from _figures import Figure, publish
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from habitus.domain.stars import components
from habitus.edges.spark import start_spark
from habitus.loading import load_settings

EDGES, SMALL = 1_000_000, 20_000
STAR = 1000
SEED = 1

Edges = NDArray[np.int64]  # [E, 2]


def graphs(edges: int) -> dict[str, Edges]:
    """Graphs of about so many edges by what they are like; the nodes are in no order."""
    random = np.random.default_rng(SEED)
    order = random.permutation(edges + 1)
    leaves = np.arange(edges)
    return {
        "scattered edges": random.integers(0, edges, (edges, 2)),
        "a path": np.stack([order[:-1], order[1:]], axis=1),
        f"stars of {STAR:,}": order[np.stack([leaves - leaves % STAR, leaves], axis=1)],
    }


def in_memory(edges: Edges) -> tuple[Edges, float]:
    """The least node of each node's component by SciPy, and the seconds that it took."""
    before = time.perf_counter()
    size = int(edges.max()) + 1
    graph = coo_matrix((np.ones(len(edges)), tuple(edges.T)), shape=(size, size))
    _, label = connected_components(graph, directed=False)
    _, least = np.unique(label, return_index=True)
    return least[label], time.perf_counter() - before


def main(arguments: list[str]) -> None:
    """Print and write the figures; `--small` takes fewer edges."""
    spark = start_spark(load_settings().spark, "benchmark")
    figures = []
    for name, edges in graphs(SMALL if "--small" in arguments else EDGES).items():
        expected, rival = in_memory(edges)
        table = pa.table({"a": edges[:, 0], "b": edges[:, 1]})
        frame = spark.createDataFrame(table).localCheckpoint()
        before = time.perf_counter()
        found = components(frame).toArrow()
        seconds = time.perf_counter() - before
        least = np.arange(len(expected))
        least[found["node"].to_numpy()] = found["component"].to_numpy()
        np.testing.assert_array_equal(least, expected)
        figures.append(Figure(f"edges: {name}", len(edges)))
        figures.append(Figure(f"seconds: {name}", seconds, rival))
    spark.stop()
    publish("components", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
