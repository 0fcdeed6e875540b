"""A search comes near what is best, the same way for the same seed."""

import math
from collections.abc import Mapping

import pytest

from habitus.domain.search import Trial, Value, search
from habitus.model_settings import Choices, Span

pytestmark = pytest.mark.plain

RANGES: dict[str, Span | Choices] = {
    "rate": Span(low=0.001, high=1.0, log=True),
    "size": Choices(choices=(16, 64, 256)),
}
TODAY: dict[str, Value] = {"rate": 0.5, "size": 16}


def loss_of(number: int, values: Mapping[str, Value]) -> float:
    """Lowest at a rate of .01 and a size of 64."""
    return abs(float(values["rate"]) - 0.01) + abs(float(values["size"]) - 64) / 64


def found(trials: int, seed: int = 1) -> list[Trial]:
    return search(RANGES, TODAY, trials, seed, loss_of)


def test_what_is_best_comes_first_and_is_near_the_optimum() -> None:
    trials = found(40)
    assert [trial.loss for trial in trials] == sorted(trial.loss for trial in trials)
    assert trials[0].values["size"] == 64
    assert trials[0].loss < 0.02
    assert sorted(trial.number for trial in trials) == list(range(1, 41))


def test_values_that_cannot_be_tried_come_last_and_the_search_goes_on() -> None:
    def fails_for_large(number: int, values: Mapping[str, Value]) -> float:
        return math.inf if values["size"] == 256 else loss_of(number, values)

    trials = search(RANGES, {"rate": 0.5, "size": 256}, 20, 1, fails_for_large)
    assert trials[-1].loss == math.inf
    assert trials[0].values["size"] == 64


def test_the_settings_of_today_are_tried_first() -> None:
    first = min(found(3), key=lambda trial: trial.number)
    assert first.values == TODAY


def test_settings_of_today_that_are_not_within_the_ranges_are_left_out() -> None:
    trials = search(RANGES, {"rate": 7.0, "size": 16}, 3, 1, loss_of)
    assert all(0.001 <= float(trial.values["rate"]) <= 1 for trial in trials)


def test_a_span_of_a_whole_number_is_of_whole_numbers() -> None:
    def loss(number: int, values: Mapping[str, Value]) -> float:
        return abs(float(values["width"]) - 50)

    trials = search({"width": Span(low=15.5, high=128, log=True)}, {"width": 64}, 30, 1, loss)
    assert all(isinstance(trial.values["width"], int) for trial in trials)
    assert all(16 <= float(trial.values["width"]) <= 128 for trial in trials)
    assert trials[0].loss <= 5


def test_the_same_seed_tries_the_same() -> None:
    assert found(8) == found(8)
    assert found(8) != found(8, seed=2)


@pytest.mark.parametrize("span", [(2.0, 1.0, False), (0.0, 1.0, True)])
def test_a_span_that_is_none_is_refused(span: tuple[float, float, bool]) -> None:
    with pytest.raises(ValueError, match="low must be at most high"):
        Span(low=span[0], high=span[1], log=span[2])
