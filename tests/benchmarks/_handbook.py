"""Detectors on the Fraud Detection Handbook's card payments.

The published protocol (Le Borgne et al., Fraud Detection Handbook, chapters 3 and 5): train on
2018-07-25..31, test on 2018-08-08..14, labels are known 7 days late, and a card is out of the test
from the day on which a fraud of it is known. AUC and average precision are over payments; card
precision at 100 is the mean over days of the share of frauds' cards among the 100 strangest cards,
less the cards that were found on an earlier day.
"""

import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from _figures import Figure, at_least
from sklearn.metrics import average_precision_score, roc_auc_score

from habitus.domain.detectors import SUPERVISED

DATA = Path("../shared/data/fraud_handbook.parquet")
SMALL = 20  # a small run takes the payments of every SMALLth customer
TRAIN_FROM = date(2018, 7, 25)
TEST_FROM, TEST_UNTIL = date(2018, 8, 8), date(2018, 8, 15)
DELAY = timedelta(days=7)
CARDS = 100
# The best of the Handbook's rows that use no label in fitting, of the others, and what we are to
# reach with labels; AUC, average precision, card precision.
PUBLISHED_WITHOUT = (0.836, 0.180, 0.217)
PUBLISHED_WITH = (0.876, 0.687, 0.303)
GOAL_WITH = (0.888, 0.750, 0.303)
MEASURES = ("AUC", "average precision", f"card precision at {CARDS}")


def tested_payments(payments: pl.DataFrame) -> pl.DataFrame:
    """The payments of the test week, less those of cards known as compromised by then."""
    frauds = payments.filter(pl.col("TX_FRAUD") == 1)
    days = []
    for offset in range((TEST_UNTIL - TEST_FROM).days):
        day = TEST_FROM + timedelta(days=offset)
        # A fraud counts as known from the day after its delay; at first those of training are.
        known = frauds.filter(pl.col("day").is_between(TRAIN_FROM, day - DELAY, closed="left"))
        compromised = pl.col("CUSTOMER_ID").is_in(known["CUSTOMER_ID"].unique().implode())
        days.append(payments.filter((pl.col("day") == day) & ~compromised))
    return pl.concat(days)


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


def run_chain(source: Path, lake: str) -> None:
    """Run habitus from the file to the scores."""
    command = ["habitus", "run", "--env", "fraud_handbook", "--set", f"lake.root={lake}"]
    command += ["--source", "conf/sources/fraud_handbook.yaml", "--input", str(source)]
    subprocess.run(command, check=True)


def measure(payments: pl.DataFrame, lake: str) -> list[Figure]:
    """Each detector's figures, best published one beside."""
    test = tested_payments(payments).with_columns(pl.col("TRANSACTION_ID").cast(pl.String))
    scores = pl.read_delta(f"{lake}/scores").select("unit_id", "model_id", "score")
    figures = []
    for (model_id,), of_model in scores.group_by("model_id", maintain_order=True):
        found = test.join(of_model, left_on="TRANSACTION_ID", right_on="unit_id")
        if found.height < test.height:
            sys.exit(f"{model_id} scored {found.height} of {test.height} test payments")
        values = (
            float(roc_auc_score(found["TX_FRAUD"], found["score"])),
            float(average_precision_score(found["TX_FRAUD"], found["score"])),
            card_precision(found),
        )
        detector = str(model_id).rpartition("-")[0]
        with_labels = detector in SUPERVISED
        rivals = PUBLISHED_WITH if with_labels else PUBLISHED_WITHOUT
        goals = GOAL_WITH if with_labels else PUBLISHED_WITHOUT
        for name, value, rival, goal in zip(MEASURES, values, rivals, goals, strict=True):
            figures.append(at_least(f"{detector}, {name}", value, goal, rival))
    return sorted(figures, key=lambda figure: figure.figure)


def figures(small: bool) -> list[Figure]:
    """Every detector of conf/fraud_handbook.yaml."""
    source = DATA
    payments = pl.read_parquet(DATA).with_columns(pl.col("TX_DATETIME").dt.date().alias("day"))
    with tempfile.TemporaryDirectory() as folder:
        if small:
            payments = payments.filter(pl.col("CUSTOMER_ID") % SMALL == 0)
            source = Path(folder) / "payments.parquet"
            payments.drop("day").write_parquet(source)
        run_chain(source, f"{folder}/lake")
        return measure(payments, f"{folder}/lake")
