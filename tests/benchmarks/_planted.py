"""Sessions changed in a known way, each beside one of the same length that was not changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from habitus.domain.units import Units

LEAST, MOST = 8, 100
DISTINCT = 3
GROUPS = 8
CYCLE = 4  # most pages of a loop
TRIES = 50  # to find a donor of another group

Indices = NDArray[np.int64]
# Sessions of which each is changed at random.
Change = Callable[[Units, np.random.Generator], Units]


@dataclass(frozen=True)
class Pairs:
    """P changed sessions and P that are as they were, of the same lengths."""

    changed: Units
    unchanged: Units

    def scores(self, score: Callable[[Units], NDArray[np.float64]]) -> NDArray[np.float64]:
        """[P, 2] scores of the changed and the unchanged session of each pair."""
        return np.stack([score(self.changed), score(self.unchanged)], axis=1)


def fit_for_planting(sessions: Units) -> Units:
    """Those of the right length with enough distinct pages."""
    _, owners = first_appearances(sessions)
    distinct = np.bincount(owners, minlength=len(sessions))
    chosen = (sessions.lengths >= LEAST) & (sessions.lengths <= MOST) & (distinct >= DISTINCT)
    return sessions.take(np.flatnonzero(chosen))


def paired(sessions: Units, count: int, random: np.random.Generator) -> tuple[Units, Units]:
    """At most `count` pairs of sessions of the same length, no session twice."""
    order = np.lexsort((random.random(len(sessions)), sessions.lengths))
    lengths = sessions.lengths[order]
    rank = np.arange(len(order)) - np.searchsorted(lengths, lengths)
    first = np.flatnonzero((rank[:-1] % 2 == 0) & (lengths[:-1] == lengths[1:]))
    first = random.permutation(first)[:count]
    return sessions.take(order[first]), sessions.take(order[first + 1])


def in_random_order(sessions: Units, random: np.random.Generator) -> Units:
    """The pages of each session in random order."""
    order = np.lexsort((random.random(len(sessions.unit_of_event)), sessions.unit_of_event))
    return _with_pages(sessions, sessions.tokens["action"][order])


def looped(sessions: Units, random: np.random.Generator) -> Units:
    """The first two to CYCLE distinct pages of each session again and again."""
    firsts, owners = first_appearances(sessions)
    rank = np.arange(len(firsts)) - np.searchsorted(owners, owners)
    kept = rank < CYCLE
    cycle = np.zeros((len(sessions), CYCLE), dtype=np.int32)
    cycle[owners[kept], rank[kept]] = sessions.tokens["action"][firsts[kept]]
    most = (cycle > 0).sum(axis=1)
    size = random.integers(2, most + 1)
    unit = sessions.unit_of_event
    return _with_pages(sessions, cycle[unit, sessions.position % size[unit]])


class Mixture:
    """Puts the second half of a session of another group of users in place of the own one.

    Args:
        training: Sessions whose shares of pages are clustered into groups.
        donors: Sessions whose halves are taken.
        seed: Of the clustering.
    """

    def __init__(self, training: Units, donors: Units, seed: int) -> None:
        self._size = int(training.tokens["action"].max()) + 1
        self._groups = MiniBatchKMeans(GROUPS, random_state=seed, n_init=3)
        self._groups.fit(self._shares(training))
        # By length, so that those as long as a session lie together.
        self._donors = donors.take(np.argsort(donors.lengths, kind="stable"))

    def __call__(self, sessions: Units, random: np.random.Generator) -> Units:
        """The changed sessions; those without a donor stay as they are."""
        group, of_donor = self._group(sessions), self._group(self._donors)
        start = np.searchsorted(self._donors.lengths, sessions.lengths)
        stop = np.searchsorted(self._donors.lengths, sessions.lengths, side="right")
        drawn = random.integers(start, stop, (TRIES, len(sessions)))
        other = of_donor[drawn] != group
        donor = drawn[other.argmax(axis=0), np.arange(len(sessions))]
        unit = sessions.unit_of_event
        late = sessions.position >= (sessions.lengths // 2)[unit]
        taken = late & other.any(axis=0)[unit]
        theirs = self._donors.tokens["action"][
            self._donors.offsets[donor][unit] + sessions.position
        ]
        return _with_pages(sessions, np.where(taken, theirs, sessions.tokens["action"]))

    def _group(self, sessions: Units) -> Indices:
        groups: Indices = self._groups.predict(self._shares(sessions))
        return groups

    def _shares(self, sessions: Units) -> NDArray[np.float64]:
        cell = sessions.unit_of_event * self._size + sessions.tokens["action"]
        counts = np.bincount(cell, minlength=len(sessions) * self._size)
        return counts.reshape(-1, self._size) / sessions.lengths[:, None]


def first_appearances(sessions: Units) -> tuple[Indices, Indices]:
    """[D] events at which a page comes up in a session for the first time, and their sessions."""
    page = sessions.tokens["action"].astype(np.int64)
    cell = sessions.unit_of_event * (int(page.max()) + 1) + page
    _, events = np.unique(cell, return_index=True)
    events.sort()
    return events, sessions.unit_of_event[events]


def plant(
    sessions: Units,
    change: Change,
    count: int,
    random: np.random.Generator,
) -> Pairs:
    """Pairs of sessions, one of them changed; pairs that the change leaves alike are dropped."""
    before, unchanged = paired(sessions, count, random)
    changed = change(before, random)
    differs = changed.tokens["action"] != before.tokens["action"]
    kept = np.flatnonzero(np.bincount(changed.unit_of_event, differs) > 0)
    return Pairs(changed.take(kept), unchanged.take(kept))


def _with_pages(sessions: Units, pages: NDArray[np.int32]) -> Units:
    return replace(sessions, tokens={"action": pages})
