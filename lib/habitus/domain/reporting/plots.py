"""The report's plots: matplotlib figures as inline SVG that follow the page's colours and fonts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from habitus.domain.reporting.cases import SEVERITIES
from habitus.domain.reporting.data import Curve, ScoreHistogram, UnitSample

# Colours that matplotlib draws with, and what the page makes of them: so one figure is right in
# a light and in a dark page.
_INK, _FAINT, _LINE, _FLAGGED = "#010101", "#020202", "#030303", "#040404"
_SEVERITY = dict(zip(SEVERITIES, ("#050505", "#060606", "#070707", "#080808"), strict=True))
_SERIES = ("#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
_VARIABLES = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _LINE: "var(--line)",
    _FLAGGED: "var(--accent)",
    **{colour: f"var(--{name})" for name, colour in _SEVERITY.items()},
    **{colour: f"var(--series-{index})" for index, colour in enumerate(_SERIES)},
}
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _FAINT,
    "ytick.labelcolor": _FAINT,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "habitus",  # else ids are random
}
_SIZE = (5.2, 3.0)


def score_plot(scores: ScoreHistogram) -> str:
    """The spread of the scores, the flagged ones in colour, and where flagging starts."""
    with _figure("scores") as (axes, out):
        widths = np.diff(scores.edges)
        axes.bar(scores.edges[:-1], scores.units, widths, align="edge", color=_FAINT, alpha=0.55)
        axes.bar(scores.edges[:-1], scores.flagged, widths, align="edge", color=_FLAGGED)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set(xlabel="score (higher is stranger)", ylabel="units")
        if scores.threshold is not None:
            axes.axvline(scores.threshold, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
            right = scores.threshold > scores.edges[[0, -1]].mean()
            axes.annotate(
                "may be flagged from here on",
                (scores.threshold, 1),
                (-5 if right else 5, -2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if right else "left",
                va="top",
                fontsize=8.5,
            )
    return out[0]


def day_plot(by_day: Mapping[date, Mapping[str, int]]) -> str:
    """Flags per day, stacked by severity, the gravest at the bottom."""
    return _stacked("days", by_day, _SEVERITY)


def decision_plot(by_day: Mapping[date, Mapping[str, int]]) -> str:
    """Flags per day, stacked by what is decided on them."""
    decisions = sorted({decision for day in by_day.values() for decision in day})
    colours = {name: _SERIES[at % len(_SERIES)] for at, name in enumerate(decisions)}
    return _stacked("decisions", by_day, colours)


def _stacked(
    name: str, by_day: Mapping[date, Mapping[str, int]], colours: Mapping[str, str]
) -> str:
    with _figure(name) as (axes, out):
        first, last = min(by_day), max(by_day)
        days = [first + timedelta(days=index) for index in range((last - first).days + 1)]
        bottom = np.zeros(len(days))
        for part, colour in colours.items():
            flags = np.array([by_day.get(day, {}).get(part, 0) for day in days], dtype=float)
            if flags.any():
                axes.bar(
                    range(len(days)), flags, width=0.8, bottom=bottom, color=colour, label=part
                )
                bottom += flags
        step = max(1, -(-len(days) // 6))
        axes.set_xticks(range(0, len(days), step))
        axes.set_xticklabels([f"{day.day} {day:%b}" for day in days[::step]])
        axes.set_ylim(top=bottom.max() * 1.18)
        axes.set_ylabel("flags")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(ncols=4, loc="upper left", handlelength=0.9, columnspacing=1.2)
    return out[0]


def unit_plot(sample: UnitSample, false_positive_rate: float) -> str:
    """Units by number of events and surprise; the flagged ones in colour."""
    with _figure("units") as (axes, out):
        # Whole numbers of events would hide each other; the spread is the same every time.
        spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(sample.n_events))
        across = np.maximum(sample.n_events, 1) + spread
        for flagged, colour, size, alpha in ((False, _FAINT, 5, 0.35), (True, _FLAGGED, 16, 0.9)):
            chosen = sample.flagged == flagged
            axes.scatter(
                across[chosen],
                sample.surprise[chosen],
                s=size,
                color=colour,
                alpha=alpha,
                linewidths=0,
                label="flagged" if flagged else "not flagged",
            )
        axes.axhline(-np.log10(false_positive_rate), color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1 in {10**value:,.0f}"))
        axes.set_xlabel("events in the unit")
        axes.set_ylabel("normal units this strange")
        axes.legend(loc="upper right", ncols=2, handletextpad=0.1, columnspacing=1)
        axes.set_ylim(top=max(2.0, sample.surprise.max(initial=0)) * 1.15)
    return out[0]


def curve_plot(curves: Sequence[Curve]) -> str:
    """Precision against recall, one line per detector."""
    with _figure("curves") as (axes, out):
        for index, curve in enumerate(curves):
            axes.step(
                curve.recall,
                curve.precision,
                where="pre",
                color=_SERIES[index % len(_SERIES)],
                label=curve.detector.replace("_", " "),
            )
        axes.axhline(
            curves[0].share_anomalous,
            color=_INK,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label="by chance",
        )
        percent = FuncFormatter(lambda value, _: f"{value:.0%}")
        axes.xaxis.set_major_formatter(percent)
        axes.yaxis.set_major_formatter(percent)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.set(xlabel="recall: anomalies found", ylabel="precision: right among found")
        axes.legend(loc="upper right")
    return out[0]


def training_plot(name: str, history: Mapping[str, Sequence[float]]) -> str:
    """Each measure by epoch."""
    with _figure(f"training-{name}") as (axes, out):
        for index, (measure, values) in enumerate(history.items()):
            axes.plot(
                range(1, len(values) + 1),
                values,
                color=_SERIES[index % len(_SERIES)],
                marker="o",
                markersize=3,
                label=measure.replace("_", " "),
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend(loc="upper right")
    return out[0]


@contextmanager
def _figure(name: str) -> Iterator[tuple[Axes, list[str]]]:
    """A styled figure; its SVG is in the list once the block ends."""
    out: list[str] = []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        yield axes, out
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    out.append(_inline(stream.getvalue(), name))


def _inline(svg: str, name: str) -> str:
    """The SVG as part of a page: no prologue, no metadata, colours and fonts of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', svg)
    # Ids are unique within a figure only.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('xlink:href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
