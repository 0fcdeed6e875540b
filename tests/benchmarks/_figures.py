"""What a benchmark found: printed as a table, and written to `.bench/NAME.json`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
    return Figure(figure, value, rival, goal, bool(value <= goal))


def at_least(figure: str, value: float, goal: float, rival: float | None = None) -> Figure:
    """A figure that is better when it is larger."""
    return Figure(figure, value, rival, goal, bool(value >= goal))


def publish(name: str, figures: Sequence[Figure]) -> None:
    """Print the figures and write them to `.bench/NAME.json`."""
    show(figures)
    write(name, figures)


def publish_parts(
    name: str,
    parts: Mapping[str, Callable[[bool], Iterable[Figure]]],
    words: Sequence[str],
) -> None:
    """Publish a benchmark part by part, so that a run that is interrupted keeps what it found.

    A part's figures replace those that an earlier run found of it, in whatever size; each is
    written as soon as the part gives it.

    Args:
        name: Of the benchmark.
        parts: What finds the figures of each, in a small size or not.
        words: The command line: the program, names of parts, none for all, perhaps `--small`.

    Raises:
        SystemExit: A part is not known.
    """
    named = [word for word in words[1:] if not word.startswith("--")]
    if unknown := [word for word in named if word not in parts]:
        raise SystemExit(f"{name}: no part {unknown[0]!r}. There are {', '.join(parts)}.")
    for part in named or parts:
        title = f"{part}: "
        others = [one for one in _read(name) if not one.figure.startswith(title)]
        found = []
        for one in parts[part]("--small" in words):
            found.append(one)
            others.append(replace(one, figure=title + one.figure))
            write(name, others)
        show(found, title=part)


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
    target = _file(name)
    target.parent.mkdir(exist_ok=True)
    rows = [asdict(figure) for figure in figures]
    target.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def _read(name: str) -> list[Figure]:
    """The figures that are written."""
    target = _file(name)
    if not target.exists():
        return []
    return [Figure(**row) for row in json.loads(target.read_text(encoding="utf-8"))]


def _file(name: str) -> Path:
    return Path(f".bench/{name}.json")


def _text(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:,.4g}"
