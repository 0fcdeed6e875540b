"""A flagged unit along time."""

from dataclasses import replace

import numpy as np
import pytest

from habitus.domain.reporting.cases import CaseEvent, Story
from habitus.domain.reporting.data import ReportData
from habitus.domain.reporting.timeline import fields_of, places, rows, strip

pytestmark = pytest.mark.plain


@pytest.fixture
def story(full_report: ReportData) -> Story:
    """The first story: eight events, reasons 1 and 2 about the fourth."""
    return full_report.cases[0].stories[0]


def events(story: Story, *bits: float) -> Story:
    """The story with as many events as these, of surprise in two fields, and no reasons."""
    return replace(
        story,
        reasons=(),
        events=tuple(
            CaseEvent(story.flag.event_time, "view", "", True, {"action": of / 2, "gap": of / 2})
            for of in bits
        ),
    )


def test_a_long_unit_lists_its_most_surprising_events_and_counts_the_others(
    full_report: ReportData,
) -> None:
    longest = max(
        (story for case in full_report.cases for story in case.stories),
        key=lambda story: len(story.events),
    )

    lines = rows(longest)

    listed = [row.event for row in lines if row.event is not None]
    assert len(listed) + sum(row.left_out for row in lines) == len(longest.events)
    assert max(longest.events, key=lambda event: event.bits) in listed
    assert len(listed) < len(longest.events)


def test_the_most_surprising_event_fills_the_width(story: Story) -> None:
    lines = rows(events(story, 1.0, 4.0))

    assert [row.bars for row in lines] == [
        (("action", 12.5), ("gap", 12.5)),
        (("action", 50.0), ("gap", 50.0)),
    ]


def test_events_follow_time_without_hiding_each_other() -> None:
    """Pauses of 0, 1 and 100 seconds are drawn as 0, 1 and 10, beside slots of 16."""
    middles, width = places(np.array([0.0, 0.0, 1.0, 101.0]))

    assert width == 16
    free = 1000 - 4 * 16
    assert middles == pytest.approx([8, 24, 40 + free / 11, 56 + free])


def test_more_events_than_slots_share_the_width() -> None:
    middles, width = places(np.arange(500.0))

    assert width == 2
    assert middles == pytest.approx(np.arange(500) * 2 + 1)


def test_bars_are_as_high_as_the_surprise_and_stand_on_each_other(story: Story) -> None:
    drawn = strip(events(story, 1.0, 4.0))

    # Two events at once, in slots of 16; the fields stand above one another.
    assert drawn.bars == {
        "action": "M8.0 87.5v12.5M24.0 50.0v50.0",
        "gap": "M8.0 75.0v12.5M24.0 0.0v50.0",
    }
    assert drawn.width == pytest.approx(12.8)
    assert drawn.most == 4.0


def test_reasons_are_numbered_above_their_events(story: Story) -> None:
    drawn = strip(story)

    (mark,) = drawn.marks  # the third reason is about no event
    assert (mark.text, mark.name, mark.roomy) == ("1, 2", "amount, new device", True)
    assert 0 < mark.left < 100
    assert mark.bottom == pytest.approx(100 * story.events[3].bits / drawn.most)
    assert [drawn.ticks[0].text, drawn.ticks[-1].text] == ["02:41:07", "02:43:34"]
    assert set(drawn.bars) == set(fields_of(story))


def test_reasons_are_named_where_there_is_room(story: Story) -> None:
    """Of 8 events at equal pauses the 4th stands alone; the 7th and 8th touch, at the edge."""
    reasons = [replace(story.reasons[0], event_index=index) for index in (3, 6, 7)]

    drawn = strip(replace(story, reasons=tuple(reasons)))

    assert [mark.roomy for mark in drawn.marks] == [True, False, False]


def test_events_without_surprise_have_no_bar(story: Story) -> None:
    drawn = strip(events(story, 0.0))

    assert set(drawn.bars.values()) == {""}
    assert len(drawn.ticks) == 1
