"""A lake of its own for each test."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from habitus.config import LakeSettings
from habitus.edges.lake import Lake


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(
        spark,
        LakeSettings(root=str(tmp_path / "lake"), catalog=None, schema=None, compact_above=200),
    )
