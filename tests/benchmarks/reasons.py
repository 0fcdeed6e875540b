"""Whether the reasons of flags are what made them flags: `make bench-reasons`.

A shop of known attacks is simulated and its sessions scored without labels, as the jobs do
(conf/demo.yaml, stealth 0.5). Test sessions that score higher than 99 % of the normal ones are
flagged; asked are the reasons of the true flags, those with an event of an attack.

- Pointing: the share of true flags whose first reason is at an event of the attack, and of those
  where one of the first three is. A reason that is about the session as a whole points at none.
- Removing: by how much the score falls, as a share of its distance from the median normal session,
  when the events that are named first are taken out, the first, the first two, and so on; beside
  it the same for as many events drawn from the whole session (the rival).
"""

import sys
import tempfile

import numpy as np
import polars as pl
from _attacks import BUDGET, Shop, simulated
from _attributions import falls as falls_by_features
from _attributions import figures as fallen
from _banksim import models
from _figures import Figure, at_least, publish
from numpy.typing import NDArray

from habitus.domain.detectors.base import Detector, Reason
from habitus.domain.units import Units
from habitus.edges.models import load_model

SEED = 303
DETECTORS = ("conduct", "behaviour", "markov")
OF_FEATURES = ("isolation_forest", "gradient_boosting")
FIRST, FIRST_THREE = 0.8, 0.95
FALLS = 2.0  # how many times as much as with random events the score is to fall
MOST = 5  # events taken out
DRAWS = 20
NAMED = 50  # reasons asked for, to name MOST different events

Numbers = NDArray[np.float64]


def injected(lake: str, unit_ids: list[str]) -> list[NDArray[np.bool_]]:
    """Of each session, which of its events are part of an attack."""
    events = pl.read_delta(f"{lake}/sequences").select("unit_id", pl.col("event_ids").alias("id"))
    labels = pl.read_delta(f"{lake}/labels").filter(pl.col("unit_kind") == "event")
    marked = (
        events.filter(pl.col("unit_id").is_in(unit_ids))
        .explode("id")
        .with_columns(pl.col("id").is_in(labels["unit_id"].implode()).alias("attack"))
        .group_by("unit_id", maintain_order=True)
        .agg("attack")
    )
    by_unit = dict(marked.iter_rows())
    return [np.array(by_unit[unit_id]) for unit_id in unit_ids]


def pointing(reasons: list[list[Reason]], attacks: list[NDArray[np.bool_]], first: int) -> float:
    """The share of units of whose first reasons one is at an event of the attack."""
    hits = [
        any(reason.event_index is not None and of[reason.event_index] for reason in own[:first])
        for own, of in zip(reasons, attacks, strict=True)
    ]
    return float(np.mean(hits))


def named(reasons: list[Reason], length: int) -> NDArray[np.int64]:
    """The different events of a unit in the order in which they are named."""
    events = [one.event_index for one in reasons if one.event_index is not None]
    order = list(dict.fromkeys(events))
    return np.array(order[: min(MOST, length - 1)], dtype=np.int64)


def without(units: Units, unit: int, events: list[NDArray[np.int64]]) -> Units:
    """A unit once for each set of events, without these."""
    many = units.take(np.full(len(events), unit))
    keep = np.ones(len(many.amounts), dtype=bool)
    for number, gone in enumerate(events):
        keep[many.offsets[number] + gone] = False
    lengths = np.bincount(many.unit_of_event[keep], minlength=len(events))
    return Units(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        tokens={name: values[keep] for name, values in many.tokens.items()},
        amounts=many.amounts[keep],
        gaps=many.gaps[keep],
        context=many.context,
        scored_from=many.scored_from,
        closed=many.closed,
    )


def falls(
    detector: Detector, units: Units, reasons: list[list[Reason]], median: float
) -> tuple[Numbers, Numbers]:
    """[MOST] mean falls of the score without the first, the first two, ... events; and random ones.

    Only units with so many events that are named, and one more, count for each number.
    """
    random = np.random.default_rng(SEED)
    whole = detector.score(units)
    sums, counts = np.zeros((2, MOST)), np.zeros(MOST)
    for unit, own in enumerate(reasons):
        length = int(units.lengths[unit])
        order = named(own, length)
        if not len(order) or whole[unit] <= median:
            continue
        drawn = [random.permutation(length)[: len(order)] for _ in range(DRAWS)]
        sets = [one[: size + 1] for one in (order, *drawn) for size in range(len(order))]
        scores = detector.score(without(units, unit, sets)).reshape(1 + DRAWS, len(order))
        fall = (whole[unit] - scores) / (whole[unit] - median)
        sums[:, : len(order)] += [fall[0], fall[1:].mean(axis=0)]
        counts[: len(order)] += 1
    first, others = sums / counts.clip(min=1)
    return first, others


def of_detector(shop: Shop, lake: str, model_id: str) -> list[Figure]:
    """How faithful a detector's reasons are."""
    detector = load_model(lake, model_id).detector
    test = shop.tested()
    scores = detector.score(test.units)
    attack = (test.sessions["kinds"].list.len() > 0).to_numpy()
    median = float(np.median(scores[~attack]))
    chosen = np.flatnonzero(attack & (scores > np.quantile(scores[~attack], 1 - BUDGET)))
    units, name = test.units.take(chosen), detector.name
    figures = [Figure(f"{name}, true flags", len(chosen))]
    if name in OF_FEATURES:
        found = falls_by_features(detector, units, shop.vocabulary, median, MOST, DRAWS)
        return figures + fallen(f"{name} (features)", found, FALLS)
    reasons = detector.explain(units, NAMED)
    attacks = injected(lake, test.sessions["unit_id"].gather(chosen).to_list())
    share = float(np.mean([own.mean() for own in attacks]))
    figures += [
        Figure(f"{name}, share of their events that are of the attack", share),
        at_least(f"{name}, first reason is at one", pointing(reasons, attacks, 1), FIRST, share),
        at_least(f"{name}, one of three is", pointing(reasons, attacks, 3), FIRST_THREE),
    ]
    return figures + fallen(name, falls(detector, units, reasons, median), FALLS)


def main(arguments: list[str]) -> None:
    """Print and write the figures."""
    with tempfile.TemporaryDirectory() as folder:
        lake = simulated(SEED, folder, "--small" in arguments, (*DETECTORS, *OF_FEATURES))
        shop = Shop.read(lake)
        figures = [
            figure
            for model_id in models(lake).values()
            for figure in of_detector(shop, lake, model_id)
        ]
    publish("reasons", figures)


if __name__ == "__main__":
    main(sys.argv[1:])
