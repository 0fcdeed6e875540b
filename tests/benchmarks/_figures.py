"""What a benchmark found: printed as a table, and written to `.bench/NAME.json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One figure, what the rival reached, and what we are to reach; None where there is none."""

    figure: str
    value: float
    rival: float | None = None
    goal: float | None = None
    met: bool | None = None


def at_most(figure: str, value: float, goal: float, rival: float | None = None) -> Figure:
    """A figure that is better when it is smaller."""
    return Figure(figure, value, rival, goal, value <= goal)


def at_least(figure: str, value: float, goal: float, rival: float | None = None) -> Figure:
    """A figure that is better when it is larger."""
    return Figure(figure, value, rival, goal, value >= goal)


def publish(name: str, figures: Sequence[Figure]) -> None:
    """Print the figures and write them to `.bench/NAME.json`."""
    show(figures)
    write(name, figures)


def show(figures: Sequence[Figure], title: str | None = None) -> None:
    """Print the figures as a table."""
    table = Table(box=None, title=title, title_justify="left")
    for heading in ("figure", "value", "rival", "goal", "met"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for one in figures:
        numbers = (_text(number) for number in (one.value, one.rival, one.goal))
        met = {None: "", True: "yes", False: "no"}[one.met]
        table.add_row(one.figure, *numbers, met)
    Console().print(table)


def write(name: str, figures: Sequence[Figure]) -> None:
    """Write the figures to `.bench/NAME.json`."""
    target = Path(f".bench/{name}.json")
    target.parent.mkdir(exist_ok=True)
    rows = [asdict(figure) for figure in figures]
    target.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def _text(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:,.4g}"
