"""What a run shows at its end, for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from habitus.domain.evaluation import AVERAGE_PRECISION, RECALL_AT_BUDGET, Evaluation
from habitus.domain.reporting.cases import Flag
from habitus.domain.reporting.data import Shift, Step
from habitus.domain.reporting.page import comparison, figure_text, is_best, odds, words
from habitus.domain.reviews import Precision


def detectors_table(evaluations: Sequence[Evaluation]) -> Table:
    """Detectors x kinds of anomaly: recall at the daily budget, and average precision."""
    detectors = sorted({evaluation.detector for evaluation in evaluations})
    table = Table(
        title="Recall at the daily budget / average precision, the best of each in bold",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    table.add_column("kind of anomaly")
    table.add_column("units", justify="right")
    for detector in detectors:
        table.add_column(words(detector), justify="right")
    for kind, rows in comparison(evaluations).items():
        cells = []
        for detector in detectors:
            cell = Text()
            for measure in (RECALL_AT_BUDGET, AVERAGE_PRECISION):
                row = rows.get((detector, measure))
                style = "bold" if is_best(rows, detector, measure) else ""
                cell.append(" / " if cell else "")
                cell.append(figure_text(row.figure.value) if row else "-", style)
            cells.append(cell)
        anomalous = next(iter(rows.values())).anomalous
        # Nor in what sources call a kind of anomaly.
        table.add_row(Text(words(kind)), f"{anomalous:,}", *cells)
    return table


def flags_table(flags: Sequence[Flag], unit_kind: str, last: int | None = None) -> Table:
    """The strangest units, each with its one-sentence reason; of so many `last` ones, or of all."""
    among = f" among the last {last:,} flagged" if last else ""
    title = f"The {len(flags)} strangest {unit_kind}s{among}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("when (UTC)", "user", "odds", "known as", "what is strange"):
        table.add_column(name, overflow="fold")
    for flag in flags:
        known = ", ".join(words(kind) for kind in flag.kinds)
        table.add_row(
            f"{flag.event_time:%Y-%m-%d %H:%M}",
            # Users choose their names: nothing in them is markup.
            Text(flag.user_id),
            odds(flag.p_value),
            Text(known or "-"),
            Text(flag.summary),
        )
    return table


def shifts_table(shifts: Sequence[Shift]) -> Table:
    """Sudden shifts of whole segments, each in one sentence."""
    table = Table(title="Segments that shifted", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("when (UTC)", "odds", "what is strange"):
        table.add_column(name, overflow="fold")
    for shift in shifts:
        table.add_row(
            f"{shift.period_start:%Y-%m-%d %H:%M}", odds(shift.p_value), Text(shift.summary)
        )
    return table


def reviews_table(found: Sequence[Precision]) -> Table:
    """How precise flags are up to each p-value, by what was found of them."""
    table = Table(title="Flags by p-value", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("odds up to", "flags", "reviewed", "confirmed", "precision is in"):
        table.add_column(name, justify="right")
    for one in found:
        counts = (f"{count:,}" for count in (one.flags, one.reviewed, one.confirmed))
        table.add_row(odds(one.p_value), *counts, f"{one.low:.0%} to {one.high:.0%}")
    return table


def steps_table(steps: Sequence[Step]) -> Table:
    """Rows in and out of each step, and how long it took."""
    table = Table(title="Rows in and out", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("step")
    table.add_column("rows in")
    table.add_column("rows out")
    table.add_column("seconds", justify="right")
    for step in steps:
        table.add_row(
            step.job,
            ", ".join(f"{name} {rows:,}" for name, rows in step.rows_in.items()),
            ", ".join(f"{name} {rows:,}" for name, rows in step.rows_out.items()),
            f"{step.seconds:.1f}",
        )
    return table
