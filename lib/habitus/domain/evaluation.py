"""Detectors side by side: the same test units, ranked by each model, against what is known.

Spark counts the units of each kind by bin of surprise; the counts are bounded whatever the
number of units, and all figures come from them.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from habitus.config import EvaluateSettings
from habitus.domain.metrics import (
    Counts,
    Figure,
    auc,
    average_precision,
    estimate,
    precision_of_chosen,
    recall_at_false_positive_rate,
    recall_of_chosen,
)
from habitus.domain.totals import last_until
from habitus.setting_types import BlocksOf
from habitus.unit_columns import UNIT_KEY

ALL = "all"
NORMAL = "normal"

AVERAGE_PRECISION = "average_precision"
RECALL_AT_BUDGET = "recall_at_budget"
_RANKING = {
    "auc": auc,
    AVERAGE_PRECISION: average_precision,
    "recall_at_1_percent_false_positives": recall_at_false_positive_rate(0.01),
}
_CHOICE = {RECALL_AT_BUDGET: recall_of_chosen, "precision_at_budget": precision_of_chosen}
MEASURES = (*_RANKING, *_CHOICE)

# A p-value is binned by -log10(p) to three decimals, so two p-values that share a bin differ by
# less than a quarter of a percent; below 1e-20 all are alike.
_BINS_PER_DECADE = 1000
_DECADES = 20


@dataclass(frozen=True)
class Evaluation:
    """One figure of one model on one kind of anomaly.

    Args:
        units: Units judged: those of the kind and the normal ones, or all for a budget.
        anomalous: Units of the kind.
    """

    model_id: str
    detector: str
    kind: str
    measure: str
    figure: Figure
    units: int
    anomalous: int


def judged(
    scores: DataFrame,
    sequences: DataFrame,
    labels: DataFrame,
    models: Collection[str],
    test_from: datetime,
) -> DataFrame:
    """The test units that every model has scored, once per model, with their kinds of anomaly.

    Args:
        scores: Rows of `scores`.
        sequences: Rows of `sequences`.
        labels: Anomalous units, `unit_id` and `kind`, from `unit_labels`.
        models: Ids of the models to compare.
        test_from: Units that end earlier are no test units.

    Returns:
        `unit_id, user_id, event_date, kinds` (array, empty for a normal unit), `model_id, p_value,
        score`; the score of a unit that the model cannot score is null.
    """
    test = sequences.where(F.col("ended_at") >= F.lit(test_from)).select("unit_kind", "unit_id")
    scored = F.when(F.col("note").isNull(), F.col("score"))
    verdict = F.struct("model_id", "p_value", scored.alias("score"))
    kinds = labels.groupBy("unit_id").agg(F.collect_set("kind").alias("kinds"))
    return (
        scores.where(F.col("model_id").isin(list(models)))
        .join(test, UNIT_KEY, "leftsemi")
        .groupBy("unit_id", "user_id", "event_date")
        .agg(F.collect_list(verdict).alias("verdicts"))
        .where(F.size("verdicts") == len(models))
        .join(kinds, "unit_id", "left")
        .withColumn("kinds", F.coalesce("kinds", F.array().cast("array<string>")))
        .select("unit_id", "user_id", "event_date", "kinds", F.inline("verdicts"))
    )


def histograms(
    units: DataFrame, now: datetime, blocks: int = 1, of: BlocksOf = "time"
) -> DataFrame:
    """How many units of each kind lie in each bin of surprise, in each block.

    Args:
        units: From `judged`; they are read twice if there are several blocks of time.
        now: What is later, by a clock that is wrong, is of the last block of time.
        blocks: How many blocks.
        of: Of as many days each, or of as many users, drawn by a hash; about.

    Returns:
        `model_id, kind, block, bin, units`; the kind is also `all` for every anomalous unit and
        `normal` for the others. A higher bin is stranger.
    """
    decades = F.least(F.lit(float(_DECADES)), -F.log10("p_value"))
    block = F.lit(0)
    if of == "users":
        block = block_of_user(blocks)
    elif blocks > 1:
        first = F.min("event_date")
        days = F.date_diff(last_until("event_date", now), first) + 1
        units = units.crossJoin(units.agg(first.alias("first"), days.alias("days")))
        block = F.floor(F.date_diff("event_date", "first") * blocks / F.col("days")).cast("int")
        block = F.least(block, F.lit(blocks - 1))
    return (
        units.withColumn("bin", F.round(decades * _BINS_PER_DECADE).cast("int"))
        .select("model_id", block.alias("block"), "bin", _groups())
        .groupBy("model_id", "kind", "block", "bin")
        .agg(F.count("*").alias("units"))
    )


def block_of_user(blocks: int) -> Column:
    """Which of so many blocks a unit's user is in."""
    return F.pmod(F.xxhash64("user_id"), F.lit(blocks)).cast("int")


def chosen(units: DataFrame, budget_per_day: int) -> DataFrame:
    """How many units of each kind a daily budget chooses, by the ranking that alerts use.

    Args:
        units: From `judged`.
        budget_per_day: Units chosen on each day.

    Returns:
        `model_id, kind, units`, kinds as in `histograms`.
    """
    strangest = Window.partitionBy("model_id", "event_date").orderBy(
        "p_value", F.desc("score"), "unit_id"
    )
    return (
        units.withColumn("place", F.row_number().over(strangest))
        .where(F.col("place") <= budget_per_day)
        .select("model_id", _groups())
        .groupBy("model_id", "kind")
        .agg(F.count("*").alias("units"))
    )


def evaluate(
    histogram: pd.DataFrame,
    choice: pd.DataFrame,
    detectors: Mapping[str, str],
    settings: EvaluateSettings,
    seed: int,
) -> list[Evaluation]:
    """Every measure of every model on every kind of anomaly.

    A kind's units are ranked against the normal units alone. Of the daily budget, the choice is
    made among all units; the interval holds the choice fixed and resamples the units.

    Args:
        histogram: The rows of `histograms`.
        choice: The rows of `chosen`.
        detectors: Detector name -> model id.
        settings: How many resamples, and which coverage.
        seed: Seed of the resamples.
    """
    rng = np.random.default_rng(seed)
    found = []
    for detector, model_id in sorted(detectors.items()):
        rows = histogram[histogram["model_id"] == model_id]
        picked = choice[choice["model_id"] == model_id].set_index("kind")["units"]
        for kind in kinds_of(rows):
            ranked = counts(rows, kind), counts(rows, NORMAL)
            halves = _halves(rows, picked, kind)
            for name, measure in (_RANKING | _CHOICE).items():
                anomalous, others = ranked if name in _RANKING else halves
                figure = estimate(
                    measure, anomalous, others, settings.bootstrap, settings.confidence, rng
                )
                units = int(anomalous.sum() + others.sum())
                found.append(
                    Evaluation(model_id, detector, kind, name, figure, units, int(anomalous.sum()))
                )
    return found


def counts(rows: pd.DataFrame, kind: str) -> Counts:
    """[K] one model's units of a kind by bin, the strangest bin first."""
    rows = rows[rows["kind"] == kind]
    by_bin = np.zeros(_DECADES * _BINS_PER_DECADE + 1, dtype=np.int64)
    np.add.at(by_bin, rows["bin"].to_numpy(), rows["units"].to_numpy())
    return by_bin[::-1]


def kinds_of(rows: pd.DataFrame) -> list[str]:
    """The kinds of anomaly in a histogram, `all` first; empty without any anomaly."""
    kinds: Iterable[str] = rows["kind"].unique()
    return sorted(set(kinds) - {NORMAL}, key=lambda kind: (kind != ALL, kind))


def _halves(rows: pd.DataFrame, picked: "pd.Series[int]", kind: str) -> tuple[Counts, Counts]:
    """[2] units of the kind and [2] all others, those in the budget first."""
    everything = int(counts(rows, NORMAL).sum() + counts(rows, ALL).sum())
    n_picked = int(picked.get(NORMAL, 0) + picked.get(ALL, 0))
    total, hit = int(counts(rows, kind).sum()), int(picked.get(kind, 0))
    others = everything - total
    return np.array([hit, total - hit]), np.array([n_picked - hit, others - (n_picked - hit)])


def _groups() -> Column:
    anomalous = F.concat("kinds", F.array(F.lit(ALL)))
    of = F.when(F.size("kinds") > 0, anomalous).otherwise(F.array(F.lit(NORMAL)))
    return F.explode(of).alias("kind")
