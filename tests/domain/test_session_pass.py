"""The pass over Arrow batches against the words of the rule, however the batches are cut."""

import itertools
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from event_streams import START, Row, hinted_streams
from hypothesis import given
from hypothesis import strategies as st
from session_words import rule, sessions_by_words, told

from habitus.domain.session_pass import NOVEL, sessions_of, with_novelty
from habitus.domain.sessions import rule_of
from habitus.tables import SESSION_EVENT
from habitus.unit_settings import SessionSettings

pytestmark = pytest.mark.plain

FIELDS = [column.name for column in SESSION_EVENT]
GIVEN = [name for name in FIELDS if name not in NOVEL]
TYPES = {"event_time": pa.timestamp("us", tz="UTC"), "amount": pa.float64()}
NOW = START + timedelta(hours=5)


def batches(rows: list[Row], cuts: list[int]) -> list[pa.RecordBatch]:
    names = ["user_id", "session_hint", *GIVEN]
    columns = {
        name: pa.array([row.get(name) for row in rows], TYPES.get(name, pa.string()))
        for name in names
    }
    whole = pa.RecordBatch.from_pydict(columns)
    bounds = sorted({0, len(rows), *(cut % len(rows) for cut in cuts)})
    return [whole.slice(start, end - start) for start, end in itertools.pairwise(bounds)]


def passed(rows: list[Row], settings: SessionSettings, cuts: list[int]) -> list[tuple[Any, ...]]:
    by_time = sorted(rows, key=lambda row: (row["user_id"], row["event_time"], row["event_id"]))
    marked = list(with_novelty(batches(by_time, cuts)))
    if settings.by == "hint":
        whole = pa.Table.from_batches(marked)
        order = ["user_id", "session_hint", "event_time", "event_id"]
        by_stream = whole.sort_by([(name, "ascending") for name in order]).combine_chunks()
        marked = by_stream.to_batches(max_chunksize=1 + len(cuts))
    found = []
    for batch in sessions_of(marked, rule_of(settings, NOW), FIELDS):
        found += batch.to_pylist()
    found.sort(key=lambda row: (row["user_id"], row["started_at"], told(row)[1]))
    return [told(row) for row in found]


@given(
    rows=hinted_streams(),
    by=st.sampled_from(["gap", "hint", "both"]),
    max_events=st.integers(2, 5),
    max_hours=st.integers(1, 4),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_sessions_are_those_of_the_words_however_batches_are_cut(
    rows: list[Row], by: str, max_events: int, max_hours: int, cuts: list[int]
) -> None:
    settings = rule(by=by, max_events=max_events, max_duration=timedelta(hours=max_hours))

    assert passed(rows, settings, cuts) == sessions_by_words(rows, settings, NOW)
