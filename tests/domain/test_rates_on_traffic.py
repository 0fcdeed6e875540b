"""The rate of false positives asked for is the one got on the later sessions of a shop."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from domain.simulation.samples import simulated
from numpy.typing import NDArray
from scipy import stats

from habitus.domain.calibration import Curve
from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.conduct_forest import ConductDetector
from habitus.domain.detectors.isolation_forest import IsolationForestDetector
from habitus.domain.detectors.markov import MarkovDetector
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, FieldVocabulary, Split, Vocabulary

pytestmark = pytest.mark.plain

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
RATES = np.array([1e-1, 1e-2, 1e-3, 1e-4])
LEAST = 3  # units expected at a rate that is looked at
GAPS = (1.0, 5.0, 15.0, 60.0, 300.0)
DETECTORS = (ConductDetector, IsolationForestDetector, MarkovDetector)
NEVER = datetime(2026, 1, 1, tzinfo=UTC)


def ordered_sessions() -> tuple[Units, Vocabulary]:
    """The sessions of a shop without attacks, in the order in which they began."""
    events, _ = simulated(11, users=1500, attack_share=0.0, mess=0.0, promotion_days=())
    begins = events.groupby("session").ts.transform("min")
    events = events.assign(begins=begins).sort_values(["begins", "session", "ts"], kind="stable")
    number, _ = pd.factorize(events.session)
    action, actions = pd.factorize(events.action)
    gaps = events.groupby("session", sort=False).ts.diff().dt.total_seconds().fillna(0).to_numpy()
    counts = np.bincount(number)
    fields = (
        FieldVocabulary(name="action", kind="values", values=tuple(actions)),
        FieldVocabulary(name="gap", kind="bins", bounds=GAPS, unit="s"),
    )
    split = Split(train_from=NEVER, train_until=NEVER, calibrate_from=NEVER, validation_until=NEVER)
    units = Units(
        offsets=np.concatenate([[0], counts.cumsum()]),
        tokens={
            "action": (action + FIRST_VALUE).astype(np.int32),
            "gap": (np.searchsorted(GAPS, gaps) + FIRST_VALUE).astype(np.int32),
        },
        amounts=events.amount.fillna(0).to_numpy(np.float32),
        gaps=gaps.astype(np.float32),
        context=np.zeros((len(counts), 0), dtype=np.float32),
        scored_from=np.zeros(len(counts), dtype=np.int32),
        closed=np.ones(len(counts), dtype=bool),
    )
    return units, Vocabulary(unit_kind="session", fields=fields, context=(), split=split)


@pytest.fixture(scope="module")
def traffic() -> tuple[Units, Vocabulary]:
    return ordered_sessions()


def judged(
    kind: type[Detector], units: Units, order: Ints, words: Vocabulary
) -> tuple[Curve, Reals]:
    """Fitted on the first third, calibrated on the second: the curve, and the last one's scores."""
    training, calibration, last = (units.take(part) for part in np.array_split(order, 3))
    detector = kind.fit(training, words, 3)
    return Curve.fit(detector.score(calibration)), detector.score(last)


@pytest.mark.parametrize("kind", DETECTORS)
def test_later_sessions_get_the_rates_asked_for(
    kind: type[Detector], traffic: tuple[Units, Vocabulary]
) -> None:
    units, words = traffic
    curve, scores = judged(kind, units, np.arange(len(units)), words)

    found = curve.p_values(scores)

    # The calibration sessions are a sample too: what a rate gets is beta-binomial (Vovk 2012).
    ranks = curve.units + 1
    asked = RATES[len(scores) * RATES >= LEAST]
    assert len(asked) == 3
    for rate in asked:
        # No p-value lies between those of two scores that many sessions have.
        reached = round(found[found <= rate].max(initial=0) * ranks)
        low = stats.betabinom.ppf(0.005, len(scores), reached, ranks - reached)
        high = stats.betabinom.ppf(0.995, len(scores), round(rate * ranks), ranks * (1 - rate))
        assert low <= (found <= rate).sum() <= high


@pytest.mark.parametrize("kind", DETECTORS)
def test_sessions_like_those_calibrated_on_get_uniform_p_values(
    kind: type[Detector], traffic: tuple[Units, Vocabulary]
) -> None:
    units, words = traffic
    random = np.random.default_rng(5)
    curve, scores = judged(kind, units, random.permutation(len(units)), words)

    found = curve.p_values(scores)

    # Drawn anywhere between its own p-value and the next, what ties with others is uniform too.
    above = curve.p_values(np.nextafter(scores, np.inf))
    drawn = above + random.random(len(scores)) * (found - above)
    distance = stats.kstest(drawn, "uniform").statistic
    samples = len(scores) * curve.units / (len(scores) + curve.units)
    assert stats.kstwobign.sf(distance * np.sqrt(samples)) > 0.01
