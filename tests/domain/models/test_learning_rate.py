"""The learning rate rises over the first tenth of all steps, and falls from then on."""

from dataclasses import replace

import keras
import pytest

from habitus.domain.models.training import Plan, Trainer
from habitus.edges.ring import LocalRing
from habitus.loading import load_settings

pytestmark = pytest.mark.train

# Of its 100 steps the first 10 warm up, and 90 are left to fall.
PLAN = Plan(seed=7, epochs=5, steps=20, patience=5, learning_rate=0.01)
WARM_UP = {0: 0.001, 5: 0.0055, 9: 0.0091, 10: 0.01}
# After a third, a half and two thirds of the fall, at its end, and beyond it.
FALL = {40: 0.00775, 55: 0.0055, 70: 0.00325, 100: 0.001, 1000: 0.001}


def rates(plan: Plan, steps: list[int]) -> list[float]:
    """What the optimizer takes each of these steps with."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = Trainer(model, plan, LocalRing()).optimizer
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return found


def test_the_rate_rises_evenly_over_the_first_tenth_of_all_steps() -> None:
    assert rates(PLAN, [*WARM_UP]) == pytest.approx([*WARM_UP.values()], rel=1e-5)


def test_after_the_warm_up_the_rate_falls_by_a_cosine_to_a_tenth_and_stays_there() -> None:
    assert rates(PLAN, [*FALL]) == pytest.approx([*FALL.values()], rel=1e-5)


@pytest.mark.parametrize(("scaling", "times"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_whole_course_is_scaled_by_the_number_of_ranks(scaling: str, times: int) -> None:
    overrides = ["train.workers=4", "train.learning_rate=0.01"]
    train = load_settings(overrides=[*overrides, f"train.learning_rate_scaling={scaling}"]).train
    course = WARM_UP | FALL
    found = rates(replace(PLAN, learning_rate=train.scaled_learning_rate), [*course])
    assert found == pytest.approx([times * rate for rate in course.values()], rel=1e-5)


@pytest.mark.parametrize("steps", [1, 9])
def test_of_fewer_steps_than_ten_the_first_has_the_highest_rate(steps: int) -> None:
    assert rates(replace(PLAN, epochs=1, steps=steps), [0, 1]) == pytest.approx(
        [0.01, 0.01], rel=1e-5
    )
