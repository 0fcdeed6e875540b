"""A flagged unit along time: each event a bar as high as its surprise, and in lines of text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from habitus.domain.naming import in_words
from habitus.domain.reporting.cases import CaseEvent, Story

# A longer unit lists its most surprising events and their neighbours, and says what it leaves out.
_EVENTS_LISTED = 24
_WIDTH, _HEIGHT = 1000, 100
_SLOT = 16.0  # the widest that an event is drawn
_TICKS = 4
_ROOM = 20.0  # percent of the width that a reason's name may take
_FAINT = 0.004  # less of the highest bar is not seen


@dataclass(frozen=True)
class Row:
    """One line of a unit's list: an event, or a run of events left out."""

    index: int
    event: CaseEvent | None
    bars: tuple[tuple[str, float], ...] = ()
    left_out: int = 0
    left_out_bits: float = 0.0


@dataclass(frozen=True)
class Mark:
    """A text at a place of the strip, in percent of its width and height from below.

    Args:
        left, bottom: The place.
        text: The text.
        name: What the text stands for.
        roomy: Whether there is room for the name beside it.
    """

    left: float
    bottom: float
    text: str
    name: str = ""
    roomy: bool = False


@dataclass(frozen=True)
class Strip:
    """What is drawn of a unit in a box of 1000 x 100 that may be stretched.

    Args:
        bars: Field -> an SVG path of strokes, its part of every event's bar.
        width: Of a stroke.
        history: Percent of the width that is history, not judged.
        marks: The numbers of the reasons above the bars that they are about.
        ticks: Times below.
        most: Bits of the highest bar.
    """

    bars: dict[str, str]
    width: float
    history: float
    marks: tuple[Mark, ...]
    ticks: tuple[Mark, ...]
    most: float


def strip(story: Story) -> Strip:
    """The timeline of a unit that has events."""
    events, fields = story.events, fields_of(story)
    middles, width = places(np.array([event.time.timestamp() for event in events]))
    bits = np.array([[event.surprise.get(name, 0.0) for name in fields] for event in events])
    bits = bits.reshape(len(events), len(fields))
    most = float(bits.sum(axis=1).max(initial=0.0)) or 1.0
    heights = bits / most * _HEIGHT
    tops = _HEIGHT - np.cumsum(heights, axis=1)
    bars = {
        name: "".join(
            f"M{x:.1f} {y:.1f}v{h:.1f}"
            for x, y, h in zip(middles, tops[:, at], heights[:, at], strict=True)
            if h > _FAINT * _HEIGHT
        )
        for at, name in enumerate(fields)
    }
    judged = [index for index, event in enumerate(events) if event.judged]
    history = max(float(middles[judged[0]]) - width / 2, 0.0) if judged else 0.0
    percent = middles / _WIDTH * 100
    marks = _marks(story, percent, heights.sum(axis=1))
    return Strip(bars, 0.8 * width, history / _WIDTH * 100, marks, _ticks(events, percent), most)


def places(times: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Where events are drawn: each has a slot of its own, and pauses are the root of their length.

    Args:
        times: [n] times in seconds, in order; at least one.

    Returns:
        [n] middles and the width of a slot, of 1000.
    """
    width = min(_SLOT, _WIDTH / len(times))
    pauses = np.concatenate([[0.0], np.cumsum(np.sqrt(np.maximum(np.diff(times), 0.0)))])
    free = _WIDTH - width * len(times)
    return (np.arange(len(times)) + 0.5) * width + free * pauses / max(pauses[-1], 1e-9), width


def _marks(
    story: Story, middles: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]
) -> tuple[Mark, ...]:
    numbers: dict[int, list[int]] = {}
    for number, reason in enumerate(story.reasons, start=1):
        if reason.event_index is not None:
            numbers.setdefault(reason.event_index, []).append(number)
    lefts = middles[list(numbers)]
    apart = np.abs(lefts[:, None] - lefts) + np.diag(np.full(len(lefts), np.inf))
    roomy = (apart.min(axis=1, initial=np.inf) > _ROOM) & (np.abs(lefts - 50) < 50 - _ROOM / 2)
    return tuple(
        Mark(
            float(middles[index]),
            float(heights[index]),
            ", ".join(map(str, of_event)),
            ", ".join(in_words(story.reasons[number - 1].field) for number in of_event),
            bool(has_room),
        )
        for (index, of_event), has_room in zip(numbers.items(), roomy, strict=True)
    )


def _ticks(events: Sequence[CaseEvent], middles: npt.NDArray[np.float64]) -> tuple[Mark, ...]:
    """The times of the first event, the last, and some between that are well apart."""
    wanted = np.linspace(middles[0], middles[-1], _TICKS)
    chosen = np.unique(np.abs(middles[:, None] - wanted).argmin(axis=0))
    # The last is always there, and what would touch the one before or it is left out.
    kept: list[int] = []
    for index in chosen[:-1]:
        apart = [abs(middles[index] - middles[other]) for other in (*kept[-1:], chosen[-1])]
        if min(apart) > 100 / _TICKS / 1.5:
            kept.append(int(index))
    kept.append(int(chosen[-1]))
    seconds = (events[-1].time - events[0].time).total_seconds()
    style = "%H:%M:%S" if seconds < 3600 else "%H:%M" if seconds < 86_400 else "%d %b %H:%M"
    return tuple(Mark(float(middles[at]), 0.0, f"{events[at].time:{style}}") for at in kept)


def rows(story: Story) -> list[Row]:
    """The lines of a unit, bars scaled so that the most surprising event fills the width."""
    listed = _listed([event.bits for event in story.events])
    most = max((event.bits for event in story.events), default=0.0) or 1.0
    found = []
    for seen, run in groupby(enumerate(story.events), key=lambda pair: pair[0] in listed):
        events = list(run)
        if not seen:
            bits = sum(event.bits for _, event in events)
            found.append(Row(events[0][0], None, left_out=len(events), left_out_bits=bits))
            continue
        for index, event in events:
            parts = sorted(event.surprise.items(), key=lambda part: (-part[1], part[0]))
            bars = tuple((name, 100 * bits / most) for name, bits in parts if bits / most > _FAINT)
            found.append(Row(index, event, bars))
    return found


def _listed(bits: Sequence[float]) -> set[int]:
    """Indices of the events to list."""
    if len(bits) <= _EVENTS_LISTED:
        return set(range(len(bits)))
    strongest = np.argsort(-np.asarray(bits), kind="stable")[: _EVENTS_LISTED // 2]
    beside = {int(index) + step for index in strongest for step in (-1, 0)}
    shown = {index for index in beside if index >= 0} | {0, len(bits) - 1}
    # Leaving out a single event would save no line.
    return shown | {index - 1 for index in shown if index - 2 in shown}


def fields_of(story: Story) -> list[str]:
    """The fields that surprise in a unit, the most surprising first."""
    bits: Counter[str] = Counter()
    for event in story.events:
        bits.update(event.surprise)
    return [name for name, _ in bits.most_common()]
