from functools import lru_cache

import pandas as pd
import pytest
from domain.simulation.samples import (
    separation,
    session_kinds,
    simulated,
    statistics,
    surroundings,
)
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import cross_val_predict

pytestmark = pytest.mark.plain


@lru_cache
def _measured(stealth: float) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Statistics, whether it is an attack, and kind of attack, by session."""
    events, labels = simulated(stealth=stealth)
    found = statistics(events)
    kinds = session_kinds(labels)
    return found, pd.Series(found.index.isin(kinds.index), index=found.index), kinds


def test_by_default_no_single_statistic_of_a_session_gives_attackers_away() -> None:
    found, attacked, _ = _measured(0.5)
    areas = {name: separation(found[name], attacked) for name in found}
    assert len(areas) > 50
    assert max(areas.values()) < 0.9, sorted(areas.items(), key=lambda pair: -pair[1])[:5]


def test_without_stealth_attacks_are_blatant() -> None:
    found, attacked, kinds = _measured(0.0)
    for kind in sorted(set(kinds)):
        this = pd.Series(found.index.isin(kinds[kinds == kind].index), index=found.index)
        chosen = ~attacked | this
        best = max(separation(found[name][chosen], this[chosen]) for name in found)
        assert best > 0.97, kind
    assert separation(found.length, attacked) > 0.9


def test_more_stealth_hides_more() -> None:
    lengths = []
    for stealth in (0.0, 0.5, 1.0):
        found, attacked, _ = _measured(stealth)
        lengths.append(separation(found.length, attacked))
    assert lengths[0] > lengths[1] > lengths[2]


def test_even_full_stealth_leaves_every_kind_detectable_in_principle() -> None:
    found, attacked, kinds = _measured(1.0)
    found = found.join(surroundings(simulated(stealth=1.0)[0]))
    sample = found[~attacked].iloc[::4].index.union(found.index[attacked])
    model = ExtraTreesClassifier(100, min_samples_leaf=2, class_weight="balanced", random_state=0)
    chances = cross_val_predict(
        model, found.loc[sample], attacked[sample], cv=3, method="predict_proba"
    )
    score = pd.Series(chances[:, 1], index=sample)
    for kind in sorted(set(kinds)):
        chosen = sample[~attacked[sample] | sample.isin(kinds[kinds == kind].index)]
        assert separation(score[chosen], attacked[chosen]) > 0.85, kind
