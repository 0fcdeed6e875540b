"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from habitus.config import SparkSettings
from habitus.edges.spark import start_spark


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n`, one process takes a whole file, and one all tests of the small lake, first.

    So nothing shared is made twice, and what takes longest does not come last.
    """

    def group(item: pytest.Item) -> str:
        return "small lake" if "chain" in item.fixturenames else str(item.path)  # type: ignore[attr-defined]

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != "small lake")


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
