"""Reasons in words, and as rows of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from habitus.domain.detectors.base import Reason
from habitus.setting_types import UnitKind

_NAMED = 3  # reasons in a sentence; more are not read
_LIKELY = 0.1  # what is less likely than this is not worth naming as expected
_RAREST = 1e-6  # a p-value below this rests on the model of the tail alone
# How a field's value reads in a sentence; other fields read as "field value".
_PHRASES = {
    "action": "{}",
    "amount": "an amount of {}",
    "gap": "a gap of {}",
    "hour": "at {}",
}
_NEW = {"new_device": "device", "new_network": "network", "new_counterparty": "counterparty"}
_THE_END = ("action", "the end")


@dataclass(frozen=True)
class _Group:
    """Reasons that say the same about different events."""

    reasons: tuple[Reason, ...]

    @property
    def first(self) -> Reason:
        return self.reasons[0]

    @property
    def surprise(self) -> float:
        return sum(reason.surprise for reason in self.reasons)

    @property
    def events(self) -> list[int]:
        return sorted(r.event_index for r in self.reasons if r.event_index is not None)


def summary(reasons: Sequence[Reason], unit_kind: UnitKind, p_value: float) -> str:
    """Say in one sentence what is strange about a unit, and how rare that is.

    Args:
        reasons: The unit's reasons, the strongest first; the more, the better repetitions show.
        unit_kind: What the unit is.
        p_value: Share of normal units at least as strange.

    Returns:
        E.g. "From a new device, then outcome failure 12 times in a row (usually success);
        1 in 20,000 sessions is this strange."
    """
    groups: dict[tuple[str, str], list[Reason]] = {}
    for reason in reasons:
        groups.setdefault((reason.field, reason.observed), []).append(reason)
    strongest = sorted(
        (_Group(tuple(group)) for group in groups.values()), key=lambda g: -g.surprise
    )[:_NAMED]
    text, before = "", None
    for group in sorted(strongest, key=_when):
        if text:
            text += ", " if _when(group) == before else ", then "
        text, before = text + _phrase(group), _when(group)
    text = text or f"the {unit_kind} as a whole is unusual"
    return f"{text[0].upper()}{text[1:]}; {_rarity(unit_kind, p_value)}."


def reason_rows(
    reasons: Sequence[Reason], event_ids: Sequence[str], event_times: Sequence[datetime]
) -> list[dict[str, object]]:
    """Reasons as rows of `tables.REASON`.

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
        }
        for rank, reason in enumerate(reasons, start=1)
    ]


def _when(group: _Group) -> tuple[int, int]:
    """The place of a group in the story: what is about the whole first, the end last."""
    if not group.events:
        return (2, 0) if (group.first.field, group.first.observed) == _THE_END else (0, 0)
    return 1, group.events[0]


def _phrase(group: _Group) -> str:
    reason, times = group.first, len(group.reasons)
    usual = [
        value
        for rank, (value, probability) in enumerate(reason.expected[:2])
        if rank == 0 or probability >= _LIKELY
    ]
    text = _observed(reason)
    if times > 1:
        text += f" {times} times"
        if group.events[-1] - group.events[0] == times - 1:
            text += " in a row"
    if not usual or reason.field in _NEW:
        return text
    if reason.field == "action":
        return f"{text} where {' or '.join(usual).replace('_', ' ')} was expected"
    return f"{text} (usually {' or '.join(usual)})"


def _observed(reason: Reason) -> str:
    field, value = reason.field.replace("_", " "), reason.observed
    if (reason.field, value) == _THE_END:
        return "it ends"
    if reason.field in _NEW and value in ("yes", "no"):
        return f"{'from' if field != 'new counterparty' else 'with'} a " + (
            field if value == "yes" else f"known {_NEW[reason.field]}"
        )
    if reason.field == "action":
        value = value.replace("_", " ")
    if value == "none":
        return f"no {field}"
    if value == "a rare or new value":
        return f"a rare or new {field}"
    return _PHRASES.get(reason.field, f"{field} {{}}").format(value)


def _rarity(unit_kind: UnitKind, p_value: float) -> str:
    units = f"{unit_kind}s"
    if p_value < _RAREST:
        return f"fewer than 1 in {1 / _RAREST:,.0f} {units} are this strange"
    if p_value > _LIKELY:
        return f"{p_value:.0%} of {units} are this strange"
    return f"1 in {float(f'{1 / p_value:.2g}'):,.0f} {units} is this strange"
