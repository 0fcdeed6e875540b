"""The report as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from habitus.domain.detectors.base import Reason
from habitus.domain.evaluation import (
    ALL,
    AVERAGE_PRECISION,
    MEASURES,
    RECALL_AT_BUDGET,
    Evaluation,
)
from habitus.domain.naming import in_words
from habitus.domain.reporting.cases import SEVERITIES, Case
from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.graph import ring_graph
from habitus.domain.reporting.habit import comparisons
from habitus.domain.reporting.plots import (
    curve_plot,
    day_plot,
    decision_plot,
    score_plot,
    training_plot,
    unit_plot,
)
from habitus.domain.reporting.timeline import fields_of, rows, strip
from habitus.domain.wording import in_digits


def render(report: ReportData) -> str:
    """The whole page: its styles, script and plots are in it and it loads nothing.

    The same data gives the same page, byte for byte.
    """
    environment = Environment(
        loader=PackageLoader("habitus.domain.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "odds": odds,
        "digits": in_digits,
        "one_word": one_word,
        "words": words,
        "named": in_words,
        "moment": _moment,
        "span": _span,
        "short_day": _short_day,
        "day": _day,
        "figure": figure_text,
        "seconds": _seconds,
    }
    stories = [story for case in report.cases for story in case.stories]
    colours = sorted({name for story in stories for name in fields_of(story)})
    days = report.by_day.values()
    return environment.get_template("report.html.j2").render(
        report=report,
        plots=_plots(report),
        severities=SEVERITIES,
        by_severity={name: sum(day.get(name, 0) for day in days) for name in SEVERITIES},
        colours={name: index for index, name in enumerate(colours)},
        choices=choices(report),
        last_day=max((case.days[0] for case in report.cases), default=None),
        places={case.case_id: place for place, case in enumerate(report.cases, start=1)},
        graph=graph,
        strip=strip,
        rows=rows,
        comparisons=comparisons,
        fields_of=fields_of,
        expected=expected,
        measures=MEASURES,
        detectors=sorted({row.detector for row in report.evaluations}),
        comparison=comparison(report.evaluations),
        is_best=is_best,
        headline={
            RECALL_AT_BUDGET: "recall at the budget",
            AVERAGE_PRECISION: "average precision",
        }.items(),
        all_kinds=ALL,
    )


def _plots(report: ReportData) -> dict[str, Markup]:
    """The page's figures by name; those without data are left out."""
    plots = {}
    if report.by_day:
        plots["days"] = day_plot(report.by_day)
    if report.decisions_by_day:
        plots["decisions"] = decision_plot(report.decisions_by_day)
    if report.scores is not None:
        plots["scores"] = score_plot(report.scores)
    if len(report.sample.n_events):
        plots["units"] = unit_plot(report.sample, report.false_positive_rate)
    if report.curves:
        plots["curves"] = curve_plot(report.curves)
    for model in report.models:
        if model.history:
            plots[model.model_id] = training_plot(model.model_id, model.history)
    # The SVG is matplotlib's, which escapes the texts in it.
    return {name: Markup(svg) for name, svg in plots.items()}  # noqa: S704


def graph(case: Case) -> Markup:
    """The picture of a case of several users."""
    assert case.ring is not None, "only a ring has a picture"
    # The strangest of a user's flags comes first.
    severities = {flag.user_id: flag.severity for flag in reversed(case.flags)}
    return ring_graph(case.ring, severities)


def choices(report: ReportData) -> dict[str, list[str]]:
    """What the page can be filtered by -> the values that are there."""
    days = {day for case in report.cases for day in case.days}
    days |= {flag.event_time.date() for flag in report.flags}
    severities = {flag.severity for flag in report.flags}
    return {
        "day": [day.isoformat() for day in sorted(days, reverse=True)],
        "severity": [name for name in SEVERITIES if name in severities],
        "kind": sorted(
            {case.kind for case in report.cases} | {flag.case_kind for flag in report.flags}
        ),
        "decision": sorted(
            {flag.decision for flag in report.flags}
            | {decision for case in report.cases for decision in case.decisions}
        ),
        "status": sorted(
            {flag.status for flag in report.flags}
            | {status for case in report.cases for status in case.statuses}
        ),
    }


def comparison(rows: Sequence[Evaluation]) -> dict[str, dict[tuple[str, str], Evaluation]]:
    """Kind -> (detector, measure) -> figure, `all` first."""
    kinds: dict[str, dict[tuple[str, str], Evaluation]] = {}
    for row in sorted(rows, key=lambda row: (row.kind != ALL, row.kind)):
        kinds.setdefault(row.kind, {})[row.detector, row.measure] = row
    return kinds


def is_best(rows: Mapping[tuple[str, str], Evaluation], detector: str, measure: str) -> bool:
    """Whether no other detector does better on a kind, to the two digits that are shown."""
    values = {name: round(row.figure.value, 2) for (name, of), row in rows.items() if of == measure}
    # NaN is never the greatest, and nothing is good at finding nothing.
    return len(values) > 1 and values.get(detector, 0.0) >= np.nanmax([*values.values(), 0.01])


def expected(reason: Reason) -> str:
    """What was likelier, in words; empty when nothing is known."""
    text = ", ".join(f"{value} ({share:.0%})" for value, share in reason.expected[:3])
    return words(text) if reason.field == "action" else text


def odds(p_value: float) -> str:
    """A p-value as people say it: 1 in how many.

    >>> odds(0.0004), odds(0.4)
    ('1 in 2,500', '1 in 2.5')
    """
    times = 1 / p_value
    if times < 10:
        return f"1 in {times:.2g}"
    # Two digits: the tail of a distribution is not known better.
    digits = int(np.floor(np.log10(times))) - 1
    return f"1 in {round(times / 10**digits) * 10**digits:,.0f}"


def words(name: str) -> str:
    """A name as words.

    >>> words("account_takeover")
    'account takeover'
    """
    return name.replace("_", " ")


def one_word(name: str) -> str:
    """A name without blanks, by which the page's script tells several from each other.

    >>> one_word("to be called")
    'to_be_called'
    """
    return "_".join(name.split())


def _moment(time: datetime) -> str:
    return f"{time.day} {time:%b %Y, %H:%M:%S}"


def _span(case: Case) -> str:
    first, last = case.started_at, case.ended_at
    start = f"{first.day} {first:%b}, {first:%H:%M}"
    if last - first < timedelta(minutes=1):
        return start
    same = first.date() == last.date()
    return f"{start} to {last:%H:%M}" if same else f"{start} to {last.day} {last:%b}, {last:%H:%M}"


def _short_day(day: str) -> str:
    return f"{date.fromisoformat(day):%a %-d %b %Y}"


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def figure_text(value: float) -> str:
    """A measure to two digits, or a dash where it is not defined."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
