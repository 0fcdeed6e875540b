"""A flagged session beside the user's earlier ones."""

from collections import Counter
from dataclasses import dataclass

from habitus.domain.reporting.cases import Story
from habitus.domain.wording import in_digits

_ACTIONS = 6


@dataclass(frozen=True)
class Comparison:
    """One line: what is counted, how it usually is, how it is here, and whether that is new."""

    name: str
    usual: str
    here: str
    odd: bool


def comparisons(story: Story) -> list[Comparison]:
    """What was judged beside an earlier session of the user, the most different actions first."""
    habit, judged = story.habit, [event for event in story.events if event.judged]
    if not habit.sessions or not judged:
        return []
    here = Counter(event.action for event in judged)
    usual = {action: times / habit.sessions for action, times in habit.actions.items()}
    by_difference = sorted(
        {*here, *usual}, key=lambda action: (-abs(here[action] - usual.get(action, 0)), action)
    )
    amount = sum(event.amount or 0.0 for event in judged)
    numbers = [_number("events", habit.events, len(judged))]
    if amount or habit.amounts:
        numbers.append(_number("amount", habit.amounts, amount))
    actions = [
        Comparison(
            action,
            _often(usual.get(action, 0.0)),
            f"{here[action]:,}",
            action not in usual,
        )
        for action in by_difference[:_ACTIONS]
    ]
    return [*numbers, *actions]


def _often(times: float) -> str:
    if not times:
        return "never"
    return f"{times:.1f}" if times >= 0.1 else "rarely"


def _number(name: str, usual: tuple[float, float, float] | None, here: float) -> Comparison:
    if usual is None:
        return Comparison(name, "none", in_digits(here), here > 0)
    low, _, high = map(in_digits, usual)
    return Comparison(
        name, low if low == high else f"{low} to {high}", in_digits(here), here > usual[2]
    )
