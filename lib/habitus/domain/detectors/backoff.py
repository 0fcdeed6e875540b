"""Counts of values after contexts, and the interpolated probabilities that follow from them.

Witten and Bell (1991), "The zero-frequency problem", method C, in the recursive form of Chen and
Goodman (1999), "An empirical study of smoothing techniques for language modeling", section 2:

    P(w | h) = (c(h, w) + t(h) P(w | h')) / (c(h) + t(h))

where c counts, t(h) is the number of distinct values seen after the context h, h' is the next
shorter context, and below the shortest one all values are equally likely. A context that was seen
exactly as often as the next shorter one tells nothing more and is passed over: it would count the
same events as evidence again, and make what never followed less likely with every length.

Contexts are packed into one integer each, tables are sorted arrays, and a look-up is a binary
search, so that millions of events are looked up without a Python loop.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

from habitus.errors import ArtefactError

Keys = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """What followed the contexts of one length.

    Args:
        contexts: [C] packed contexts, ascending.
        totals: [C] how often each was seen.
        kinds: [C] how many distinct values followed it.
        pairs: [P] context * size + value, ascending.
        counts: [P] how often each pair was seen.
    """

    contexts: Keys
    totals: Keys
    kinds: Keys
    pairs: Keys
    counts: Keys

    @classmethod
    def of(cls, contexts: Keys, values: Keys, size: int) -> "Counts":
        """Count [K] values after their [K] contexts; values are below `size`."""
        pairs, counts = np.unique(contexts * size + values, return_counts=True)
        distinct, first = np.unique(pairs // size, return_index=True)
        return cls(
            contexts=distinct,
            totals=np.add.reduceat(counts, first),
            kinds=np.diff(np.append(first, len(pairs))),
            pairs=pairs,
            counts=counts,
        )


@dataclass(frozen=True)
class BackOff:
    """Probabilities of one field's values, interpolated over contexts of growing length.

    Args:
        size: Number of values, 0 (which never happens) included.
        levels: Counts by context, the shortest first.
    """

    size: int
    levels: tuple[Counts, ...]

    @classmethod
    def fit(cls, contexts: Sequence[Keys], values: Keys, size: int) -> "BackOff":
        """Count values after each of their contexts.

        Args:
            contexts: [K] packed contexts of each value, the shortest first.
            values: [K] values from 1 to size - 1; after none at all every value is as likely.
            size: Number of values, 0 included.
        """
        return cls(size, tuple(Counts.of(context, values, size) for context in contexts))

    def probabilities(
        self, contexts: Sequence[Keys], values: Keys, leave_out: bool = False
    ) -> Reals:
        """[K] probability of each value given its contexts, the shortest first.

        With `leave_out` each value is taken out of the counts before it is looked up, so that
        the values that were counted can be judged as if they were new.
        """
        out = int(leave_out)
        probabilities = np.full(len(values), 1 / (self.size - 1))
        shorter = np.full(len(values), -1)
        for level, context in zip(self.levels, contexts, strict=True):
            if not len(level.contexts):
                continue
            place, found = _find(level.contexts, context)
            totals = np.where(found, level.totals[place] - out, 0)
            kinds = np.where(found, level.kinds[place], 0)
            place, found = _find(level.pairs, context * self.size + values)
            counts = np.where(found, level.counts[place] - out, 0)
            kinds -= found & (counts == 0)
            tells = (totals > 0) & (totals != shorter)
            interpolated = (counts + kinds * probabilities) / np.maximum(totals + kinds, 1)
            probabilities = np.where(tells, interpolated, probabilities)
            shorter = totals
        return probabilities

    def distributions(self, contexts: Sequence[Keys]) -> Reals:
        """[K, size] probability of every value given K contexts; 0 for the value 0."""
        values = np.tile(np.arange(1, self.size), len(contexts[0]))
        spread = [np.repeat(context, self.size - 1) for context in contexts]
        known = self.probabilities(spread, values).reshape(-1, self.size - 1)
        return np.pad(known, ((0, 0), (1, 0)))

    def to_arrays(self, prefix: str) -> dict[str, Keys]:
        """All counts, by names that start with the prefix."""
        return {
            f"{prefix}.{index}.{part.name}": array
            for index, level in enumerate(self.levels)
            for part, array in zip(fields(level), astuple(level), strict=True)
        }

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, npt.NDArray[np.generic]], prefix: str, size: int, depth: int, at: str
    ) -> "BackOff":
        """Read what `to_arrays` wrote, of `depth` contexts.

        Raises:
            ArtefactError: An array is missing or does not hold counts; `at` names the file.
        """
        levels = []
        for index in range(depth):
            found = {}
            for part in fields(Counts):
                name = f"{prefix}.{index}.{part.name}"
                array = arrays.get(name)
                if array is None or array.dtype != np.int64 or array.ndim != 1:
                    raise ArtefactError(
                        at, f"array {name!r} is missing or damaged", "Train the model again."
                    )
                found[part.name] = array.astype(np.int64)
            level = Counts(**found)
            if (
                not len(level.contexts) == len(level.totals) == len(level.kinds)
                or len(level.pairs) != len(level.counts)
                or (np.diff(level.contexts) <= 0).any()
                or (np.diff(level.pairs) <= 0).any()
            ):
                problem = f"arrays of {prefix}.{index} do not fit together"
                raise ArtefactError(at, problem, "Train the model again.")
            levels.append(level)
        return cls(size, tuple(levels))


def _find(keys: Keys, wanted: Keys) -> tuple[Keys, npt.NDArray[np.bool_]]:
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return place, keys[place] == wanted
