"""The Fraud Detection Handbook's payments: which are tested, how scorers of them are measured."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

WEEK = timedelta(days=7)
DELAY = WEEK  # until a label is known
COMPROMISED = timedelta(days=28)  # how long a terminal stays so
CARDS = 100
BOOTSTRAP = 200
SEED = 7
Counts = NDArray[np.int64]
MEASURES = ("AUC", "average precision", f"card precision at {CARDS}")


def payments_of(source: Path) -> pl.DataFrame:
    """The payments, with their day and whether a fraud could be `visible` to a scorer.

    A compromised terminal is, once a fraud there of the same time is known.
    """
    payments = pl.read_parquet(source).with_columns(pl.col("TX_DATETIME").dt.date().alias("day"))
    known = payments.filter(pl.col("TX_FRAUD") == 1).select(
        "TERMINAL_ID", (pl.col("TX_DATETIME") + DELAY).alias("known_at")
    )
    seen = payments.sort("TX_DATETIME").join_asof(
        known.sort("known_at"),
        left_on="TX_DATETIME",
        right_on="known_at",
        by="TERMINAL_ID",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    recent = pl.col("known_at") > pl.col("TX_DATETIME") - COMPROMISED + DELAY
    visible = (pl.col("TX_FRAUD_SCENARIO") != 2) | recent.fill_null(False)
    return seen.with_columns((visible & (pl.col("TX_FRAUD") == 1)).alias("visible"))


def tested_payments(payments: pl.DataFrame, test_from: date) -> pl.DataFrame:
    """The payments of the week from a day on, less those of cards known as compromised by then."""
    frauds = payments.filter(pl.col("TX_FRAUD") == 1)
    first = test_from - DELAY - WEEK
    days = []
    for offset in range(WEEK.days):
        day = test_from + timedelta(days=offset)
        # A fraud counts as known from the day after its delay; at first those of training are.
        known = frauds.filter(pl.col("day").is_between(first, day - DELAY, closed="left"))
        compromised = pl.col("CUSTOMER_ID").is_in(known["CUSTOMER_ID"].unique().implode())
        days.append(payments.filter((pl.col("day") == day) & ~compromised))
    return pl.concat(days)


def hard_bound(test: pl.DataFrame) -> float:
    """The average precision expected of a scorer that sets the visible frauds first.

    The others are anywhere among the rest: the k-th of m lies, on average, at the k-th of m + 1
    parts of them.
    """
    frauds, visible = int(test["TX_FRAUD"].sum()), int(test["visible"].sum())
    hidden = np.arange(1, frauds - visible + 1)
    places = visible + hidden * (test.height - visible + 1) / (len(hidden) + 1)
    return float((visible + ((visible + hidden) / places).sum()) / frauds)


def card_precision(scored: pl.DataFrame) -> float:
    """The mean over days of the share of compromised cards among the strangest.

    A card that was found is looked at no more.
    """
    cards = scored.group_by("day", "CUSTOMER_ID").agg(pl.max("score"), pl.max("TX_FRAUD"))
    cards = cards.sort("score", "CUSTOMER_ID", descending=True)
    found = cards.clear()
    for (_,), of_day in sorted(cards.group_by("day", maintain_order=True), key=lambda one: one[0]):
        fresh = of_day.filter(~pl.col("CUSTOMER_ID").is_in(found["CUSTOMER_ID"].implode()))
        found = pl.concat([found, fresh.head(CARDS).filter(pl.col("TX_FRAUD") == 1)])
    return found.height / cards["day"].n_unique() / CARDS


def values_of(scored: pl.DataFrame) -> tuple[float, float, float]:
    """AUC, average precision, card precision."""
    truth, scores = scored["TX_FRAUD"], scored["score"]
    return (
        float(roc_auc_score(truth, scores)),
        float(average_precision_score(truth, scores)),
        card_precision(scored),
    )


def intervals(scored: pl.DataFrame) -> list[tuple[float, float]]:
    """Where each measure lies in 95 of 100 draws of the customers."""
    random = np.random.default_rng(SEED)
    customers = scored.partition_by("CUSTOMER_ID", maintain_order=True)
    sizes = np.array([one.height for one in customers])
    rows = pl.concat(customers)
    # A customer who is drawn twice has two cards.
    numbers = np.arange(len(sizes))
    found = []
    for _ in range(BOOTSTRAP):
        drawn = random.integers(0, len(sizes), len(sizes))
        found.append(values_of(_of(rows, sizes, numbers, drawn)))
    ends = np.quantile(found, [0.025, 0.975], axis=0)
    return [(float(low), float(high)) for low, high in ends.T]


def _of(rows: pl.DataFrame, sizes: Counts, numbers: Counts, drawn: Counts) -> pl.DataFrame:
    """Rows that lie customer by customer, of [C] customers drawn, each as one of its own."""
    starts = np.cumsum(sizes) - sizes
    of_drawn = sizes[drawn]
    within = np.arange(of_drawn.sum()) - np.repeat(np.cumsum(of_drawn) - of_drawn, of_drawn)
    taken: pl.DataFrame = rows[np.repeat(starts[drawn], of_drawn) + within]
    return taken.with_columns(pl.Series("CUSTOMER_ID", np.repeat(numbers, of_drawn)))
