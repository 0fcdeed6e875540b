"""Detectors on the Fraud Detection Handbook's card payments.

The published protocol (Le Borgne et al., Fraud Detection Handbook, chapters 3 and 5): train on
2018-07-25..31, test on 2018-08-08..14, labels are known 7 days late, and a card is out of the test
from the day on which a fraud of it is known. AUC and average precision are over payments; card
precision at 100 is the mean over days of the share of frauds' cards among the 100 strangest cards,
less the cards that were found on an earlier day.

Three more protocols. Four weeks, that one and the three after it, each trained a week later than
the one before: average precision is told as a share of the hard bound, that of a scorer which sets
every fraud first that can be seen (a compromised terminal cannot before one there is known). All
labels: the first of these weeks, but trained on all days from ALL_FROM on, on `train.sample` of the
normal payments. No labels: neither in fitting nor in features.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from _cli import habitus
from _figures import Figure, at_least
from _missed import of_kinds, without_groups
from _payments import (
    DELAY,
    MEASURES,
    WEEK,
    hard_bound,
    intervals,
    payments_of,
    tested_payments,
    values_of,
)

from habitus.domain.detectors import SUPERVISED

DATA = Path("../shared/data/fraud_handbook.parquet")
SMALL = 10  # a small run takes the payments of every SMALLth customer
TEST_FROM = date(2018, 8, 8)
WEEKS = 4
# Features look back 30 days and more, and data begin on 2018-04-01.
ALL_FROM = date(2018, 5, 1)
# The best of the Handbook's rows that use no label in fitting, of the others, and what we are to
# reach; AUC, average precision, card precision. Without any label the rival is the bound.
PUBLISHED_WITHOUT = (0.836, 0.180, 0.217)
PUBLISHED_WITH = (0.876, 0.687, 0.303)
GOAL_WITH = (0.888, 0.750, 0.303)
# Of sequence models that learn from labels: the published LSTM.
PUBLISHED_SEQUENCE = (0.876, 0.665, 0.297)
GOAL_SEQUENCE = (0.885, 0.735, 0.297)
BOUND_WITHOUT = (0.642, 0.283, 0.082)
GOAL_WITHOUT = (0.62, 0.24, 0.078)
GOAL_ALL_LABELS = 0.765
GOAL_OF_BOUND = 0.94
# Those compared under the other protocols with labels.
WITH_LABELS = ("gradient_boosting", "random_forest", "ensemble")
# What chance has a part in; the body of `fine_tuned` is trained anew, too.
RANDOM = (
    *("behaviour", "conduct", "isolation_forest", "autoencoder"),
    *("gradient_boosting", "random_forest", "fine_tuned", "ensemble"),
)
SEEDS = (7, 8, 9, 10, 11)  # the first is that of conf/base.yaml
WITHOUT_LABELS = ("ecod", "isolation_forest", "markov")
# What ecod makes of the numbers where no label is known.
CHOSEN = (
    "train.ecod.features=[amount, user_amount_multiple_90d, user_amount_peak_14d]",
    "train.ecod.power=2",
)
AGAIN = ("features", "train", "score")

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Protocol:
    """When to train and to test, and what habitus is told beside.

    Attributes:
        test_from: First day of the test week; training ends a week and the delay of labels before.
        train_from: First day of training.
        settings: Further settings, as `--set` takes them.
    """

    test_from: date
    train_from: date
    settings: tuple[str, ...] = ()

    @classmethod
    def week(cls, number: int, *settings: str) -> "Protocol":
        """The published protocol, so many weeks later."""
        test_from = TEST_FROM + number * WEEK
        return cls(test_from, test_from - DELAY - WEEK, settings)

    def overrides(self) -> list[str]:
        """All settings."""
        times = {
            "split.train_from": self.train_from,
            "split.train_until": self.test_from - DELAY,
            "split.validation_until": self.test_from,
            "score.from": self.test_from,
            "score.until": self.test_from + WEEK,
        }
        return [f"{name}={value}" for name, value in times.items()] + list(self.settings)


def run(jobs: Sequence[str], lake: str, protocol: Protocol, *arguments: str) -> None:
    """Run habitus' jobs under a protocol."""
    for job in jobs:
        overrides = [f"lake.root={lake}", *protocol.overrides()]
        habitus(job, "fraud_handbook", overrides, *arguments)


class Lake:
    """What habitus made of the payments, protocol after protocol."""

    def __init__(self, payments: pl.DataFrame, root: str) -> None:
        self._payments = payments
        self._root = root
        self._seen: set[str] = set()

    def scored(self, protocol: Protocol) -> dict[str, pl.DataFrame]:
        """The test payments with the `score` of each detector that was not asked for before."""
        test = tested_payments(self._payments, protocol.test_from)
        test = test.with_columns(pl.col("TRANSACTION_ID").cast(pl.String))
        scores = pl.read_delta(f"{self._root}/scores").select("unit_id", "model_id", "score")
        found = {}
        for (model_id,), of_model in scores.group_by("model_id", maintain_order=True):
            if model_id in self._seen:
                continue
            self._seen.add(str(model_id))
            joined = test.join(of_model, left_on="TRANSACTION_ID", right_on="unit_id")
            if joined.height < test.height:
                sys.exit(f"{model_id} scored {joined.height} of {test.height} test payments")
            found[str(model_id).rpartition("-")[0]] = joined
        return dict(sorted(found.items()))


def beside(
    detector: str, note: str, scored: pl.DataFrame, rivals: Three, goals: Three
) -> list[Figure]:
    """A detector's three figures with their intervals, rivals' beside."""
    figures = []
    for name, value, (low, high), rival, goal in zip(
        MEASURES, values_of(scored), intervals(scored), rivals, goals, strict=True
    ):
        title = f"{detector}, {note}{name}"
        figures += [
            at_least(title, value, goal, rival),
            Figure(f"{title}, low end of 95 %", low),
            Figure(f"{title}, high end of 95 %", high),
        ]
    return figures


def published(scored: dict[str, pl.DataFrame]) -> Iterator[Figure]:
    """Each detector's figures under the published protocol, best published ones beside."""
    for detector, of_detector in scored.items():
        learns = detector in SUPERVISED or detector == "ensemble"
        rivals = PUBLISHED_WITH if learns else PUBLISHED_WITHOUT
        goals = GOAL_WITH if learns else PUBLISHED_WITHOUT
        if detector == "fine_tuned":
            rivals, goals = PUBLISHED_SEQUENCE, GOAL_SEQUENCE
        yield from beside(detector, "", of_detector, rivals, goals)


def of_seeds(
    seeds: Sequence[dict[str, pl.DataFrame]], detectors: Sequence[str] = RANDOM
) -> Iterator[Figure]:
    """How far chance carries detectors, which score the payments once a seed."""
    for detector in detectors:
        every = zip(*(values_of(scored[detector]) for scored in seeds), strict=True)
        for name, values in zip(MEASURES, every, strict=True):
            title = f"{detector}, {name}, of {len(values)} seeds the"
            yield Figure(f"{title} least", min(values))
            yield Figure(f"{title} mean", float(np.mean(values)))
            yield Figure(f"{title} most", max(values))


def of_bound(week: dict[str, pl.DataFrame]) -> dict[str, float]:
    """Each detector's average precision as a share of the week's hard bound."""
    return {
        detector: values_of(week[detector])[1] / hard_bound(week[detector])
        for detector in WITH_LABELS
    }


def without_label_features() -> tuple[str, ...]:
    """Features and fields that are not computed from labels, as settings.

    These and CHOSEN were chosen on the weeks from 2018-07-11 to 2018-07-24, each trained two weeks
    earlier, among sums and norms over these and what else compares the payment with the same
    user's: means, maxima, ratios and z-scores of 7 to 90 days, gaps, the number of earlier
    payments.
    """
    compared = "{entity: user, windows: [90 days], measures: [multiple]}"
    peak = "{entity: user, windows: [14 days], measures: [peak]}"
    return f"features=[{compared}, {peak}]", "sequences.fields=[action, gap, amount]"


@contextmanager
def prepared(small: bool) -> Iterator[tuple[Lake, str, tuple[str, ...]]]:
    """A lake that is still empty, its root, and the arguments that fill it."""
    with tempfile.TemporaryDirectory() as folder:
        source, root = DATA, f"{folder}/lake"
        if small:
            source = Path(folder) / "payments.parquet"
            every = pl.read_parquet(DATA)
            every.filter(pl.col("CUSTOMER_ID") % SMALL == 0).write_parquet(source)
        mapping = ("--source", "conf/sources/fraud_handbook.yaml", "--input", str(source))
        yield Lake(payments_of(source), root), root, mapping


def figures(small: bool) -> Iterator[Figure]:
    """Every detector of conf/fraud_handbook.yaml under the published protocol; what limits them."""
    with prepared(small) as (lake, root, mapping):
        first = Protocol.week(0)
        run(["run"], root, first, *mapping)
        seeds = [lake.scored(first)]
        yield from published(seeds[0])
        for detector in (*WITH_LABELS, "fine_tuned"):
            yield from of_kinds(detector, seeds[0][detector])
        yield from without_groups(root, seeds[0][WITH_LABELS[0]])
        random = f"detectors=[{', '.join(RANDOM)}]"
        for seed in SEEDS[1 : 2 if small else None]:
            again = Protocol.week(0, random, f"seed={seed}")
            run(["train", "score"], root, again)
            seeds.append(lake.scored(again))
            for detector, scored in seeds[-1].items():
                for name, value in zip(MEASURES, values_of(scored), strict=True):
                    yield Figure(f"{detector}, {name}, seed {seed}", value)
    yield from of_seeds(seeds)


def figures_of_weeks(small: bool) -> Iterator[Figure]:
    """Four weeks, and the first of them with all labels."""
    labelled = f"detectors=[{', '.join(WITH_LABELS)}]"
    with prepared(small) as (lake, root, mapping):
        run(["ingest"], root, Protocol.week(0), *mapping)
        run(["sessionize"], root, Protocol.week(0))
        weeks = []
        for number in range(WEEKS):
            protocol = Protocol.week(number, labelled)
            run(AGAIN, root, protocol)
            weeks.append(of_bound(lake.scored(protocol)))
            for detector, share in weeks[-1].items():
                yield Figure(f"{detector}, share of week {number + 1}'s bound", share)
        for detector in WITH_LABELS:
            mean = float(np.mean([shares[detector] for shares in weeks]))
            yield at_least(f"{detector}, share of bound, mean", mean, GOAL_OF_BOUND)
        longer = Protocol(TEST_FROM, ALL_FROM, (labelled,))
        run(AGAIN, root, longer)
        for detector, scored in lake.scored(longer).items():
            title = f"{detector}, all labels, average precision"
            yield at_least(title, values_of(scored)[1], GOAL_ALL_LABELS)


def figures_without_labels(small: bool) -> Iterator[Figure]:
    """The published protocol without any label, then ecod by its defaults on the same features.

    Of these detectors chance has a part in the isolation forest alone.
    """
    with prepared(small) as (lake, root, mapping):
        chosen = blind(*WITHOUT_LABELS, settings=CHOSEN)
        run(["ingest"], root, chosen, *mapping)
        run(["sessionize", *AGAIN], root, chosen)
        seeds = [lake.scored(chosen)]
        yield from of_blind(seeds[0])
        defaults = blind("ecod")
        run(["train", "score"], root, defaults)
        for detector, scored in lake.scored(defaults).items():
            yield from of_blind({f"{detector} by its defaults": scored})
        for seed in SEEDS[1 : 2 if small else None]:
            again = blind("isolation_forest", settings=(f"seed={seed}",))
            run(["train", "score"], root, again)
            seeds.append(lake.scored(again))
    yield from of_seeds(seeds, ("isolation_forest",))


def blind(*detectors: str, settings: tuple[str, ...] = ()) -> Protocol:
    """The published protocol without any label; the first detector flags."""
    named = f"detectors=[{', '.join(detectors)}]", f"alerts.detector={detectors[0]}"
    return Protocol.week(0, *named, *without_label_features(), *settings)


def of_blind(found: dict[str, pl.DataFrame]) -> list[Figure]:
    """Each detector's figures without any label, the bound beside."""
    figures = []
    for detector, scored in found.items():
        figures += beside(detector, "no label, ", scored, BOUND_WITHOUT, GOAL_WITHOUT)
    return figures
