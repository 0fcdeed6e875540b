"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from java_options import LASTING_JAVA
from pyspark.sql import SparkSession

from habitus.config import SparkSettings
from habitus.edges.spark import start_spark

# Two processes of tests share the cores, and threads that wait for each other would spin.
os.environ["OMP_NUM_THREADS"] = "1"
# Examples are the same in every run, and may take as long as the machine's other work makes them.
hypothesis.settings.register_profile("habitus", deadline=None, derandomize=True)
hypothesis.settings.load_profile("habitus")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share the tests out among processes: a file stays together, and so do the small lake's tests.

    The tests of whole jobs come first, those of the small lake before them: what takes longest must
    not come last.
    """
    for item in items:
        group = "small lake" if _needs_small_lake(item) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (not _needs_small_lake(item), not item.get_closest_marker("jobs")))


def _needs_small_lake(item: pytest.Item) -> bool:
    return "chain" in getattr(item, "fixturenames", ())


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
            # VACUUM lists folders by so many tasks, ten thousand by default.
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.driver.extraJavaOptions": f"{LASTING_JAVA} -Dderby.system.home={folder}",
        },
    )
    session = start_spark(settings, "tests")
    yield session
    session.stop()
