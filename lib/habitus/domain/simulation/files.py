"""The shop's files, as rows that each hold a block's lines for one file."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from habitus.config import SimulateSettings
from habitus.domain.simulation.mess import FileText, event_text, header, label_text
from habitus.domain.simulation.shop import (
    EVENT_COLUMNS,
    LABEL_COLUMNS,
    generator_of,
    simulate_block,
)

# A file's header comes before all blocks.
HEADER_BLOCK = -1
COLUMNS = {"events": EVENT_COLUMNS, "labels": LABEL_COLUMNS}
FILE_ROWS = pa.schema(
    [
        ("folder", pa.string()),
        ("day", pa.int32()),
        ("block", pa.int64()),
        ("lines", pa.int64()),
        ("value", pa.string()),
    ]
)


def file_rows(
    settings: SimulateSettings, seed: int, blocks: Iterable[int]
) -> Iterator[pa.RecordBatch]:
    """Simulate blocks, and lay their lines out by folder and day of arrival.

    Args:
        settings: The shop.
        seed: Seed of the whole simulation.
        blocks: Numbers of the blocks of one task; the task writes one file per folder and day.

    Yields:
        Rows with `FILE_ROWS`. Sorted by block, the values of a folder and day make its file:
        a header first, with block -1.
    """
    begun: set[tuple[str, int]] = set()
    start = int(settings.start.timestamp() * 1000)
    for block in blocks:
        events, labels = simulate_block(settings, seed, block)
        # What goes wrong has its own randomness: the events are the same at any rate of it.
        generator = generator_of(seed, block).spawn(1)[0]
        texts = {
            "events": event_text(generator, events, settings.mess, start),
            "labels": label_text(labels, start),
        }
        for folder, text in texts.items():
            days = text.days.tolist()
            if block == 0 and folder == "labels" and not settings.attack_share:
                days = [0]  # without attacks there is no label, but a file to look for them in
            fresh = [day for day in days if (folder, day) not in begun]
            begun.update((folder, day) for day in fresh)
            yield _headers(folder, fresh)
            yield _bodies(folder, block, text)


def _headers(folder: str, days: list[int]) -> pa.RecordBatch:
    count = len(days)
    line = header(COLUMNS[folder])
    return pa.record_batch(
        [[folder] * count, days, [HEADER_BLOCK] * count, [0] * count, [line] * count],
        schema=FILE_ROWS,
    )


def _bodies(folder: str, block: int, text: FileText) -> pa.RecordBatch:
    count = len(text.days)
    return pa.record_batch(
        [
            pa.array([folder] * count, pa.string()),
            pa.array(text.days, pa.int32()),
            pa.array([block] * count, pa.int64()),
            pa.array(text.lines, pa.int64()),
            text.texts,
        ],
        schema=FILE_ROWS,
    )
