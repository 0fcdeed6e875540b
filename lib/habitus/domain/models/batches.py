"""Padded batches of units, grouped by length so that little of them is padding."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from habitus.domain.models.shape import BehaviourShape
from habitus.domain.units import Floats, Ints, Units

MOST_POSITIONS = 16_384  # of a batch that is scored; attention learns from no more either


@dataclass(frozen=True)
class Batch:
    """B units, padded to T positions.

    Args:
        tokens: [B, T, F] tokens in the order of the model's fields; 0 after a unit's end. At the
            end position of a unit only the action has a token.
        context: [B, C] raw features that the model conditions on, NaN where there is no history.
        judged: [B, T] whether a position counts: not history, not padding.
    """

    tokens: Ints
    context: Floats
    judged: npt.NDArray[np.bool_]


class Pooled(NamedTuple):
    """B units, and how the states of each are brought together.

    Args:
        tokens: [B, T + 1, F] tokens as in `Batch`, and nothing at the end.
        context: [B, C] as in `Batch`.
        shares: [B, P, T + 1] weights of the states: of the last one, and for sessions of all.
    """

    tokens: Ints
    context: Floats
    shares: Floats


def batch_of(units: Units, shape: BehaviourShape) -> Batch:
    """Lay units out as one batch, as long as the longest of them."""
    return _laid_out(units, _rows(units, shape), np.arange(len(units)), shape)


def _rows(units: Units, shape: BehaviourShape) -> Ints:
    """[M + 1, F] the tokens of each event in the order of the model's fields, and of padding."""
    rows = np.zeros((int(units.offsets[-1]) + 1, len(shape.fields)), dtype=np.int32)
    for index, field in enumerate(shape.fields):
        rows[:-1, index] = units.tokens[field]
    return rows


def _laid_out(
    units: Units, rows: Ints, chosen: npt.NDArray[np.int64], shape: BehaviourShape
) -> Batch:
    """The batch of some units, by the tokens of all their events."""
    lengths, closed = units.lengths[chosen], units.closed[chosen]
    positions = lengths + closed if shape.ends else lengths
    steps = np.arange(positions.max(initial=1))
    events = units.offsets[chosen, None] + steps
    tokens = rows[np.where(steps < lengths[:, None], events, len(rows) - 1)]
    if shape.ends:
        tokens[closed, lengths[closed], 0] = shape.end
    judged = (steps >= units.scored_from[chosen, None]) & (steps < positions[:, None])
    context = units.context[chosen[:, None], list(shape.columns)]
    return Batch(tokens=tokens, context=context, judged=judged)


def pooled(batch: Batch, lengths: npt.NDArray[np.int64], shape: BehaviourShape) -> Pooled:
    """A batch for a model that judges units as a whole by the states that have read their events.

    Args:
        batch: B units.
        lengths: [B] their events, at least 1.
        shape: The model's.
    """
    # The state that has read a unit's last event is one position further.
    tokens = np.pad(batch.tokens, ((0, 0), (0, 1), (0, 0)))
    steps, ends = np.arange(tokens.shape[1]), lengths[:, None]
    shares = [steps == ends]
    if shape.ends:
        shares.append(((steps >= 1) & (steps <= ends)) / ends)
    return Pooled(tokens, batch.context, np.stack(shares, axis=1).astype(np.float32))


def joined(parts: list[Units]) -> Units:
    """Units end to end, in this order. At least one part."""
    starts = np.cumsum([0] + [int(part.offsets[-1]) for part in parts])
    return Units(
        offsets=np.concatenate(
            [[0], *(part.offsets[1:] + start for part, start in zip(parts, starts, strict=False))]
        ).astype(np.int64),
        tokens={
            name: np.concatenate([part.tokens[name] for part in parts]) for name in parts[0].tokens
        },
        amounts=np.concatenate([part.amounts for part in parts]),
        gaps=np.concatenate([part.gaps for part in parts]),
        context=np.concatenate([part.context for part in parts]),
        scored_from=np.concatenate([part.scored_from for part in parts]),
        closed=np.concatenate([part.closed for part in parts]),
    )


def by_length(
    units: Units, size: int, shape: BehaviourShape, positions: int = MOST_POSITIONS
) -> Iterator[tuple[npt.NDArray[np.int64], Batch]]:
    """All units in batches of like length, each with the units' indices.

    A batch has at most `size` units, and no more than this many positions unless it is one unit,
    which bounds its memory.
    """
    rows = _rows(units, shape)
    for run in _runs(shape.lengths(units), size, shape, positions):
        yield run, _laid_out(units, rows, run, shape)


def padding(
    lengths: npt.NDArray[np.int64],
    size: int,
    shape: BehaviourShape,
    positions: int = MOST_POSITIONS,
) -> tuple[int, int]:
    """How many positions `by_length` lays units of these lengths out to, and the padding in it."""
    runs = _runs(lengths, size, shape, positions)
    laid_out = sum(len(run) * int(lengths[run[-1]]) for run in runs)
    return laid_out, laid_out - int(lengths.sum())


def _runs(
    lengths: npt.NDArray[np.int64], size: int, shape: BehaviourShape, positions: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the units of each batch, the longest units first."""
    order = np.argsort(lengths, kind="stable")
    loads = shape.load(lengths)
    end = len(order)
    while end:
        most = max(1, positions // int(loads[order[end - 1]]))
        start = max(end - min(size, most), 0)
        yield order[start:end]
        end = start


def shuffled(
    parts: Iterator[Units], size: int, buffer: int, shape: BehaviourShape, seed: tuple[int, ...]
) -> Generator[Batch]:
    """Batches of like length and `size` units on average, in random order, while parts come.

    Units gather until there are `buffer` of them; then they are cut by length, so that every batch
    has about as many positions: short units come in larger batches than long ones. As a step
    follows the mean over its batch, an event of a short unit then counts as much as one of a long.
    Of units that are so long that attention takes most of the memory, batches are smaller.

    Args:
        parts: Units as they are read.
        size: Units per batch, on average.
        buffer: Units to gather before they are cut.
        shape: The model's.
        seed: Decides the order, together with the order of `parts`.
    """
    random = np.random.default_rng(seed)
    held: list[Units] = []
    for part in parts:
        held.append(part)
        if sum(len(part) for part in held) < max(buffer, size):
            continue
        units = joined(held)
        rows = _rows(units, shape)
        lengths = shape.lengths(units)
        mixed = random.permutation(len(units))
        order = mixed[np.argsort(lengths[mixed], kind="stable")]
        loads = shape.load(lengths)
        needed = -(-int((loads - lengths).sum()) // MOST_POSITIONS)
        batches = cut_evenly(order, loads[order], max(len(units) // size, needed))
        for index in random.permutation(len(batches)):
            yield _laid_out(units, rows, batches[index], shape)
        held = []


def bounded(
    run: npt.NDArray[np.int64], units: Units, shape: BehaviourShape
) -> list[npt.NDArray[np.int64]]:
    """Cut a run of units until none takes more memory than one that is scored, or is one unit."""
    longest = int(shape.load(shape.lengths(units)[run]).max(initial=1))
    most = max(1, MOST_POSITIONS // longest)
    return np.array_split(run, -(-len(run) // most))


def cut_evenly(
    order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], count: int
) -> list[npt.NDArray[np.int64]]:
    """Cut [N] units of [N] lengths into at most `count` runs of about as many positions each."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, np.arange(1, count) * ends[-1] / count)
    return [run for run in np.split(order, cuts) if len(run)]
