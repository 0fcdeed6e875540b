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


def _attacked(found: pd.DataFrame, labels: pd.DataFrame) -> pd.Series:
    kinds = session_kinds(labels)
    return pd.Series(found.index.isin(kinds.index), index=found.index)


def test_by_default_no_single_statistic_of_a_session_gives_attackers_away() -> None:
    events, labels = simulated(users=4000)
    found = statistics(events)
    attacked = _attacked(found, labels)
    areas = {name: separation(found[name], attacked) for name in found}
    assert len(areas) > 50
    assert max(areas.values()) < 0.9, sorted(areas.items(), key=lambda pair: -pair[1])[:5]


def test_without_stealth_attacks_are_blatant() -> None:
    events, labels = simulated(stealth=0.0)
    found = statistics(events)
    kinds = session_kinds(labels)
    honest = ~_attacked(found, labels)
    for kind in sorted(set(kinds)):
        this = pd.Series(found.index.isin(kinds[kinds == kind].index), index=found.index)
        chosen = honest | this
        best = max(separation(found[name][chosen], this[chosen]) for name in found)
        assert best > 0.97, kind
    assert separation(found.length, ~honest) > 0.9


def test_more_stealth_hides_more() -> None:
    lengths = []
    for stealth in (0.0, 0.5, 1.0):
        events, labels = simulated(stealth=stealth)
        found = statistics(events)
        lengths.append(separation(found.length, _attacked(found, labels)))
    assert lengths[0] > lengths[1] > lengths[2]


def test_even_full_stealth_leaves_every_kind_detectable_in_principle() -> None:
    events, labels = simulated(stealth=1.0)
    found = statistics(events).join(surroundings(events))
    attacked = _attacked(found, labels)
    kinds = session_kinds(labels)
    sample = found[~attacked].iloc[::3].index.union(found.index[attacked])
    model = ExtraTreesClassifier(150, min_samples_leaf=2, class_weight="balanced", random_state=0)
    chances = cross_val_predict(
        model, found.loc[sample], attacked[sample], cv=3, method="predict_proba"
    )
    score = pd.Series(chances[:, 1], index=sample)
    for kind in sorted(set(kinds)):
        chosen = sample[~attacked[sample] | sample.isin(kinds[kinds == kind].index)]
        assert separation(score[chosen], attacked[chosen]) > 0.85, kind
