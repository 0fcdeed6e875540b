"""Whether the reasons of flags are what made them flags: `make bench-reasons`.

Shops of known attacks are simulated and their sessions scored without labels, as the jobs do
(conf/demo.yaml, stealth 0.5). Test sessions that score higher than 99 % of their shop's normal ones
are flagged; asked are the reasons of the true flags of all shops, those with an event of an attack.

- Pointing: the share of true flags whose first reason is at an event of the attack, and of those
  where one of the first three is, with Wilson's intervals. A reason that is about the session as a
  whole points at none.
- Removing: by how much the score falls, as a share of its distance from the median normal session,
  when the events that are named first are taken out, the first, the first two, and so on; beside
  it the same for as many events drawn from the whole session (the rival).
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from _attacks import BUDGET, Shop, simulated
from _attributions import falls as falls_by_features
from _attributions import figures as fallen
from _cli import models
from _figures import Figure, at_least, publish
from numpy.typing import NDArray
from scipy.stats import binomtest

from habitus.domain.detectors.base import Detector, Reason
from habitus.domain.units import Units
from habitus.edges.models import load_model

SEEDS = (303, 304, 305)
DETECTORS = ("conduct", "behaviour", "markov")
OF_FEATURES = ("isolation_forest", "gradient_boosting")
FIRST, FIRST_THREE = 0.8, 0.95
FALLS = 2.0  # how many times as much as with random events the score is to fall
MOST = 5  # events taken out
DRAWS = 20
NAMED = 50  # reasons asked for, to name MOST different events

Numbers = NDArray[np.float64]
Falls = tuple[Numbers, Numbers]  # [2, MOST] sums with what is named and with others; [MOST] units


class Told(NamedTuple):
    """What N true flags of a detector tell.

    Args:
        flags: N.
        attack: [N] the share of a flag's events that are of the attack; [0] of feature detectors.
        first: [N] whether the first reason is at one; likewise.
        three: [N] whether one of three is; likewise.
        falls: By how much scores fall.
    """

    flags: int
    attack: Numbers
    first: NDArray[np.bool_]
    three: NDArray[np.bool_]
    falls: Falls


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


def pointing(
    reasons: list[list[Reason]], attacks: list[NDArray[np.bool_]], first: int
) -> NDArray[np.bool_]:
    """[N] whether one of the first reasons of a unit is at an event of the attack."""
    hits = [
        any(reason.event_index is not None and of[reason.event_index] for reason in own[:first])
        for own, of in zip(reasons, attacks, strict=True)
    ]
    return np.array(hits, dtype=bool)


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


def falls(detector: Detector, units: Units, reasons: list[list[Reason]], median: float) -> Falls:
    """Falls of the score without the first, the first two, ... events; and without random ones.

    Only units with so many events that are named, and one more, count for each number.
    """
    random = np.random.default_rng(len(units))
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
    return sums, counts


def told(shop: Shop, lake: str, detector: Detector) -> Told:
    """What the reasons of a detector's true flags in a shop tell."""
    test = shop.tested()
    scores = detector.score(test.units)
    attack = (test.sessions["kinds"].list.len() > 0).to_numpy()
    median = float(np.median(scores[~attack]))
    chosen = np.flatnonzero(attack & (scores > np.quantile(scores[~attack], 1 - BUDGET)))
    units = test.units.take(chosen)
    if detector.name in OF_FEATURES:
        found = falls_by_features(detector, units, shop.vocabulary, median, MOST, DRAWS)
        nothing = np.zeros(0, dtype=bool)
        return Told(len(chosen), np.zeros(0), nothing, nothing, found)
    reasons = detector.explain(units, NAMED)
    attacks = injected(lake, test.sessions["unit_id"].gather(chosen).to_list())
    return Told(
        flags=len(chosen),
        attack=np.array([own.mean() for own in attacks]),
        first=pointing(reasons, attacks, 1),
        three=pointing(reasons, attacks, 3),
        falls=falls(detector, units, reasons, median),
    )


def together(parts: Sequence[Told]) -> Told:
    """The flags of all shops."""
    return Told(
        flags=sum(one.flags for one in parts),
        attack=np.concatenate([one.attack for one in parts]),
        first=np.concatenate([one.first for one in parts]),
        three=np.concatenate([one.three for one in parts]),
        falls=(
            np.sum([one.falls[0] for one in parts], axis=0),
            np.sum([one.falls[1] for one in parts], axis=0),
        ),
    )


def shares(
    title: str, hits: NDArray[np.bool_], goal: float, rival: float | None = None
) -> list[Figure]:
    """How often a reason points at the attack, and between what bounds that is known."""
    bounds = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return [
        at_least(title, float(hits.mean()), goal, rival),
        Figure(f"{title}, low end of 95 %", float(bounds.low)),
        Figure(f"{title}, high end of 95 %", float(bounds.high)),
    ]


def of_detector(name: str, flags: Told) -> list[Figure]:
    """How faithful a detector's reasons are."""
    found = [Figure(f"{name}, true flags", flags.flags)]
    if len(flags.attack):
        share = float(flags.attack.mean())
        found += [
            Figure(f"{name}, share of their events that are of the attack", share),
            *shares(f"{name}, first reason is at one", flags.first, FIRST, share),
            *shares(f"{name}, one of three is", flags.three, FIRST_THREE),
        ]
    sums, counts = flags.falls
    title = f"{name} (features)" if name in OF_FEATURES else name
    named, others = sums / counts.clip(min=1)
    return found + fallen(title, (named, others), FALLS)


def main(arguments: list[str]) -> None:
    """Print and write the figures."""
    small = "--small" in arguments
    flags: dict[str, list[Told]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS[: 1 if small else None]:
            lake = simulated(seed, folder, small, (*DETECTORS, *OF_FEATURES))
            shop = Shop.read(lake)
            for model_id in models(lake).values():
                detector = load_model(lake, model_id).detector
                flags[detector.name].append(told(shop, lake, detector))
    publish(
        "reasons",
        [figure for name, own in flags.items() for figure in of_detector(name, together(own))],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
