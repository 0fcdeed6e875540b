"""Searches settings for those that score best. Imports Optuna alone.

The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
optimization", section 4) asks for values near those that did well.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from habitus.model_settings import Choices, Span

Value = str | float | int | bool


@dataclass(frozen=True)
class Trial:
    """Values that were tried, and the loss they came to."""

    number: int
    values: Mapping[str, Value]
    loss: float


def search(
    ranges: Mapping[str, Span | Choices],
    first: Mapping[str, Value],
    trials: int,
    seed: int,
    loss_of: Callable[[int, Mapping[str, Value]], float],
) -> list[Trial]:
    """Try values, each in the light of the ones before.

    Args:
        ranges: What each setting may be; whole numbers where the first value is one.
        first: The values to try first, where they lie within the ranges.
        trials: How many to try.
        seed: Of what is asked for.
        loss_of: Told the number of a trial, from 1, and its values, says how bad they are.

    Returns:
        The trials, the best first.
    """
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def space(one: Span | Choices, value: Value) -> BaseDistribution:
        if isinstance(one, Choices):
            return CategoricalDistribution(one.choices)
        if isinstance(value, int):
            return IntDistribution(math.ceil(one.low), math.floor(one.high), log=one.log)
        return FloatDistribution(one.low, one.high, log=one.log)

    spaces = {name: space(one, first[name]) for name, one in ranges.items()}
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    if all(one.holds(first[name]) for name, one in ranges.items()):
        study.enqueue_trial(dict(first))
    found = []
    for number in range(1, trials + 1):
        asked = study.ask(spaces)
        values: dict[str, Value] = dict(asked.params)
        loss = loss_of(number, values)
        study.tell(asked, loss)
        found.append(Trial(number, values, loss))
    return sorted(found, key=lambda trial: (trial.loss, trial.number))
