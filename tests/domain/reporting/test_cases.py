"""Cases and their flags, as the report tells them."""

from dataclasses import replace
from datetime import date

import pytest

from habitus.domain.reporting.cases import Case, Flag, in_full
from habitus.domain.reporting.data import ReportData

pytestmark = pytest.mark.plain


def test_each_case_has_its_strangest_flag_told_before_another_has_two() -> None:
    cases = ["abcd", "e", "fgh"]
    flags: list[list[Flag]] = [[*letters] for letters in cases]  # type: ignore[list-item]

    assert "".join(map(str, in_full(flags, most=9, of_case=3))) == "aefbgch"
    assert "".join(map(str, in_full(flags, most=4, of_case=3))) == "aefb"


@pytest.fixture
def case(full_report: ReportData) -> Case:
    """A ring with three flags of its 23."""
    return full_report.cases[0]


def test_a_case_is_of_the_days_and_decisions_of_flags_that_are_not_drawn(case: Case) -> None:
    day = date(2026, 1, 20)
    larger = replace(case, more_days=(day, case.days[0]), more_decisions=("freeze", "challenge"))
    assert larger.days == (*case.days, day)
    assert larger.decisions == ("challenge", "freeze")


def test_while_nobody_says_where_a_case_stands_its_flags_do(case: Case) -> None:
    confirmed = tuple(replace(flag, status="confirmed") for flag in case.flags)
    assert replace(case, flags=confirmed).statuses == ("confirmed", "open")
    assert replace(case, flags=confirmed, n_flags=3).statuses == ("confirmed",)
    assert replace(case, flags=confirmed, status="dismissed").statuses == ("dismissed",)
