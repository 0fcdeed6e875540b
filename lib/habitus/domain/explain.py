"""Reasons in words, and as rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from habitus.domain.detectors.base import Reason
from habitus.domain.languages import WORDINGS
from habitus.domain.wording import ENDING
from habitus.setting_types import Language, UnitKind

_NAMED = 3  # reasons in a sentence; more are not read


@dataclass(frozen=True)
class _Group:
    """Reasons that say the same about different events."""

    reasons: tuple[Reason, ...]

    @property
    def first(self) -> Reason:
        return self.reasons[0]

    @property
    def share(self) -> float:
        return sum(reason.share for reason in self.reasons)

    @property
    def events(self) -> list[int]:
        return sorted(r.event_index for r in self.reasons if r.event_index is not None)

    @property
    def in_a_row(self) -> bool:
        return bool(self.events) and self.events[-1] - self.events[0] == len(self.reasons) - 1

    @property
    def when(self) -> tuple[int, int]:
        """Its place in the story: what is about the whole first, the end last."""
        if not self.events:
            return (2, 0) if (self.first.field, self.first.observed) == ENDING else (0, 0)
        return 1, self.events[0]


def summary(
    reasons: Sequence[Reason], unit_kind: UnitKind, p_value: float, language: Language
) -> str:
    """Say in one sentence what is strange about a unit, and how rare that is.

    Args:
        reasons: The unit's reasons, the strongest first; the more, the better repetitions show.
        unit_kind: What the unit is.
        p_value: Share of normal units at least as strange.
        language: Of the sentence.

    Returns:
        E.g. "From a new device, then outcome failure 12 times in a row (usually success);
        1 in 20,000 sessions is this strange."
    """
    groups: dict[tuple[str, str], list[Reason]] = {}
    for reason in reasons:
        groups.setdefault((reason.field, reason.observed), []).append(reason)
    strongest = sorted((_Group(tuple(group)) for group in groups.values()), key=lambda g: -g.share)[
        :_NAMED
    ]
    told = sorted(strongest, key=lambda group: group.when)
    wording = WORDINGS[language]
    phrases = [
        (
            wording.phrase(group.first, len(group.reasons), group.in_a_row),
            before is not None and group.when == before.when,
        )
        for before, group in zip([None, *told], told, strict=False)
    ]
    return wording.sentence(phrases, unit_kind, p_value)


def reason_rows(
    reasons: Sequence[Reason], event_ids: Sequence[str], event_times: Sequence[datetime]
) -> list[dict[str, object]]:
    """Reasons as values of `tables.REASONS`.

    Args:
        reasons: The unit's reasons, the strongest first.
        event_ids: [n] ids of the unit's events.
        event_times: [n] their times.
    """
    return [
        {
            "rank": rank,
            "event_index": reason.event_index,
            "event_id": None if reason.event_index is None else event_ids[reason.event_index],
            "event_time": None if reason.event_index is None else event_times[reason.event_index],
            "field": reason.field,
            "observed": reason.observed,
            "expected": [
                {"value": value, "probability": probability}
                for value, probability in reason.expected
            ],
            "surprise": reason.surprise,
            "share": reason.share,
            "against": reason.against,
        }
        for rank, reason in enumerate(reasons, start=1)
    ]
