"""The report as one self-contained HTML page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

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
from habitus.domain.reporting.data import SEVERITIES, Case, CaseEvent, ReportData
from habitus.domain.reporting.plots import (
    curve_plot,
    day_plot,
    score_plot,
    training_plot,
    unit_plot,
)

# A longer case shows its most surprising events and their neighbours, and says what it leaves out.
_EVENTS_SHOWN = 24


@dataclass(frozen=True)
class _Row:
    """One line of a case: an event, or a run of events left out."""

    index: int
    event: CaseEvent | None
    bars: tuple[tuple[str, float], ...] = ()
    left_out: int = 0
    left_out_bits: float = 0.0


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
        "words": words,
        "moment": _moment,
        "day": _day,
        "figure": figure_text,
        "seconds": _seconds,
    }
    colours = sorted({name for case in report.cases for name in fields_of(case)})
    days = report.by_day.values()
    return environment.get_template("report.html.j2").render(
        report=report,
        plots=_plots(report),
        severities=SEVERITIES,
        by_severity={name: sum(day.get(name, 0) for day in days) for name in SEVERITIES},
        colours={name: index for index, name in enumerate(colours)},
        timeline=timeline,
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


def timeline(case: Case) -> list[_Row]:
    """The lines of a case, bars scaled so that the most surprising event fills the width."""
    shown = _shown([event.bits for event in case.events])
    most = max((event.bits for event in case.events), default=0.0) or 1.0
    rows = []
    for seen, run in groupby(enumerate(case.events), key=lambda pair: pair[0] in shown):
        events = list(run)
        if not seen:
            bits = sum(event.bits for _, event in events)
            rows.append(_Row(events[0][0], None, left_out=len(events), left_out_bits=bits))
            continue
        for index, event in events:
            parts = sorted(event.surprise.items(), key=lambda part: (-part[1], part[0]))
            bars = tuple((name, 100 * bits / most) for name, bits in parts if bits / most > 0.004)
            rows.append(_Row(index, event, bars))
    return rows


def _shown(bits: Sequence[float]) -> set[int]:
    """Indices of the events to show."""
    if len(bits) <= _EVENTS_SHOWN:
        return set(range(len(bits)))
    strongest = np.argsort(-np.asarray(bits), kind="stable")[: _EVENTS_SHOWN // 2]
    beside = {int(index) + step for index in strongest for step in (-1, 0)}
    shown = {index for index in beside if index >= 0} | {0, len(bits) - 1}
    # Leaving out a single event would save no line.
    return shown | {index - 1 for index in shown if index - 2 in shown}


def fields_of(case: Case) -> list[str]:
    """The fields that surprise in a case, the most surprising first."""
    bits: Counter[str] = Counter()
    for event in case.events:
        bits.update(event.surprise)
    return [name for name, _ in bits.most_common()]


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


def _moment(time: datetime) -> str:
    return f"{time.day} {time:%b %Y, %H:%M:%S}"


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def figure_text(value: float) -> str:
    """A measure to two digits, or a dash where it is not defined."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
