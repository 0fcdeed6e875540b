"""What reviews of flags are worth, week by week: `make bench-feedback`.

Twelve weeks of simulated shops (conf/demo.yaml, stealth 0.5). In the first four nobody looks at
anything: `conduct` learns from them without labels. In each of the eight that follow the
sessions that score highest are flagged, BUDGET a day, and reviewed when the day is over; what a
review finds is what the simulator knows, and it is known DELAY later. Nothing is known of sessions
that were not flagged, or not yet: to training they are normal.

With feedback, before each week gradient boosting and logistic regression are fitted on all sessions
but those of the last week, on which an ensemble of them and `conduct` is weighed, as
`habitus train` would by then; with too few reviews of either kind `conduct` flags alone.
Without feedback (the rival) it always does. Precision is the share of a week's flags that are of
attacks, the mean of SHOPS. What was found of a shop, which takes half an hour, is kept, and a run
that was interrupted goes on with the next.
"""

import json
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from _attacks import Shop, simulated
from _cli import models
from _figures import Figure, publish
from _kept import kept
from numpy.typing import NDArray

from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.ensemble import EnsembleDetector
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.linear import LogisticRegressionDetector
from habitus.domain.detectors.trees import GradientBoostingDetector
from habitus.edges.models import load_model
from habitus.errors import TrainingError

SEED = 304  # of what is fitted
SHOPS = (304, 306, 307)
BUDGET = 10  # flags a day
SMALL_BUDGET = 3
WEEK = timedelta(days=7)
DAY = timedelta(days=1)
DELAY = DAY  # from a review until it is known
WEEKS = 8
DAYS = 84
# The first four weeks train and calibrate `conduct`; all later ones are tested.
SETTINGS = (f"simulate.days={DAYS}", "split.train_until=0.25", "split.validation_until=0.33333")

Bools = NDArray[np.bool_]


def flagged(scores: NDArray[np.float64], days: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """The sessions with the highest scores of each day."""
    order = np.lexsort((-scores, days))
    first = np.searchsorted(days[order], days[order], side="left")
    chosen: NDArray[np.int64] = order[np.arange(len(order)) - first < budget]
    return chosen


def learned(shop: Shop, ended: Bools, last: Bools, confirmed: Bools, base: Detector) -> Detector:
    """What finds best by the reviews so far.

    Args:
        shop: All its sessions.
        ended: Which of them have ended before the last week.
        last: Which of them are of the last week.
        confirmed: Which are known by now to be of attacks, by reviews.
        base: What flags without reviews.
    """

    def known(which: Bools) -> Labelled:
        chosen = np.flatnonzero(which)
        users = shop.sessions["user"].rank("dense").cast(pl.Int64).to_numpy()[chosen]
        weights = np.ones(len(chosen))
        return Labelled(shop.units.take(chosen), confirmed[chosen], weights, users)

    kinds = (GradientBoostingDetector, LogisticRegressionDetector)
    try:
        members: list[Detector] = [kind.fit(known(ended), shop.vocabulary, SEED) for kind in kinds]
        members.append(base)
        every = {one.name: one for one in members}
        return EnsembleDetector.fit(every, known(last), shop.vocabulary)
    except TrainingError:
        return base


def precisions(shop: Shop, base: Detector, budget: int, feedback: bool) -> list[float]:
    """The share of each week's flags that are of attacks."""
    ended = shop.sessions["ended_at"].dt.replace_time_zone("UTC")
    attack = (shop.sessions["kinds"].list.len() > 0).to_numpy()
    days = ended.dt.date().cast(pl.Int32).to_numpy().astype(np.int64)
    reviewed_on = ended.dt.truncate("1d") + DAY
    looked_at, found = np.zeros(len(attack), dtype=bool), []
    end: datetime = ended.max()  # type: ignore[assignment]
    for number in range(WEEKS):
        start = end - (WEEKS - number) * WEEK
        before = (ended < start - WEEK).to_numpy()
        last = ended.is_between(start - WEEK, start, closed="left").to_numpy()
        chosen = np.flatnonzero(ended.is_between(start, start + WEEK, closed="left").to_numpy())
        confirmed = looked_at & attack & (reviewed_on + DELAY <= start).to_numpy()
        detector = learned(shop, before, last, confirmed, base) if feedback else base
        scores = detector.score(shop.units.take(chosen))
        reviewed = chosen[flagged(scores, days[chosen], budget)]
        looked_at[reviewed] = True
        found.append(float(attack[reviewed].mean()))
    return found


def both_ways(seed: int, small: bool, budget: int) -> list[list[float]]:
    """The precisions of the weeks of a shop, with feedback and without, once for each budget."""
    target = Path(kept("feedback")) / f"{seed}-{budget}.json"
    if target.exists():
        found: list[list[float]] = json.loads(target.read_text())
        return found
    with tempfile.TemporaryDirectory() as folder:
        lake = simulated(seed, folder, small, ("conduct",), SETTINGS)
        shop = Shop.read(lake)
        base = load_model(lake, models(lake)["conduct"]).detector
        found = [precisions(shop, base, budget, feedback) for feedback in (True, False)]
    print(seed, found, file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found))
    return found


def main(arguments: list[str]) -> None:
    """Print and write the figures."""
    small = "--small" in arguments
    budget = SMALL_BUDGET if small else BUDGET
    seeds = SHOPS[:1] if small else SHOPS
    # [shops, 2, weeks] with feedback and without.
    found = np.array([both_ways(seed, small, budget) for seed in seeds])
    ours, rival = found.mean(axis=0)
    title = f"precision of {budget} flags a day, "
    figures = [Figure(f"{title}week {week + 1}", ours[week], rival[week]) for week in range(WEEKS)]
    half = WEEKS // 2
    late = found[:, :, half:].mean(axis=2)
    for seed, (one, other) in zip(seeds, late, strict=True):
        name = f"{title}weeks {half + 1} to {WEEKS}, shop {seed}"
        figures.append(Figure(name, one, other, None, bool(one > other)))
    figures.append(Figure(f"{title}weeks {half + 1} to {WEEKS}", *late.mean(axis=0)))
    publish("feedback", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
