"""What a Markov model judges of a batch of units: one step per event and field, in its context."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitus.domain.detectors.backoff import Keys
from habitus.domain.units import Units
from habitus.domain.vocabulary import PADDING, Vocabulary
from habitus.errors import TrainingError

_ORDER = 5  # actions looked back on: better than 3 on HDFS, and 8 is no better than 5
_BITS_OF_A_KEY = 62


@dataclass(frozen=True)
class Steps:
    """One field of what is judged: events, and for the action the ends of closed units.

    Args:
        unit: [K] index of the unit.
        event: [K] index of the event in the flat arrays; for an end that of the last event.
        ends: [K] whether it is an end.
        value: [K] token, or for an end the number of tokens.
        like: [K] the action whose steps this one is compared with.
        contexts: [K] packed contexts, the shortest first.
    """

    unit: Keys
    event: Keys
    ends: npt.NDArray[np.bool_]
    value: Keys
    like: Keys
    contexts: Sequence[Keys]


def values_of(vocabulary: Vocabulary, name: str) -> int:
    """How many values a step of the field can have, padding included."""
    return vocabulary.field(name).size + (name == "action")


def order_for(vocabulary: Vocabulary) -> int:
    """How many actions to look back on, so that a context and a value fit into one integer."""
    largest = max(values_of(vocabulary, name) for name in vocabulary.field_names)
    if 3 * np.log2(largest) > _BITS_OF_A_KEY:
        raise TrainingError(
            "sequences.vocabulary_size", f"a field has {largest} values", "Keep fewer."
        )
    return min(_ORDER, int(_BITS_OF_A_KEY / np.log2(values_of(vocabulary, "action"))) - 1)


def steps_of(units: Units, vocabulary: Vocabulary, name: str, order: int) -> Steps:
    """The steps of one field of N units; history is looked back on, but makes no step.

    Args:
        units: The units.
        vocabulary: What the tokens mean.
        name: The field.
        order: How many actions an action's contexts look back on.
    """
    action = units.tokens["action"].astype(np.int64)
    judged = np.flatnonzero(units.scored & (units.tokens[name] != PADDING))
    none = np.zeros(len(judged), dtype=np.int64)
    unit = units.unit_of_event[judged]
    size = values_of(vocabulary, name)
    if name != "action":
        value = units.tokens[name].astype(np.int64)
        own = action[judged]
        return Steps(
            unit=unit,
            event=judged,
            ends=none.astype(bool),
            value=value[judged],
            like=own,
            contexts=(none, own, own * size + _before(value, units, 1)[judged]),
        )
    closed = np.flatnonzero(units.closed & (units.lengths > 0))
    last = units.offsets[1:][closed] - 1
    context = np.zeros(len(judged) + len(closed), dtype=np.int64)
    contexts, like = [context], context
    for back in range(1, order + 1):
        earlier = np.concatenate(
            [_before(action, units, back)[judged], _before(action, units, back - 1)[last]]
        )
        like = earlier if back == 1 else like
        contexts.append(contexts[-1] + earlier * size ** (back - 1))
    return Steps(
        unit=np.concatenate([unit, closed]),
        event=np.concatenate([judged, last]),
        ends=np.arange(len(context)) >= len(judged),
        value=np.concatenate([action[judged], np.full(len(closed), size - 1)]),
        like=like,
        contexts=contexts,
    )


def _before(values: Keys, units: Units, back: int) -> Keys:
    """[M] the value `back` events earlier in the same unit; padding before its beginning."""
    return np.where(units.position >= back, np.roll(values, back), PADDING)
