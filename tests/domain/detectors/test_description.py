"""The description of units by their summary and their conduct."""

from functools import cache

import numpy as np
import pytest
from builders import oddities, units, vocabulary

from habitus.domain.detectors.description import Description
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.summary import summarise
from habitus.domain.units import Units

pytestmark = pytest.mark.plain


@cache
def trained_on() -> Units:
    return units(1000, 1, vocabulary())


def known() -> Labelled:
    """The training units by their users of four sessions each."""
    number = np.arange(1000)
    return Labelled(trained_on(), number % 10 == 0, np.ones(1000), number // 4)


@cache
def fitted() -> Description:
    return Description.learned(known(), vocabulary())[0]


def test_a_session_has_columns_beside_its_summary_and_an_event_has_none() -> None:
    some = units(20, 3, vocabulary())
    matrix, features = fitted().of(some)
    summary, first = summarise(some, vocabulary())

    # Six fields with three columns each, all of them together with two, and three of pace.
    assert matrix.shape == (20, summary.shape[1] + 23)
    assert len({feature.name for feature in features}) == len(features) == matrix.shape[1]
    np.testing.assert_array_equal(matrix[:, : summary.shape[1]], summary)
    assert features[: len(first)] == first

    words = vocabulary("event")
    some = units(20, 3, words)
    alone = Description(words).of(some)
    np.testing.assert_array_equal(alone[0], summarise(some, words)[0])


def test_card_tests_stand_out_by_surprise_and_by_pace() -> None:
    normal, features = fitted().of(units(1000, 4, vocabulary()))
    odd, _ = fitted().of(oddities(20, 5, vocabulary()))
    names = [feature.name for feature in features]

    surprise = names.index("largest surprise of outcome")
    assert odd[:, surprise].min() > np.quantile(normal[:, surprise], 0.9)
    pace = names.index("sum of gaps beside usual ones")
    assert odd[:, pace].max() < np.nanquantile(normal[:, pace], 0.01)


def test_what_is_too_regular_is_as_far_from_usual_as_what_is_too_odd() -> None:
    matrix, features = fitted().of(units(100, 4, vocabulary()))
    names = [feature.name for feature in features]

    for name in ("surprise", "surprise of action", "surprise of new_device"):
        own, either = matrix[:, names.index(name)], matrix[:, names.index(f"{name} either way")]
        np.testing.assert_array_equal(np.abs(own), either)
    assert (matrix[:, names.index("surprise")] < 0).any()


def test_training_sessions_are_described_as_if_they_were_new() -> None:
    description, as_new, features = Description.learned(known(), vocabulary())
    as_known, _ = description.of(trained_on())
    fresh, _ = description.of(units(1000, 6, vocabulary()))
    conduct = slice(len(summarise(trained_on(), vocabulary())[1]), None)

    # Of a thousand sessions each, and with counts of four fifths of the users.
    deviation = np.nanstd(fresh, axis=0)[conduct]
    apart = [
        np.abs(np.nanmean(one, axis=0) - np.nanmean(fresh, axis=0))[conduct] / deviation
        for one in (as_new, as_known)
    ]
    assert apart[0].mean() < 0.07
    assert apart[0].mean() < apart[1].mean()
    assert features == description.of(trained_on())[1]
    assert description.to_files() == fitted().to_files()


def test_the_description_of_a_unit_does_not_depend_on_the_others() -> None:
    many = units(30, 7, vocabulary())
    together, _ = fitted().of(many)
    alone = np.concatenate([fitted().of(many.take(np.array([n])))[0] for n in range(30)])

    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)


def test_a_description_read_from_its_files_describes_the_same() -> None:
    some = units(20, 8, vocabulary())
    again = Description.from_files(fitted().to_files(), vocabulary())

    np.testing.assert_array_equal(again.of(some)[0], fitted().of(some)[0])


def test_no_units_have_no_description() -> None:
    none = trained_on().take(np.array([], dtype=np.int64))

    assert len(fitted().of(none)[0]) == 0
