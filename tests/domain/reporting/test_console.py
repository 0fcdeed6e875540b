"""What a run shows at its end."""

from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from habitus.domain.reporting.console import detectors_table, flags_table, shifts_table, steps_table
from habitus.domain.reporting.data import ReportData

pytestmark = pytest.mark.plain


def shown(renderable: RenderableType) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_strangest_are_listed_with_their_sentence(full_report: ReportData) -> None:
    flags = full_report.flags[:10]

    text = shown(flags_table(flags, "session"))

    assert f"The {len(flags)} strangest sessions" in text
    for flag in flags:
        assert flag.user_id in text
    assert "1 in 1,000,000" in text
    assert "card testing" in text


def test_a_name_in_brackets_is_shown_as_it_is(full_report: ReportData) -> None:
    flag = replace(full_report.flags[0], user_id="bob[/x]", summary="Saw [bold] things.")

    text = shown(flags_table([flag], "session"))

    assert "bob[/x]" in text
    assert "Saw [bold] things." in text


def test_a_kind_in_brackets_is_shown_as_it_is(full_report: ReportData) -> None:
    rows = [replace(row, kind="dispute [/4837]") for row in full_report.evaluations]

    assert "dispute [/4837]" in shown(detectors_table(rows))


def test_detectors_are_compared_kind_by_kind(full_report: ReportData) -> None:
    text = shown(detectors_table(full_report.evaluations))

    for name in ("behaviour", "isolation forest", "markov", "account takeover", "scraping"):
        assert name in text
    assert "- / -" in next(line for line in text.splitlines() if "request probe" in line)


def test_shifts_of_segments_are_listed_with_their_sentence(full_report: ReportData) -> None:
    text = shown(shifts_table(full_report.shifts))

    assert "2026-01-29 12:00   1 in 20,000   seller <v7>: events 143 instead of 41" in text


def test_steps_show_rows_in_and_out_and_their_time(full_report: ReportData) -> None:
    line = next(
        line for line in shown(steps_table(full_report.steps)).splitlines() if "ingest" in line
    )

    assert "source 155,000" in line
    assert "events 150,120, duplicates 3,100" in line
    assert line.split()[-1] == "12.3"
