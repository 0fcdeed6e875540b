import numpy as np
import pytest

from habitus.domain.simulation.chains import (
    MAX_PAUSE_S,
    MAX_STEPS,
    chain_of,
    dwell,
    first_chances,
    transition_matrices,
    walk,
)
from habitus.domain.simulation.personas import END, FIRST, NEXT, PERSONAS, STATE, STATES

pytestmark = pytest.mark.plain


def test_every_state_is_known_and_leads_on() -> None:
    assert set(NEXT) == set(STATES)
    named = {name for following in NEXT.values() for name in following} | set(FIRST)
    assert named <= {*STATES, "end"}
    assert sum(persona.share for persona in PERSONAS.values()) == pytest.approx(1)


def test_every_row_of_chances_ends_at_one() -> None:
    assert np.allclose(transition_matrices()[..., -1], 1)
    assert (np.diff(transition_matrices(), axis=-1) >= 0).all()
    assert np.allclose(first_chances()[:, -1], 1)


def test_visits_follow_the_transition_chances() -> None:
    count = 40_000
    persona = np.full(count, list(PERSONAS).index("browser"))
    chain = chain_of(persona, np.ones(count, dtype=np.int64))
    visit, state = walk(np.random.default_rng(1), persona, chain, np.full(count, STATE["search"]))
    last = np.append(visit[1:] != visit[:-1], True)
    following = np.where(last, END, np.append(state[1:], END))
    counts = np.bincount(following[state == STATE["search"]], minlength=END + 1)
    expected = np.diff(transition_matrices()[chain[0], STATE["search"]], prepend=0)
    assert np.abs(counts / counts.sum() - expected).max() < 0.01


def test_a_visit_begins_with_the_state_it_is_given() -> None:
    persona = np.zeros(50, dtype=np.int64)
    visit, state = walk(np.random.default_rng(1), persona, persona, np.full(50, STATE["register"]))
    first = np.append(True, visit[1:] != visit[:-1])
    assert (state[first] == STATE["register"]).all()
    assert (np.unique(visit) == np.arange(50)).all()
    assert np.bincount(visit).max() <= MAX_STEPS


def test_pauses_are_log_normal_around_their_median_and_never_end_a_session() -> None:
    state = np.full(20_000, STATE["checkout"])
    seconds = dwell(np.random.default_rng(1), state, np.ones(len(state)))
    assert np.median(seconds) == pytest.approx(32, rel=0.05)
    assert seconds.min() > 0
    assert seconds.max() <= MAX_PAUSE_S < 30 * 60
