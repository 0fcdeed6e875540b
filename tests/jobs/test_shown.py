"""What became of the flags that the report shows."""

from datetime import date

import pytest
from pyspark.sql import Row

from habitus.domain.reporting.data import Outcome
from habitus.jobs.shown import by_day, outcomes

pytestmark = pytest.mark.plain

MONDAY, TUESDAY = date(2026, 6, 1), date(2026, 6, 2)


def counted(day: date, severity: str, decision: str, verdict: str | None, count: int) -> Row:
    return Row(event_date=day, severity=severity, decision=decision, verdict=verdict, count=count)


COUNTED = [
    counted(MONDAY, "critical", "challenge", "anomalous", 3),
    counted(MONDAY, "critical", "challenge", None, 1),
    counted(TUESDAY, "high", "challenge", "dismissed", 2),
    counted(TUESDAY, "low", "watch", None, 5),
]


def test_flags_are_counted_by_day_and_severity_or_decision() -> None:
    assert by_day(COUNTED, "severity") == {MONDAY: {"critical": 4}, TUESDAY: {"high": 2, "low": 5}}
    assert by_day(COUNTED, "decision") == {
        MONDAY: {"challenge": 4},
        TUESDAY: {"challenge": 2, "watch": 5},
    }


def test_what_became_of_flags_is_told_by_decision() -> None:
    assert outcomes(COUNTED) == {"challenge": Outcome(6, 3, 2), "watch": Outcome(5, 0, 0)}
    assert outcomes([]) == {}
