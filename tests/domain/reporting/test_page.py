"""The report's page: everything in it, nothing loaded, and the same every time."""

import re

import pytest

from habitus.domain.reporting.data import Case, CaseEvent, ReportData
from habitus.domain.reporting.page import comparison, is_best, odds, render, timeline

pytestmark = pytest.mark.plain

SECTIONS = ("reading", "cases", "flags", "figures", "detectors", "models", "run")


def test_every_section_is_there(full_report: ReportData) -> None:
    page = render(full_report)

    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    assert page.count('<article class="case card">') == len(full_report.cases)
    assert page.count("<svg") == 5
    for case in full_report.cases:
        assert case.flag.user_id in page


def test_the_page_loads_nothing(full_report: ReportData) -> None:
    page = render(full_report)

    assert re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#|data:)[^"\')\s>]+', page) == []
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_texts_are_escaped(full_report: ReportData) -> None:
    page = render(full_report)

    assert "before &lt;0&gt;" in page
    assert "before <0>" not in page


def test_shifts_of_segments_are_listed_where_there_are_any(
    full_report: ReportData, empty_report: ReportData
) -> None:
    assert "<li>seller &lt;v7&gt;: events 143 instead of 41" in render(full_report)
    assert "Segments that shifted" not in render(empty_report)


def test_the_same_data_give_the_same_page(full_report: ReportData) -> None:
    assert render(full_report) == render(full_report)


def test_an_empty_lake_has_a_report_that_says_what_to_do(empty_report: ReportData) -> None:
    page = render(empty_report)

    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    assert "Nothing has been scored yet" in page
    assert "There are no labels for the test period" in page
    assert "<svg" not in page


def test_a_long_case_shows_its_most_surprising_events_and_counts_the_others(
    full_report: ReportData,
) -> None:
    case = max(full_report.cases, key=lambda case: len(case.events))

    rows = timeline(case)

    shown = [row.event for row in rows if row.event is not None]
    assert len(shown) + sum(row.left_out for row in rows) == len(case.events)
    assert max(case.events, key=lambda event: event.bits) in shown
    assert len(shown) < len(case.events)


def test_the_past_units_that_a_case_is_like_are_told(full_report: ReportData) -> None:
    cases = render(full_report).split('<article class="case card">')[1:]

    told = [case for case in cases if "Most like it in the past" in case]
    assert told == cases[:2]
    for words in ("0.94", "user <code>u&lt;1&gt;</code>, <em>login, payment 3 times</em>"):
        assert words in told[0]
    assert "the same user, <em>login, view</em>" in told[0]
    assert told[0].count("known: card testing") == 1 + 1  # the flag itself, and its neighbour
    assert told[0].count("flagged: high") == 1


def test_the_most_surprising_event_fills_the_width(full_report: ReportData) -> None:
    events = tuple(
        CaseEvent(full_report.made_at, "view", "", True, {"action": bits}) for bits in (1.0, 4.0)
    )

    rows = timeline(Case(full_report.cases[0].flag, (), events))

    assert [row.bars for row in rows] == [(("action", 25.0),), (("action", 100.0),)]


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.4, "1 in 2.5"), (0.05, "1 in 20"), (0.0004, "1 in 2,500"), (1e-6, "1 in 1,000,000")],
)
def test_odds_are_as_people_say_them(p_value: float, text: str) -> None:
    assert odds(p_value) == text


def test_the_best_detector_of_a_kind_is_marked(full_report: ReportData) -> None:
    for rows in comparison(full_report.evaluations).values():
        best = [name for name, of in rows if of == "auc" and is_best(rows, name, "auc")]
        values = {name: row.figure.value for (name, of), row in rows.items() if of == "auc"}
        assert values[best[0]] == max(value for value in values.values() if value == value)
