"""Connected components of a graph that no single machine need hold.

Kiveris et al. 2014, "Connected components in MapReduce and beyond": every node is moved towards the
least one that it can see, in turns at its larger and at its smaller neighbours, until each
component is a star around its least node. That takes about log2 of its size rounds, each of two
shuffles, and no node needs more than its own neighbours.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.domain.totals import totals


def components(edges: DataFrame) -> DataFrame:
    """Which component each node is in.

    Args:
        edges: Columns a and b, of one type that can be ordered; an edge may be there twice, either
            way, or from a node to itself.

    Returns:
        Columns node and component, its least node; a row for each node but those that are the
        least of theirs, and for those that `edges` does not name.
    """
    found = edges.where("a != b").select("a", "b").distinct().localCheckpoint()
    before, now = None, _content(found)
    while now != before:
        found = _small_star(_large_star(found)).localCheckpoint()
        before, now = now, _content(found)
    return found.select(F.col("a").alias("node"), F.col("b").alias("component"))


def _large_star(edges: DataFrame) -> DataFrame:
    """Join each node's larger neighbours to its least one, or to itself if that is less."""
    both = edges.unionByName(edges.select(F.col("b").alias("a"), F.col("a").alias("b")))
    least = both.groupBy("a").agg(F.least(F.min("b"), F.col("a")).alias("least"))
    larger = both.where("b > a").join(least, "a")
    return larger.select(F.col("b").alias("a"), F.col("least").alias("b")).distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Join each node and its smaller neighbours to the least of them."""
    down = edges.select(F.greatest("a", "b").alias("a"), F.least("a", "b").alias("b"))
    least = down.groupBy("a").agg(F.min("b").alias("least"))
    smaller = down.join(least, "a").select(F.col("b").alias("a"), F.col("least").alias("b"))
    own = least.withColumnRenamed("least", "b")
    return smaller.where("a != b").unionByName(own).distinct()


def _content(edges: DataFrame) -> tuple[object, ...]:
    """How many edges there are, and a sum of their hashes."""
    hashes = F.sum(F.xxhash64("a", "b").cast("decimal(38, 0)"))
    return tuple(totals(edges, F.count(F.lit(1)), hashes))
