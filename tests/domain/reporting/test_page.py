"""The report's page: everything in it, nothing loaded, and the same every time."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.page import choices, comparison, is_best, odds, render

pytestmark = pytest.mark.plain

SECTIONS = ("cases", "flags", "trends", "figures", "detectors", "models", "run", "reading")
CASE = '<details class="case card"'


def test_every_section_is_there(full_report: ReportData, page: str) -> None:
    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    assert page.count(CASE) == len(full_report.cases)
    stories = [story for case in full_report.cases for story in case.stories]
    assert page.count("<svg") == 6 + len(stories) + 1  # of a ring
    for story in stories:
        assert story.flag.user_id in page


def test_the_page_loads_nothing(page: str) -> None:
    assert re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?!#|data:)[^"\')\s>]+', page) == []
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_texts_are_escaped(page: str) -> None:
    assert "before &lt;0&gt;" in page
    assert "before <0>" not in page
    assert "d&lt;9&gt;" in page
    assert "<9>" not in page
    assert "Case &lt;1&gt;: 8 events" in page


def test_shifts_of_segments_are_listed_where_there_are_any(
    page: str, empty_report: ReportData
) -> None:
    assert "<li>seller &lt;v7&gt;: events 143 instead of 41" in page
    assert "Segments that shifted" not in render(empty_report)


def test_the_same_data_give_the_same_page(full_report: ReportData, page: str) -> None:
    assert render(full_report) == page


def test_an_empty_lake_has_a_report_that_says_what_to_do(empty_report: ReportData) -> None:
    page = render(empty_report)

    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    assert "Nothing has been scored yet" in page
    assert "There are no labels for the test period" in page
    assert "<svg" not in page


def test_a_lake_whose_flags_are_all_kept_quiet_says_so(empty_report: ReportData) -> None:
    page = render(replace(empty_report, units=9, hidden={"our own": 2}))

    assert "No flag is shown" in page
    assert "none has a p-value" not in page


def test_the_past_units_that_a_case_is_like_are_told(page: str) -> None:
    stories = page.split('<section class="story">')[1:]

    told = [story for story in stories if "Most like it in the past" in story]
    assert told == stories[:2]
    for words in ("0.94", "user <code>u&lt;1&gt;</code>, <em>login, payment 3 times</em>"):
        assert words in told[0]
    assert "the same user, <em>login, view</em>" in told[0]
    assert told[0].count("known: card testing") == 1
    assert told[0].count("flagged: high") == 1


def test_a_case_tells_its_users_flags_and_what_links_them(page: str) -> None:
    ring, one_user, *_ = page.split(CASE)[1:]

    assert "ring of 3 users" in ring
    assert 'class="ring"' in ring
    assert ring.count('<section class="story">') == 2
    assert "and 20 more in the table" in ring
    assert 'data-users="u4711\nu4748\nu4785"' in ring
    assert 'class="ring"' not in one_user
    assert "user <code>u4822</code>" in one_user


def test_a_flag_leads_to_its_case(full_report: ReportData, page: str) -> None:
    rows = re.findall(r"<tr data-day=.*?</tr>", page, re.DOTALL)

    assert len(rows) == len(full_report.flags)
    assert [row.count('href="#case-1"') for row in rows[:4]] == [1, 1, 1, 0]
    assert 'data-kind="ring"' in rows[2]
    assert 'data-kind="user"' in rows[3]
    assert "#case-" not in rows[39]


def test_what_can_be_chosen_is_what_there_is(full_report: ReportData) -> None:
    found = choices(full_report)

    assert found["day"][0] == "2026-02-04"
    assert len(found["day"]) == 12
    assert found["severity"] == ["critical", "high", "medium", "low"]
    assert found["kind"] == ["ring", "user"]
    assert found["decision"] == ["challenge", "watch"]
    assert found["status"] == ["open", "to be called"]


def test_a_long_time_is_said_to_be_shown_in_part(full_report: ReportData, page: str) -> None:
    assert full_report.last_day is not None
    longer = replace(full_report, first_day=full_report.last_day - timedelta(days=90))

    assert "112 of the last 90 days" in render(longer)
    assert "of the last 90 days" not in page


def test_precision_counts_what_is_not_known_as_no_anomaly(page: str) -> None:
    assert "9 known as anomalies, 1 dismissed, 2 not known" in page
    assert "<b>75%</b>" in page
    assert "Not shown: 31 by beyond the budget" in page


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
