"""What each member adds to an ensemble is what is lost without it."""

import numpy as np
import pytest
from histograms import histogram

from habitus.config import EvaluateSettings
from habitus.domain.ablation import ADDED, NOTHING, added, in_words, name_without
from habitus.domain.evaluation import ALL, NORMAL

pytestmark = pytest.mark.plain

SETTINGS = EvaluateSettings(blocks=2, blocks_of="time", refit=False, bootstrap=200, confidence=0.95)
MEMBERS = ("markov", "ecod")


def test_a_member_adds_the_average_precision_that_is_lost_without_it() -> None:
    less = {"markov": [2, 4], "ecod": [1, 1]}
    places = {
        name_without("ensemble-1", name): of for name, of in {NOTHING: [1, 2], **less}.items()
    }
    found = added(histogram(places), "ensemble-1", MEMBERS, SETTINGS, 7)

    # With one anomaly, average precision is one over its place.
    by_name = {one.detector: one.figure for one in found}
    assert by_name["ensemble without markov"].value == np.mean([1 - 1 / 2, 1 / 2 - 1 / 4])
    assert by_name["ensemble without ecod"].value == np.mean([0, 1 / 2 - 1])
    assert {(one.measure, one.kind, one.units, one.anomalous) for one in found} == {
        (ADDED, ALL, 20, 2)
    }
    assert in_words(found) == (
        "average precision that each member of the ensemble adds: markov +0.375 (+0.250 to "
        "+0.500), ecod -0.250 (-0.500 to +0.000)"
    )


def test_without_anomalies_nothing_is_known_to_be_added() -> None:
    rows = histogram({name_without("ensemble-1", NOTHING): [1, 2]})
    normal = rows[rows["kind"] == NORMAL]
    assert added(normal, "ensemble-1", MEMBERS, SETTINGS, 7) == []
