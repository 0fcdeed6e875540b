"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from habitus.config import SparkSettings
from habitus.edges.spark import start_spark


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of whole jobs first: with two processes, what takes longest must not come last."""
    items.sort(key=lambda item: item.get_closest_marker("jobs") is None)


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
            # On a handful of rows, compiling a query costs more than it saves.
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
            # Tests are short: quick compilation beats fast code, and one core less for the heap.
            # With the first compiler alone Java keeps little room for code: Spark fills it.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 "
            f"-XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC -Dderby.system.home={folder}",
        },
    )
    session = start_spark(settings, "tests")
    yield session
    session.stop()
