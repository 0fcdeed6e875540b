"""A visit as a semi-Markov chain: what follows what, and after how long."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from habitus.domain.simulation.catalogue import Floats, Ints
from habitus.domain.simulation.personas import DWELL, END, FIRST, NEXT, PERSONAS, STATE, STATES

# A visit is short, usual or long: factors on the chance to leave, and how frequent they are.
LEAVING = (2.4, 1.0, 0.45)
LEAVING_SHARES = (0.4, 0.4, 0.2)
MAX_STEPS = 240
# The longest pause within a visit, well below the half hour that usually ends a session.
MAX_PAUSE_S = 24 * 60.0
MEDIANS: Floats = np.array([DWELL[name][0] for name in STATES])
SPREADS: Floats = np.array([DWELL[name][1] for name in STATES])


def chain_of(persona: Ints, leaving: Ints) -> Ints:
    """Index of the transition matrix of each visit's persona and length class."""
    return persona * len(LEAVING) + leaving


@lru_cache
def transition_matrices() -> Floats:
    """[chains, states, states + 1] cumulative chances of the next state; the last is the end."""
    matrices = np.zeros((len(PERSONAS), len(LEAVING), END, END + 1))
    for p, persona in enumerate(PERSONAS.values()):
        for state, following in NEXT.items():
            for name, weight in following.items():
                target = END if name == "end" else STATE[name]
                matrices[p, :, STATE[state], target] = weight * persona.bends.get(name, 1.0)
    matrices[..., END] *= np.array(LEAVING)[None, :, None]
    return _cumulative(matrices).reshape(-1, END, END + 1)


@lru_cache
def first_chances() -> Floats:
    """[personas, states + 1] cumulative chances of a visit's first state."""
    chances = np.zeros((len(PERSONAS), END + 1))
    for p, persona in enumerate(PERSONAS.values()):
        for name, weight in FIRST.items():
            chances[p, STATE[name]] = weight * persona.bends.get(name, 1.0)
    return _cumulative(chances)


def walk(
    generator: np.random.Generator, persona: Ints, chain: Ints, first: Ints
) -> tuple[Ints, Ints]:
    """Let every visit take its course.

    Args:
        generator: Randomness.
        persona: [S] persona of each visit.
        chain: [S] transition matrix of each visit.
        first: [S] first state, or -1 to draw it.

    Returns:
        ([E] visit, [E] state) of every step, by visit and in order.
    """
    drawn = _draw(generator, first_chances()[persona])
    states = np.where(first >= 0, first, drawn)
    visits = np.arange(len(persona))
    matrices = transition_matrices()
    steps = [(visits, states)]
    for _ in range(MAX_STEPS - 1):
        states = _draw(generator, matrices[chain[visits], states])
        staying = states != END
        visits, states = visits[staying], states[staying]
        if not len(visits):
            break
        steps.append((visits, states))
    visit = np.concatenate([step[0] for step in steps])
    state = np.concatenate([step[1] for step in steps])
    order = np.argsort(visit, kind="stable")
    return visit[order], state[order]


def dwell(generator: np.random.Generator, state: Ints, pace: Floats) -> Floats:
    """[E] seconds spent in each state: log-normal, at the shopper's own pace, now and then long."""
    medians = MEDIANS[state] * pace
    seconds = medians * np.exp(SPREADS[state] * generator.standard_normal(len(state)))
    distracted = generator.random(len(state)) < 0.012
    seconds = np.where(distracted, seconds * 12, seconds)
    return np.where(
        seconds > MAX_PAUSE_S, MAX_PAUSE_S * generator.uniform(0.2, 1.0, len(state)), seconds
    )


def _cumulative(weights: Floats) -> Floats:
    sums = np.cumsum(weights, axis=-1)
    chances: Floats = sums / sums[..., -1:]
    return chances


def _draw(generator: np.random.Generator, cumulative: Floats) -> npt.NDArray[np.int64]:
    points = generator.random((len(cumulative), 1))
    drawn: npt.NDArray[np.int64] = (cumulative <= points).sum(axis=1)
    return drawn
