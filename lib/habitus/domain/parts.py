"""The parts of the time split: what they hold, and samples of them that can be repeated."""

import hashlib
from collections.abc import Iterable
from functools import reduce
from operator import xor

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from habitus.domain.vocabulary import Split

PARTS = ("training", "validation", "calibration")
_HASHES = 2**31


def with_part(sequences: DataFrame, split: Split) -> DataFrame:
    """The units that train, validate or calibrate, with the `part` each belongs to."""
    ended = F.col("ended_at")
    part = (
        F.when(ended < F.lit(split.train_from), None)
        .when(ended < F.lit(split.train_until), PARTS[0])
        .when(ended < F.lit(split.calibrate_from), PARTS[1])
        .when(ended < F.lit(split.validation_until), PARTS[2])
    )
    return sequences.withColumn("part", part).where("part is not null")


def contents(parted: DataFrame) -> DataFrame:
    """What each file holds of each part: `part, file, units`, and `odd` and `sum` of fingerprints.

    Args:
        parted: As from `with_part`, read from files.
    """
    return parted.groupBy("part", F.col("_metadata.file_path").alias("file")).agg(
        F.count(F.lit(1)).alias("units"),
        F.bit_xor("fingerprint").alias("odd"),
        F.sum(F.col("fingerprint").cast("decimal(38,0)")).alias("sum"),
    )


def fingerprint(rows: Iterable[Row]) -> str:
    """Hash of all that the rows of `contents` describe, however it is spread over files."""
    held = list(rows)
    parts = []
    for part in PARTS:
        mine = [row for row in held if row["part"] == part]
        units, total = sum(row["units"] for row in mine), sum(int(row["sum"]) for row in mine)
        odd = reduce(xor, (row["odd"] for row in mine), 0)
        parts.append(f"{part} {units} {odd} {total}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def sample(parted: DataFrame, part: str, units: int, most: int, seed: int) -> DataFrame:
    """About `most` of a part's units, chosen by a hash of their ids, in the order of their ids.

    Args:
        parted: As from `with_part`.
        part: One of PARTS.
        units: How many units the part holds.
        most: How many to take; all if there are fewer.
        seed: Another seed chooses others.
    """
    chosen = parted.where(F.col("part") == part)
    if units > most:
        draw = F.pmod(F.xxhash64("unit_id", F.lit(seed)), F.lit(_HASHES))
        chosen = chosen.where(draw < F.lit(int(most / units * _HASHES)))
    return chosen.orderBy("unit_id")
