"""Attacks put among the steps of ordinary visits."""

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from habitus.domain.simulation.campaigns import KIND_NAMES, Campaign
from habitus.domain.simulation.catalogue import Catalogue, Floats, Ints
from habitus.domain.simulation.chains import dwell
from habitus.domain.simulation.personas import STATE
from habitus.domain.simulation.scripts import SCRIPTS, Scene, Step
from habitus.domain.simulation.visits import Visits


@dataclass(frozen=True)
class Steps:
    """E steps, by visit and in order; -1 where a step of an attack does not say.

    Args:
        visit: [E] index of the visit.
        state: [E] index into `STATES`.
        attack: [E] whether the step is part of an attack.
        item: [E] item.
        amount: [E] cents.
        path: [E] index into `PATHS`.
        coupon: [E] index into `COUPONS`.
        stealth: [E] how far the step imitates a shopper's; 1 for ordinary steps.
        step_s: [E] seconds since the step before, were the attacker careless.
    """

    visit: Ints
    state: Ints
    attack: npt.NDArray[np.bool_]
    item: Ints
    amount: Ints
    path: Ints
    coupon: Ints
    stealth: Floats
    step_s: Floats

    def take(self, indices: Ints) -> "Steps":
        """The steps at these indices."""
        return Steps(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})


def embed(
    generator: np.random.Generator,
    catalogue: Catalogue,
    visits: Visits,
    campaigns: list[Campaign],
    walked: tuple[Ints, Ints],
    stealth: float,
) -> Steps:
    """Merge the attacks into the ordinary steps of the visits that belong to campaigns.

    Args:
        generator: Randomness.
        catalogue: The shop's items.
        visits: The S visits.
        campaigns: The attacks.
        walked: ([E] visit, [E] state) of the ordinary steps.
        stealth: How far attackers imitate shoppers.
    """
    visit, state = walked
    lengths = np.bincount(visit, minlength=len(visits))
    position = np.arange(len(visit)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keeps = np.ones(len(visits), dtype=bool)
    rows: list[tuple[float, ...]] = []
    seen: Counter[int] = Counter()
    attacked = np.flatnonzero(visits.campaign >= 0)
    for v in attacked[np.argsort(visits.start[attacked], kind="stable")].tolist():
        number = int(visits.campaign[v])
        campaign = campaigns[number]
        # Attackers differ a little, except at the ends of the scale.
        jitter = 0.12 * generator.standard_normal() if 0 < stealth < 1 else 0.0
        care = min(1.0, max(0.0, stealth + jitter))
        scene = Scene(generator, catalogue, campaign.items, seen[number], care)
        seen[number] += 1
        steps = SCRIPTS[KIND_NAMES[campaign.kind]](scene)
        keeps[v] = _goes_on(generator, steps, care)
        length = int(lengths[v]) if keeps[v] else 0
        pace = campaign.how.step_s
        rows += [
            (v, key, step.state, step.item, step.amount, step.path, step.coupon, care, pace)
            for key, step in zip(_places(generator, steps, length, care), steps, strict=True)
        ]
    return _merged(visit, state, position, keeps, np.array(rows).reshape(-1, 9))


def _goes_on(generator: np.random.Generator, steps: list[Step], care: float) -> bool:
    """Whether the attack hides in an ordinary visit; without a sign-in there is none."""
    locked_out = steps[-1].state == STATE["login_failed"]
    return not locked_out and bool(generator.random() < 2 * care)


def _places(generator: np.random.Generator, steps: list[Step], length: int, care: float) -> Floats:
    """[steps] where each step goes among `length` ordinary ones: at once, or spread out."""
    opening = sum(step.opening for step in steps)
    rest = len(steps) - opening
    # Never before the first ordinary step, which may be the sign-in.
    if generator.random() < care:
        among = np.sort(generator.uniform(0.0, max(length - 0.5, 0.5), rest))
    else:
        after = generator.integers(min(length, 1), length + 1)
        among = after - 0.9 + 0.8 * np.arange(rest) / max(rest, 1)
    return np.concatenate([np.linspace(-3, -2, opening), among])


def _merged(
    visit: Ints,
    state: Ints,
    position: Ints,
    keeps: npt.NDArray[np.bool_],
    rows: Floats,
) -> Steps:
    kept = keeps[visit]
    ordinary = int(kept.sum())
    none = np.full(ordinary, -1)

    def column(index: int, values: npt.NDArray[np.generic]) -> Ints:
        return np.concatenate([values, rows[:, index].astype(np.int64)])

    merged = Steps(
        visit=column(0, visit[kept]),
        state=column(2, state[kept]),
        attack=np.arange(ordinary + len(rows)) >= ordinary,
        item=column(3, none),
        amount=column(4, none),
        path=column(5, none),
        coupon=column(6, none),
        stealth=np.concatenate([np.ones(ordinary), rows[:, 7]]),
        step_s=np.concatenate([np.ones(ordinary), rows[:, 8]]),
    )
    return merged.take(np.lexsort((np.concatenate([position[kept], rows[:, 1]]), merged.visit)))


def gaps(generator: np.random.Generator, steps: Steps, pace: Floats) -> Ints:
    """[E] milliseconds since the step before in the same visit, 0 for the first.

    Args:
        generator: Randomness.
        steps: The steps.
        pace: [E] factor of the shopper's own pace.
    """
    human = np.empty(len(steps.visit))
    human[1:] = dwell(generator, steps.state, pace)[:-1]
    human[:1] = 0
    robot = steps.step_s * np.exp(0.08 * generator.standard_normal(len(human)))
    seconds = np.maximum(human, 0.05) ** steps.stealth * robot ** (1 - steps.stealth)
    seconds[_first(steps.visit)] = 0
    milliseconds: Ints = np.round(seconds * 1000).astype(np.int64)
    return milliseconds


def _first(groups: Ints) -> npt.NDArray[np.bool_]:
    first = np.ones(len(groups), dtype=bool)
    first[1:] = groups[1:] != groups[:-1]
    return first
