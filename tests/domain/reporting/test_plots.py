"""The report's plots: what they show, in the page's colours."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.plots import (
    curve_plot,
    day_plot,
    decision_plot,
    score_plot,
    training_plot,
    unit_plot,
)

pytestmark = pytest.mark.plain


def scores(report: ReportData) -> str:
    assert report.scores is not None
    return score_plot(report.scores)


PLOTS: dict[str, tuple[Callable[[ReportData], str], set[str]]] = {
    "scores": (scores, {"score (higher is stranger)", "units", "may be flagged from here on"}),
    "days": (
        lambda report: day_plot(report.by_day),
        {"flags", "critical", "high", "medium", "low", "24 Jan", "28 Jan"},
    ),
    "decisions": (
        lambda report: decision_plot(report.decisions_by_day),
        {"flags", "challenge", "watch", "25 Jan"},
    ),
    "units": (
        lambda report: unit_plot(report.sample, report.false_positive_rate),
        {"events in the unit", "flagged", "not flagged", "1 in 100"},
    ),
    "curves": (
        lambda report: curve_plot(report.curves),
        {"behaviour", "isolation forest", "markov", "by chance", "100%"},
    ),
    "training": (
        lambda report: training_plot("behaviour", report.models[0].history),
        {"epoch", "loss", "validation loss"},
    ),
}


@pytest.fixture(params=PLOTS)
def drawn(request: pytest.FixtureRequest, full_report: ReportData) -> tuple[str, set[str]]:
    """A plot's SVG, and labels that it must have."""
    draw, labels = PLOTS[request.param]
    return draw(full_report), labels


def test_a_plot_is_one_svg_with_its_labels_as_text(drawn: tuple[str, set[str]]) -> None:
    svg, labels = drawn

    root = ElementTree.fromstring(svg)  # noqa: S314 - drawn here

    assert root.tag == "svg"
    assert labels <= {(text.text or "").strip() for text in root.iter("text")}


def test_a_plot_takes_its_colours_from_the_page(drawn: tuple[str, set[str]]) -> None:
    svg, _ = drawn

    assert "var(--ink)" in svg
    # What is left white or black is clipped or not painted.
    assert set(re.findall(r"(?:fill|stroke): ?(#\w+)", svg)) == set()


def test_plots_on_one_page_share_no_id(full_report: ReportData) -> None:
    ids = [
        name
        for draw, _ in PLOTS.values()
        for name in re.findall(r'\bid="([^"]*)"', draw(full_report))
    ]

    assert len(ids) == len(set(ids)) > 0


def test_a_day_without_flags_keeps_its_place(full_report: ReportData) -> None:
    """The fixture has no flags on its fifth day, 28 January."""
    with_gap = day_plot(full_report.by_day)

    assert "28 Jan" in with_gap
    assert sorted(full_report.by_day)[4].day == 29
