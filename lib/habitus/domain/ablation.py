"""What each member adds to an ensemble: the same test units, judged without it.

The others are weighed as they would have been without it, and what is lost is compared block by
block, as detectors are (see `choosing`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.config import EvaluateSettings
from habitus.domain.choosing import mean_over_blocks, precision_by_block
from habitus.domain.detectors.combination import Combination
from habitus.domain.evaluation import ALL, NORMAL, Evaluation

ADDED = "average_precision_added"
NOTHING = "nothing"
_UNIT = ["unit_id", "user_id", "event_date", "kinds"]


def name_without(name: str, member: str) -> str:
    """What a detector, or a model, is called when a member is left out."""
    return f"{name} without {member}"


def without_members(
    units: DataFrame, model_id: str, members: Mapping[str, str], combination: Combination
) -> DataFrame:
    """The units judged by an ensemble less each of its members.

    Args:
        units: From `evaluation.judged`, with the scores of all members.
        model_id: The ensemble's.
        members: Detector -> model id, in the combination's order.
        combination: What it makes of its members' scores.

    Returns:
        The columns of `units`, for models called as `name_without` says, and one without
        `NOTHING` to compare them with. Their p-values are not calibrated: they rank.
    """
    scores = [
        F.max(F.when(F.col("model_id") == F.lit(member), F.col("score")))
        for member in members.values()
    ]
    wide = (
        units.where(F.col("model_id").isin(list(members.values())))
        .groupBy(*_UNIT)
        .agg(F.array(*scores).alias("scores"))
    )
    names = [name_without(model_id, member) for member in (NOTHING, *members)]

    def judged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            scores = batch.column("scores").flatten().to_numpy(zero_copy_only=False)
            matrix = scores.astype(np.float64).reshape(len(batch), len(members))
            rarities = combination.rarities_without(matrix)
            for name, rarity in zip(names, rarities.T, strict=True):
                known = {column: batch.column(column) for column in _UNIT}
                verdict = {"model_id": pa.array([name] * len(batch)), "p_value": rarity}
                yield pa.RecordBatch.from_pydict({**known, **verdict, "score": -np.log2(rarity)})

    return wide.mapInArrow(judged, units.select(*_UNIT, "model_id", "p_value", "score").schema)


def added(
    histogram: pd.DataFrame,
    model_id: str,
    members: Sequence[str],
    settings: EvaluateSettings,
    seed: int,
) -> list[Evaluation]:
    """What average precision each member adds to the ensemble, in the mean over blocks.

    Args:
        histogram: The rows of `evaluation.histograms`, of the ensemble without nothing and
            without each member.
        model_id: The ensemble's.
        members: Their names.
        settings: How many resamples, and which coverage.
        seed: Seed of the resamples.

    Returns:
        One for each member, of the ensemble without it; empty without anomalies.
    """
    names = [name_without(model_id, member) for member in (NOTHING, *members)]
    whole, *less = precision_by_block(histogram, names)
    of_kind = histogram[histogram["model_id"] == names[0]].groupby("kind")["units"].sum()
    anomalous = int(of_kind.get(ALL, 0))
    if not anomalous:
        return []
    detector = model_id.rpartition("-")[0]
    return [
        Evaluation(
            name_without(model_id, member),
            name_without(detector, member),
            ALL,
            ADDED,
            mean_over_blocks(whole - one, settings, seed),
            anomalous + int(of_kind.get(NORMAL, 0)),
            anomalous,
        )
        for member, one in zip(members, less, strict=True)
    ]


def in_words(found: Sequence[Evaluation]) -> str:
    """What each member adds, in a sentence; from `added`, at least one."""
    told = [f"{one.detector.rpartition(' ')[2]} {one.figure.in_words('+.3f')}" for one in found]
    return f"average precision that each member of the ensemble adds: {', '.join(told)}"
