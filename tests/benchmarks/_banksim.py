"""Detectors on BankSim's simulated card payments (Lopez-Rojas and Axelsson 2014).

Train on the first 126 day-steps, test on the last 54; AUC and average precision are over payments.
When labels become known is not published. Here only those of the training steps are ever used: no
feature is made from labels, so that detectors without labels see none, and the others learn what
their rival, the merchant's fraud rate, learns. The last six training steps validate and calibrate,
and trees and sums are not fitted on them. Fields, features and windows were chosen on training
steps: fitted on those before 94, looked at on 100 to 125. `count_distance` has nothing to count,
as each payment is one.

A step has no time of day: its payments are at one time, in the order of the file by an id that
counts the rows. That order is no clock. This simulator writes frauds in pairs, neighbouring rows of
one merchant, and a model that profits from neighbours is using an artefact; so nothing measures
time within a step.
"""

import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from _cli import habitus, models
from _figures import Figure, at_least
from numpy.typing import NDArray

from habitus.domain.detectors import SUPERVISED
from habitus.domain.metrics import auc, average_precision

DATA = Path("../shared/data/banksim.parquet")
SMALL = 20  # a small run takes the payments of about every SMALLth customer
TRAINED = 126  # steps
BOOTSTRAP = 200
SEEDS = (7, 8, 9, 10, 11)  # the first is that of conf/base.yaml
# What chance has a part in, and is trained in minutes.
RANDOM = ("conduct", "autoencoder", "isolation_forest", "gradient_boosting", "random_forest")
AMOUNT, MERCHANT = "amount alone", "merchant risk alone"
MEASURES = {"AUC": auc, "average precision": average_precision}
# By measure: what is known of the rivals, and what we are to reach with labels.
PUBLISHED = {AMOUNT: (0.944, 0.704), MERCHANT: (0.997, 0.774)}
GOAL_WITH = (0.998, 0.900)

Counts = NDArray[np.int64]


def run(jobs: Sequence[str], lake: str, *arguments: str) -> None:
    """Run habitus' jobs."""
    for job in jobs:
        habitus(job, "banksim", [f"lake.root={lake}"], *arguments)


def with_rivals(payments: pl.DataFrame) -> pl.DataFrame:
    """The test payments with the rivals' scores, a column each."""
    trained = payments.filter(pl.col("step") < TRAINED)
    rates = trained.group_by("merchant").agg(pl.mean("fraud").alias(MERCHANT))
    tested = payments.filter(pl.col("step") >= TRAINED).join(rates, on="merchant", how="left")
    return tested.with_columns(pl.col("amount").alias(AMOUNT), pl.col(MERCHANT).fill_null(0))


def with_scores(
    tested: pl.DataFrame, lake: str, detectors: Collection[str], seed: int
) -> pl.DataFrame:
    """The test payments with the scores of detectors, a column each."""
    scores = pl.read_delta(f"{lake}/scores").select("unit_id", "model_id", "score")
    for detector, model_id in models(lake).items():
        if detector not in detectors:
            continue
        own = scores.filter(pl.col("model_id") == model_id)
        own = own.select("unit_id", pl.col("score").alias(f"{detector} {seed}"))
        found = tested.join(own, on="unit_id")
        if found.height < tested.height:
            sys.exit(f"{model_id} scored {found.height} of {tested.height} test payments")
        tested = found
    return tested


def counter(tested: pl.DataFrame, scores: str) -> Callable[[Counts], tuple[Counts, Counts]]:
    """A function from payments' weights to frauds and other payments by score, highest first."""
    distinct, place = np.unique(-tested[scores].to_numpy(), return_inverse=True)
    fraud = tested["fraud"].to_numpy() == 1

    def counted(weights: Counts) -> tuple[Counts, Counts]:
        frauds = np.bincount(place[fraud], weights[fraud], len(distinct))
        others = np.bincount(place[~fraud], weights[~fraud], len(distinct))
        return frauds.astype(np.int64), others.astype(np.int64)

    return counted


def values(tested: pl.DataFrame, scores: str) -> list[float]:
    """Each measure of a column of scores."""
    once = counter(tested, scores)(np.ones(tested.height, dtype=np.int64))
    return [float(measure(*once)) for measure in MEASURES.values()]


def intervals(tested: pl.DataFrame, scores: str) -> list[tuple[float, float]]:
    """Where each measure of a column of scores lies in 95 of 100 draws of customers."""
    _, customer = np.unique(tested["customer"].to_numpy(), return_inverse=True)
    size = int(customer.max()) + 1
    counted = counter(tested, scores)
    random = np.random.default_rng(SEEDS[0])
    draws = random.multinomial(size, np.full(size, 1 / size), BOOTSTRAP)
    drawn = [counted(times[customer]) for times in draws]
    found = []
    for measure in MEASURES.values():
        low, high = np.quantile([measure(*one) for one in drawn], [0.025, 0.975])
        found.append((float(low), float(high)))
    return found


def of_rivals(tested: pl.DataFrame) -> list[Figure]:
    """The rivals' figures, those that are known of them beside."""
    return [
        Figure(f"{rival}, {measure}", value, known)
        for rival, of_rival in PUBLISHED.items()
        for measure, value, known in zip(MEASURES, values(tested, rival), of_rival, strict=True)
    ]


def of_detector(tested: pl.DataFrame, detector: str, seed: int) -> list[Figure]:
    """A detector's figures from a seed, those of its rival beside."""
    learns = detector in SUPERVISED or detector == "ensemble"
    rivals = values(tested, MERCHANT if learns else AMOUNT)
    goals = GOAL_WITH if learns else rivals
    own, ends = values(tested, f"{detector} {seed}"), intervals(tested, f"{detector} {seed}")
    figures = []
    for index, measure in enumerate(MEASURES):
        title = f"{detector}, {measure}"
        figures.append(at_least(title, own[index], goals[index], rivals[index]))
        figures.append(Figure(f"{title}, low end of 95 %", ends[index][0]))
        figures.append(Figure(f"{title}, high end of 95 %", ends[index][1]))
    return figures


def of_seeds(tested: pl.DataFrame, detector: str, seeds: Sequence[int]) -> list[Figure]:
    """How far chance carries a detector."""
    figures = []
    every = zip(*(values(tested, f"{detector} {seed}") for seed in seeds), strict=True)
    for measure, over in zip(MEASURES, every, strict=True):
        title = f"{detector}, {measure}, of {len(seeds)} seeds the"
        figures.append(Figure(f"{title} least", min(over)))
        figures.append(Figure(f"{title} most", max(over)))
    return figures


def figures(small: bool) -> Iterator[Figure]:
    """The rivals and every detector of conf/banksim.yaml, then what chance does."""
    source, payments = DATA, pl.read_parquet(DATA)
    seeds = SEEDS[: 2 if small else None]
    with tempfile.TemporaryDirectory() as folder:
        lake = f"{folder}/lake"
        if small:
            number = pl.col("customer").str.extract(r"(\d+)").cast(pl.Int64)
            payments = payments.filter(number % SMALL == 0)
            source = Path(folder) / "payments.parquet"
            payments.write_parquet(source)
        run(["run"], lake, "--source", "conf/sources/banksim.yaml", "--input", str(source))
        # The mapping's id of an event counts the rows of the file.
        row = pl.int_range(pl.len()).cast(pl.String).str.zfill(9)
        tested = with_rivals(payments.with_columns(row.alias("unit_id")))
        yield from of_rivals(tested)
        detectors = sorted(models(lake))
        tested = with_scores(tested, lake, detectors, seeds[0])
        for detector in detectors:
            yield from of_detector(tested, detector, seeds[0])
        again = [f"detectors=[{', '.join(RANDOM)}]", f"alerts.detector={RANDOM[0]}"]
        for seed in seeds[1:]:
            settings = [word for one in (*again, f"seed={seed}") for word in ("--set", one)]
            run(["train", "score"], lake, *settings)
            tested = with_scores(tested, lake, RANDOM, seed)
    for detector in RANDOM:
        yield from of_seeds(tested, detector, seeds)
