"""A report with everything in it, and one with nothing."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from habitus.domain.detectors.base import Reason
from habitus.domain.evaluation import ALL, MEASURES, Evaluation
from habitus.domain.metrics import Figure
from habitus.domain.reporting.cases import (
    SEVERITIES,
    Case,
    CaseEvent,
    Flag,
    Habit,
    PastUnit,
    Ring,
    Story,
    Thing,
)
from habitus.domain.reporting.data import (
    Curve,
    Model,
    Outcome,
    ReportData,
    ScoreHistogram,
    Shift,
    Step,
    UnitSample,
)
from habitus.domain.reporting.page import render

START = datetime(2026, 1, 24, 2, 41, 7, tzinfo=UTC)
ACTIONS = ("login", "view", "cart", "payment", "payment", "profile_change", "payment", "view")


def flag(index: int) -> Flag:
    severity = SEVERITIES[min(index // 6, 3)]
    return Flag(
        unit_id=f"{index:016x}",
        case_id=f"case-of-{index // 3 if index < 6 else index}",
        user_id=f"u{4711 + 37 * index}",
        event_time=START + timedelta(hours=7 * index),
        score=40.0 - index,
        p_value=1e-6 * 1.25**index,
        severity=severity,
        summary=f"8 events in 3 minutes, unlike this user: payment of 1,240 or more at event "
        f"{index % 5 + 3} where 20 to 45 is usual, from a device not seen before <{index}>",
        decision="challenge" if index < 12 else "watch",
        status="to be called" if index == 9 else "open",
        kinds=("card_testing",) if index % 3 == 0 else (),
        case_kind="ring" if index < 3 else "user",
    )


HABIT = Habit(
    days=90,
    sessions=14,
    hours=tuple(int(9 < hour < 23) * (hour % 4) for hour in range(24)),
    actions={"login": 14, "view": 70, "cart": 9, "payment": 5},
    events=(3.0, 6.0, 12.0),
    amounts=(18.0, 42.0, 96.0),
)


def story(index: int) -> Story:
    rng = np.random.default_rng(index)
    length = (8, 60, 14)[index % 3]
    events = tuple(
        CaseEvent(
            time=START + timedelta(hours=7 * index, seconds=21 * step),
            action=ACTIONS[step % len(ACTIONS)],
            detail=f"item i{rng.integers(3000)}, {rng.gamma(2, 30):.2f}, success",
            judged=step >= 2 or index != 2,
            surprise={
                name: float(rng.exponential(1.5 if step % 7 == 3 else 0.3))
                for name in ("action", "amount", "gap", "new_device", "category")
            },
            amount=float(rng.gamma(2, 30)) if ACTIONS[step % len(ACTIONS)] == "payment" else None,
        )
        for step in range(length)
    )
    reasons = (
        Reason(
            3,
            "amount",
            "1,240 or more",
            (("20 to 45", 0.31), ("45 to 80", 0.22)),
            9.8,
            0.24,
            "sequence",
        ),
        Reason(3, "new_device", "yes", (("no", 0.97),), 5.1, 0.12, "history"),
        Reason(None, "network_users_1h", "57", (), 4.4, 0.1, "peers"),
    )
    nearest = (
        PastUnit("u<1>", False, START, 0.94, "login, payment 3 times", ("card_testing",), "high"),
        PastUnit(flag(index).user_id, True, START, 0.81, "login, view", (), None),
    )
    habit = HABIT if index % 4 else Habit(days=90, sessions=0)
    return Story(flag(index), reasons, events, habit, nearest if index < 2 else ())


def case(number: int) -> Case:
    """The first two have three flags each: a ring, and one user's; the others one."""
    of_case = range(3 * number, 3 * number + 3) if number < 2 else range(number + 4, number + 5)
    flags = [flag(index) for index in of_case]
    if number == 1:
        flags = [replace(one, user_id="u4822") for one in flags]
    users = tuple(dict.fromkeys(one.user_id for one in flags))
    things = (Thing("device", "d<9>", 4, 3), Thing("network", "203.0.113.7", 9, 2))
    uses = tuple((user, "device", "d<9>", 1 + at) for at, user in enumerate(users))
    return Case(
        case_id=flags[0].case_id,
        kind="ring" if number == 0 else "user",
        started_at=flags[0].event_time,
        ended_at=flags[-1].event_time,
        n_users=len(users),
        n_flags=len(flags) + 20 * (number == 0),
        amount_sum=1240.0,
        p_value=flags[0].p_value,
        summary=f"Case <{number}>: {flags[0].summary}",
        status="open",
        user_ids=users,
        flags=tuple(flags),
        stories=tuple(story(index) for index in of_case[:2]),
        ring=Ring(users, things, uses, more_users=9) if number == 0 else None,
    )


def evaluations() -> tuple[Evaluation, ...]:
    rng = np.random.default_rng(1)
    found = []
    for detector, strength in (("behaviour", 0.7), ("isolation_forest", 0.45), ("markov", 0.6)):
        for kind in (ALL, "account_takeover", "card_testing", "request_probe", "scraping"):
            for measure in MEASURES:
                value = float(np.clip(strength + rng.normal(0, 0.12), 0, 1))
                figure = Figure(value, max(0.0, value - 0.08), min(1.0, value + 0.07))
                if kind == "request_probe" and detector == "markov":
                    figure = Figure(np.nan, np.nan, np.nan)
                found.append(
                    Evaluation(f"{detector}-0123", detector, kind, measure, figure, 5000, 31)
                )
    return tuple(found)


@pytest.fixture(scope="session")
def full_report() -> ReportData:
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.gamma(6, 1.2, 5000), rng.gamma(20, 1.1, 60)])
    edges = np.linspace(0, scores.max(), 61)
    recall = np.linspace(0.01, 1, 200)
    first = date(2026, 1, 24)
    return ReportData(
        made_at=datetime(2026, 2, 3, 8, 0, tzinfo=UTC),
        place="/data/lake",
        unit_kind="session",
        detector="behaviour",
        budget_per_day=20,
        false_positive_rate=0.01,
        first_day=first,
        last_day=first + timedelta(days=9),
        units=5312,
        days=90,
        has_cases=True,
        cases=tuple(case(number) for number in range(10)),
        cases_in_all=87,
        flags=tuple(flag(index) for index in range(40)),
        flags_in_all=112,
        by_day={
            first + timedelta(days=day): {
                name: int(rng.poisson(rate))
                for name, rate in zip(SEVERITIES, (1, 2, 4, 5), strict=True)
            }
            for day in range(10)
            if day != 4
        },
        decisions_by_day={
            first: {"challenge": 3, "watch": 9},
            first + timedelta(days=2): {"watch": 4},
        },
        outcomes={"challenge": Outcome(12, 9, 1), "watch": Outcome(100, 4, 0)},
        hidden={"beyond the budget": 31},
        scores=ScoreHistogram(
            edges,
            np.histogram(scores, edges)[0].astype(float),
            np.histogram(scores[scores > 17], edges)[0].astype(float),
            15.5,
        ),
        sample=UnitSample(
            np.exp(rng.gamma(4, 0.5, 1500)).round(),
            -np.log10(rng.uniform(size=1500)),
            np.arange(1500) < 40,
        ),
        evaluations=evaluations(),
        curves=tuple(
            Curve(name, 1 / (1 + np.exp((recall - at) * 9)), recall, 0.02)
            for name, at in (("behaviour", 0.7), ("isolation_forest", 0.3), ("markov", 0.5))
        ),
        models=(
            Model(
                "behaviour-0123",
                "behaviour",
                "# behaviour\n\nLSTM of 64 units.",
                {"loss": (6.1, 4.2, 3.9, 3.7), "validation_loss": (5.0, 4.3, 4.1, 4.05)},
            ),
            Model("markov-0123", "markov", "# markov\n\nBack-off of order 3.", {}),
        ),
        shifts=(
            Shift(
                datetime(2026, 1, 29, 12, tzinfo=UTC),
                5e-5,
                "seller <v7>: events 143 instead of 41 (22 to 66 is usual).",
            ),
        ),
        steps=(
            Step("ingest", 12.3, {"source": 155_000}, {"events": 150_120, "duplicates": 3100}),
            Step("sessionize", 6.8, {"events": 150_120}, {"sessions": 17_201}),
            Step("train", 124.0, {"sequences": 9000}, {}),
        ),
        table_rows={"events": 150_120, "sessions": 17_201, "scores": 15_936},
    )


@pytest.fixture(scope="session")
def page(full_report: ReportData) -> str:
    """The page of the report with everything."""
    return render(full_report)


@pytest.fixture(scope="session")
def empty_report() -> ReportData:
    nothing = np.zeros(0)
    return ReportData(
        made_at=datetime(2026, 2, 3, 8, 0, tzinfo=UTC),
        place="/data/lake",
        unit_kind="event",
        detector="behaviour",
        budget_per_day=20,
        false_positive_rate=0.01,
        first_day=None,
        last_day=None,
        units=0,
        days=90,
        has_cases=False,
        cases=(),
        cases_in_all=0,
        flags=(),
        flags_in_all=0,
        by_day={},
        scores=None,
        sample=UnitSample(nothing, nothing, nothing.astype(bool)),
    )
