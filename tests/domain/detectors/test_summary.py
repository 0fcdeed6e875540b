"""The numeric summary of a unit, by hand and by its laws."""

from dataclasses import replace

import numpy as np
import pytest
from builders import oddities, units, vocabulary

from habitus.domain.detectors.summary import Feature, summarise
from habitus.domain.units import Units
from habitus.domain.vocabulary import FIRST_VALUE, MISSING, RARE
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.plain

KINDS: list[UnitKind] = ["session", "event"]


def one(kind: UnitKind, **tokens: list[int]) -> Units:
    """A unit of three events: 0, 4 and 8 seconds apart, amounts 0, 10 and 30."""
    filled = {name: [MISSING] * 3 for name in vocabulary(kind).field_names} | tokens
    return Units(
        offsets=np.array([0, 3]),
        tokens={name: np.array(values, dtype=np.int32) for name, values in filled.items()},
        amounts=np.array([0, 10, 30], dtype=np.float32),
        gaps=np.array([0, 4, 8], dtype=np.float32),
        context=np.array([[5, np.nan]], dtype=np.float32),
        scored_from=np.array([0 if kind == "session" else 2], dtype=np.int32),
        closed=np.array([kind == "session"]),
    )


def in_words(source: Units, kind: UnitKind) -> dict[str, str]:
    matrix, features = summarise(source, vocabulary(kind))
    return {
        feature.name: "unknown" if np.isnan(value) else feature.in_words(float(value))
        for feature, value in zip(features, matrix[0], strict=True)
    }


def test_a_session_by_hand() -> None:
    view, pay, yes = FIRST_VALUE, FIRST_VALUE + 4, FIRST_VALUE + 1
    session = one("session", action=[view, view, pay], new_device=[yes, FIRST_VALUE, FIRST_VALUE])
    found = in_words(session, "session")
    expected = {
        "number of events": "3",
        "duration": "12 s",
        "mean gap": "6 s",
        "spread of gaps": "2 s",
        "sum of amounts": "40",
        "mean amount": "20",
        "largest amount": "30",
        "different values of action": "2",
        "number of view": "2",
        "share of pay": "33%",
        "share of new_device yes": "33%",
        "share of outcome failure": "0%",
        "user_count_1_day": "5",
        "user_amount_mean_7_days": "unknown",
        "features without a value": "1",
    }
    assert {name: found[name] for name in expected} == expected


def test_rare_values_count_as_so_many_different_ones() -> None:
    rare = one("session", category=[RARE, RARE, FIRST_VALUE], action=[RARE, RARE, RARE])
    found = in_words(rare, "session")
    assert found["different values of action"] == "3"
    assert found["share of category a rare or new value"] == "67%"
    event = one("event", action=[RARE, FIRST_VALUE, RARE])
    assert in_words(event, "event")["share of earlier events with the same action"] == "0%"


def test_who_makes_no_pause_has_no_mean_gap() -> None:
    lone = one("session").take(np.array([0]))
    lone = replace(lone, scored_from=np.array([2], dtype=np.int32))
    found = in_words(lone, "session")
    assert found["number of events"] == "1"
    assert found["mean gap"] == found["spread of gaps"] == "unknown"


def test_shares_among_the_features_are_told_as_shares_and_sums_of_small_coins_as_they_are() -> None:
    words = vocabulary("event").model_copy(
        update={"context": ("counterparty_risk_30d", "user_amount_max_7d")}
    )
    coins = words.field("amount").model_copy(update={"bounds": (2e-4, 5e-4)})
    fields = (*(field for field in words.fields if field.name != "amount"), coins)
    words = words.model_copy(update={"fields": fields})
    event = replace(one("event"), context=np.array([[0.08, 3e-4]], dtype=np.float32))

    matrix, features = summarise(event, words)
    told = {
        feature.name: (round(float(value), 4), feature.in_words(float(value)))
        for feature, value in zip(features, matrix[0], strict=True)
    }
    assert told["counterparty_risk_30d"] == (0.08, "8%")
    assert told["user_amount_max_7d"] == (round(float(np.log1p(3)), 4), "0.0003")


def test_an_event_by_hand() -> None:
    pay = FIRST_VALUE + 4
    found = in_words(one("event", action=[FIRST_VALUE, pay, pay]), "event")
    expected = {
        "earlier events known": "2",
        "amount": "30",
        "amount as a multiple of the usual one": "3",
        "gap": "8 s",
        "rank of action": "5",
        "share of earlier events with the same action": "50%",
        "user_count_1_day": "5",
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("size", [1e-4, 1, 1e4])
def test_a_currency_changes_no_column_by_more_than_its_unit(size: float) -> None:
    words = vocabulary("event")
    bounds = tuple(size * bound for bound in words.field("amount").bounds)
    fields = tuple(
        field.model_copy(update={"bounds": bounds}) if field.name == "amount" else field
        for field in words.fields
    )
    other = words.model_copy(update={"fields": fields})
    many = oddities(200, 1, words)
    random = np.random.default_rng(1)
    many = replace(many, amounts=random.lognormal(3, 1, len(many.amounts)).astype(np.float32))
    paid = replace(many, amounts=many.amounts * np.float32(size))

    matrix, features = summarise(many, words)
    changed, _ = summarise(paid, other)

    names = [feature.name for feature in features]
    multiple = names.index("amount as a multiple of the usual one")
    np.testing.assert_allclose(changed[:, multiple], matrix[:, multiple], rtol=1e-4)
    # Amounts are as far apart as they were.
    amount = names.index("amount")
    assert np.ptp(changed[:, amount]) > 0.9 * np.ptp(matrix[:, amount]) > 3


def test_an_event_without_a_history_is_summed_up_too() -> None:
    first = Units(
        offsets=np.array([0, 1]),
        tokens={name: np.array([FIRST_VALUE]) for name in vocabulary("event").field_names},
        amounts=np.array([10], dtype=np.float32),
        gaps=np.array([0], dtype=np.float32),
        context=np.array([[np.nan, np.nan]], dtype=np.float32),
        scored_from=np.array([0], dtype=np.int32),
        closed=np.array([False]),
    )
    found = in_words(first, "event")
    assert found["earlier events known"] == "0"
    assert found["amount as a multiple of the usual one"] == "1"
    assert found["share of earlier events with the same action"] == "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_columns_do_not_depend_on_the_units_and_rows_not_on_each_other(kind: UnitKind) -> None:
    words = vocabulary(kind)
    many = units(40, 1, words)
    matrix, features = summarise(many, words)
    assert len(set(features)) == matrix.shape[1]
    for index in range(40):
        alone, same = summarise(many.take(np.array([index])), words)
        assert same == features
        np.testing.assert_array_equal(alone[0], matrix[index])
    assert summarise(oddities(2, 1, words), words)[1] == features


@pytest.mark.parametrize("kind", KINDS)
def test_no_units_give_no_rows(kind: UnitKind) -> None:
    words = vocabulary(kind)
    none = units(3, 1, words).take(np.array([], dtype=np.int64))
    matrix, features = summarise(none, words)
    assert matrix.shape == (0, len(features))


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        (Feature("n"), np.log1p(3), "3"),
        (Feature("n"), -np.log1p(3), "-3"),
        (Feature("n", unit="s"), np.log1p(12345.6), "12,346 s"),
        (Feature("n", "share"), 0.25, "25%"),
        (Feature("n", "plain"), 2.5, "2.5"),
    ],
)
def test_stored_numbers_are_readable(feature: Feature, value: float, text: str) -> None:
    assert feature.in_words(float(value)) == text
