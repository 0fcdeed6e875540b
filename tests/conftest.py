"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from habitus.config import SparkSettings
from habitus.edges.spark import start_spark


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One small Spark session for the whole run, started by the first test that asks for it."""
    folder: Path = tmp_path_factory.mktemp("spark")
    settings = SparkSettings(
        master="local[2]",
        driver_memory="2g",
        shuffle_partitions=2,
        options={
            "spark.default.parallelism": "2",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            # Tests are short: quick compilation beats fast code, and one core less for the heap.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC "
            f"-Dderby.system.home={folder}",
        },
    )
    session = start_spark(settings, "tests")
    yield session
    session.stop()
