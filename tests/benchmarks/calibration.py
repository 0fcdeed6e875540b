"""Is the false-positive rate asked for the one got? `make bench-calibration`.

On normal units alone, each rate that is asked for beside the share of later units with a p-value up
to it. An interval goes with it: where that share lies in 95 of 100 such tests if p-values are
right, by the binomial distribution. Where many units score alike there is no p-value between two of
theirs; then the low end is that of the largest p-value below the rate. A second interval beside it
knows that the calibration units are a sample too: the share of later scores above the k-th highest
of n is Beta(k, n + 1 - k) distributed, and so the count of them beta-binomially (Vovk 2012,
"Conditional validity of inductive conformal predictors"). Rates beyond all n have none.

- `hdfs`: the normal log sessions in the order of the file. The detectors are fitted on the official
  training sessions, the ensemble weighs them on the next VALIDATED, the last TESTED are judged by
  all between. Fisher's p-value of the members' sum, as if they were independent, is its rival. The
  abnormal sessions tell what each member adds.
- `handbook`: the genuine card payments of the test week under the protocol without labels, judged
  by the genuine ones of the days before that are kept for calibration.
- `shop`: a simulated shop without attacks, from files to `scores`, with the demo's time split.
- `promotions`: the same with two promotions, one among the calibration units and one in the test,
  all units in one segment and promotions in a segment of their own. A promotion goes on for a day
  after, as features look back so far.

`python tests/benchmarks/calibration.py [--small] hdfs` runs the parts named.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

import _handbook
import _hdfs
import numpy as np
import polars as pl
from _cli import habitus, models
from _figures import Figure, publish_parts
from _payments import DELAY
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score

from habitus.domain.calibration import Calibration, Curve
from habitus.domain.detectors.combination import Combination
from habitus.domain.detectors.count_distance import CountDistanceDetector
from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.detectors.markov import MarkovDetector

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
LEAST = 3  # units expected at a rate that is told of
SEED = 7
VALIDATED, TESTED = 50_000, 100_000
MEMBERS = ("conduct", "markov", "isolation_forest", "ecod")
SHOPPERS, SMALL = 10_000, 2_000
START, PROMOTIONS = date(2026, 1, 5), (18, 24)

Numbers = NDArray[np.float64]


def rates(
    title: str, p_values: Numbers, calibrated: int, rivals: Numbers | None = None
) -> Iterator[Figure]:
    """Each rate asked for, the one got, and the intervals.

    Args:
        title: What judged.
        p_values: Of the units that were judged.
        calibrated: How many units it was calibrated on.
        rivals: Other p-values of the same units.
    """
    count = len(p_values)
    for rate in RATES:
        if rate * count < LEAST:
            continue
        reached = float(p_values[p_values <= rate].max(initial=0))
        low = stats.binom.ppf(0.025, count, reached) / count
        high = stats.binom.ppf(0.975, count, rate) / count
        got = float((p_values <= rate).mean())
        rival = None if rivals is None else float((rivals <= rate).mean())
        yield Figure(f"{title}, {rate:g} asked", got, rival, rate, bool(low <= got <= high))
        yield Figure(f"{title}, {rate:g} asked, low end of 95 %", float(low))
        yield Figure(f"{title}, {rate:g} asked, high end of 95 %", float(high))
        ends = (("low", 0.025, reached), ("high", 0.975, rate))
        for end, chance, of in ends:
            k = round(of * (calibrated + 1))
            if k >= 1:
                share = stats.betabinom.ppf(chance, count, k, calibrated + 1 - k) / count
                name = f"{title}, {rate:g} asked, {end} end with the calibration's noise"
                yield Figure(name, float(share))


def of_hdfs(_: bool) -> list[Figure]:
    """Members and their ensemble on the log sessions."""
    sessions = _hdfs.read_sessions()
    words = _hdfs.vocabulary_of(sessions.keys, sessions.training)
    units = _hdfs.units_of(sessions.keys, words)
    training = units.take(np.repeat(np.arange(len(units)), sessions.training))
    kinds = (CountDistanceDetector, MarkovDetector, IsolationForestDetector)
    members = [kind.fit(training, words, SEED) for kind in kinds]
    names = tuple(one.name for one in members)
    scores = np.stack([np.round(one.score(units), 4) for one in members], axis=1)
    later = sessions.normal[_hdfs.TRAINING :]
    validated, tested = later[:VALIDATED], later[-TESTED:]
    calibrated = later[VALIDATED:-TESTED]
    of_validated = scores[validated]
    none = np.zeros(len(validated), dtype=bool)
    together = Combination.fit(names, of_validated, none, np.ones(len(validated)))
    columns = dict(zip(names, scores.T, strict=True)) | {"ensemble": together.apply(scores)}
    degrees = 2 * len(members)
    of_fisher = stats.chi2.sf(2 * np.log(2) * together.surprises(scores).sum(axis=1), df=degrees)
    figures: list[Figure] = []
    for name, own in columns.items():
        p_values = Curve.fit(own[calibrated]).p_values(own[tested])
        rivals = of_fisher[tested] if name == "ensemble" else None
        figures += rates(name, p_values, len(calibrated), rivals)
    without = {f"ensemble without {name}": -of for name, of in _without(together, scores)}
    times = np.bincount(tested, minlength=len(units))
    truth = np.repeat([1, 0], len(units))
    for name, own in (columns | without).items():
        weights = np.concatenate([sessions.abnormal, times])
        twice = np.concatenate([own, own])
        precision = average_precision_score(truth, twice, sample_weight=weights)
        figures.append(Figure(f"{name}, average precision", float(precision)))
    return figures


def _without(together: Combination, scores: Numbers) -> Iterator[tuple[str, Numbers]]:
    return zip(together.members, together.rarities_without(scores)[:, 1:].T, strict=True)


def of_handbook(small: bool) -> list[Figure]:
    """Every detector of the protocol without labels on card payments."""
    blind = _handbook.blind(*_handbook.WITHOUT_LABELS, settings=_handbook.CHOSEN)
    calibrated_from = datetime.combine(blind.test_from, time()) - DELAY / 2
    asked = f"score.from={calibrated_from.isoformat()}"
    protocol = replace(blind, settings=(*blind.settings, asked))
    with _handbook.prepared(small) as (_, lake, mapping):
        _handbook.run(["ingest"], lake, protocol, *mapping)
        _handbook.run(["sessionize", *_handbook.AGAIN], lake, protocol)
        scores = pl.read_delta(f"{lake}/scores")
    payments = pl.read_parquet(_handbook.DATA, columns=["TRANSACTION_ID", "TX_FRAUD"])
    genuine = payments.filter(pl.col("TX_FRAUD") == 0)["TRANSACTION_ID"].cast(pl.String)
    scores = scores.filter(pl.col("unit_id").is_in(genuine.implode()))
    figures: list[Figure] = []
    for (model_id,), own in sorted(scores.group_by("model_id")):
        is_test = own["event_time"].dt.date() >= protocol.test_from
        known, fresh = (own.filter(part)["score"].to_numpy() for part in (~is_test, is_test))
        p_values = Curve.fit(known).p_values(fresh)
        figures += rates(str(model_id).rpartition("-")[0], p_values, len(known))
    return figures


def run(folder: str, small: bool, *settings: str, start: str = "simulate") -> pl.DataFrame:
    """The scores that the jobs give the test sessions of a shop without attacks.

    `calibrated` tells how many units the p-value goes by.
    """
    lake, raw = f"{folder}/lake", f"{folder}/raw"
    every = [
        f"lake.root={lake}",
        f"simulate.output={raw}",
        f"simulate.users={SMALL if small else SHOPPERS}",
        "simulate.attack_share=0",
        f"detectors=[{', '.join(MEMBERS)}, ensemble]",
        f"ensemble.members=[{', '.join(MEMBERS)}]",
        "alerts.detector=ensemble",
        *settings,
    ]
    if start == "train":
        for job in ("train", "score"):
            habitus(job, "demo", every)
    else:
        source = ("--source", "conf/sources/shop.yaml", "--input", raw)
        habitus("run", "demo", every, "--from", start, *source)
    scores = pl.read_delta(f"{lake}/scores")
    return pl.concat([_of_model(scores, lake, *one) for one in models(lake).items()])


def _of_model(scores: pl.DataFrame, lake: str, detector: str, model_id: str) -> pl.DataFrame:
    path = Path(lake, "models", model_id, "calibration.json")
    calibration = Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    units = {name: curve.units for name, curve in calibration.segments.items()}
    of_segment = pl.col("segment").replace_strict(
        units, default=calibration.overall.units, return_dtype=pl.Int64
    )
    return scores.filter(pl.col("model_id") == model_id).with_columns(
        pl.lit(detector).alias("detector"), of_segment.alias("calibrated")
    )


def of_detector(name: str, scores: pl.DataFrame) -> Iterator[Figure]:
    """The rates of one detector's scores; of several segments, by the smallest calibration."""
    calibrated = int(scores["calibrated"].to_numpy().min())
    return rates(name, scores["p_value"].to_numpy(), calibrated)


def of_shop(small: bool) -> list[Figure]:
    """Every detector on a shop without promotions."""
    with tempfile.TemporaryDirectory() as folder:
        scores = run(folder, small, "simulate.promotion_days=[]")
    return [
        figure
        for name in (*MEMBERS, "ensemble")
        for figure in of_detector(name, scores.filter(detector=name))
    ]


def of_promotions(small: bool) -> list[Figure]:
    """Every detector during and outside the second promotion, with and without segments."""
    days = [START + timedelta(days=day + after) for day in PROMOTIONS for after in (0, 1)]
    dates = ", ".join(f"date'{day}'" for day in days)
    promotions = f"simulate.promotion_days={list(PROMOTIONS)}"
    segments = f"segments=[\"if(event_date in ({dates}), 'promotion', 'ordinary')\"]"
    with tempfile.TemporaryDirectory() as folder:
        together = run(folder, small, promotions)
        apart = run(folder, small, promotions, segments, start="train")
    figures: list[Figure] = []
    for name in (*MEMBERS, "ensemble"):
        for when, chosen in (
            ("in the promotion", pl.col("event_date").is_in(days)),
            ("outside", ~pl.col("event_date").is_in(days)),
        ):
            for how, scores in (("", together), (", segments", apart)):
                found = scores.filter((pl.col("detector") == name) & chosen)
                figures += of_detector(f"{name} {when}{how}", found)
    return figures


PARTS = {"hdfs": of_hdfs, "handbook": of_handbook, "shop": of_shop, "promotions": of_promotions}

if __name__ == "__main__":
    publish_parts("calibration", PARTS, sys.argv)
