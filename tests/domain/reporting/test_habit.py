"""A flagged session beside the user's earlier ones."""

from dataclasses import replace

import pytest

from habitus.domain.reporting.cases import CaseEvent, Habit, Story
from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.habit import Comparison, comparisons

pytestmark = pytest.mark.plain


@pytest.fixture
def story(full_report: ReportData) -> Story:
    """Two payments and a refund after a view that is history; ten sessions before."""
    told = full_report.cases[0].stories[0]
    events = tuple(
        CaseEvent(told.flag.event_time, action, "", action != "view", {}, amount)
        for action, amount in (
            ("view", None),
            ("payment", 40.0),
            ("payment", 60.0),
            ("refund", None),
        )
    )
    habit = Habit(
        days=90,
        sessions=10,
        actions={"view": 20, "payment": 5},
        events=(2.0, 3.0, 4.0),
        amounts=(10.0, 20.0, 30.0),
    )
    return replace(told, events=events, habit=habit)


def test_what_was_judged_stands_beside_a_usual_session(story: Story) -> None:
    assert comparisons(story) == [
        Comparison("events", "2 to 4", "3", odd=False),
        Comparison("amount", "10 to 30", "100", odd=True),
        Comparison("view", "2.0", "0", odd=False),
        Comparison("payment", "0.5", "2", odd=False),
        Comparison("refund", "never", "1", odd=True),
    ]


def test_what_was_done_in_few_sessions_is_rare_and_not_new(story: Story) -> None:
    habit = replace(story.habit, sessions=100, actions={"refund": 3})

    last = comparisons(replace(story, habit=habit))[3]

    assert last == Comparison("refund", "rarely", "1", odd=False)


def test_a_user_who_never_spent_has_no_usual_amount(story: Story) -> None:
    habit = replace(story.habit, amounts=None)

    assert comparisons(replace(story, habit=habit))[1] == Comparison("amount", "none", "100", True)


def test_without_sessions_before_there_is_nothing_to_compare(story: Story) -> None:
    assert comparisons(replace(story, habit=Habit(days=90, sessions=0))) == []
