"""How what is strange reads in English."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from habitus.domain.detectors.base import THE_END, Reason
from habitus.domain.naming import feature_in_words, in_words
from habitus.setting_types import UnitKind

ENDING = ("action", THE_END)
NEW = {"new_device": "device", "new_network": "network", "new_counterparty": "counterparty"}
RAREST = 1e-6  # a p-value below this rests on the model of the tail alone
NAMED = 2  # shared things in the sentence of a case
LIKELY = 0.1  # what is less likely than this is not worth naming as expected
# How a field's value reads in a sentence; other fields read as "field value".
_PHRASES = {
    "action": "{}",
    "amount": "an amount of {}",
    "gap": "a gap of {}",
    "hour": "at {}",
}


class Wording(Protocol):
    """A language."""

    def phrase(self, reason: Reason, times: int, in_a_row: bool) -> str:
        """What is strange about `times` events, and what was usual."""
        ...

    def sentence(
        self, phrases: Sequence[tuple[str, bool]], unit_kind: UnitKind, p_value: float
    ) -> str:
        """All phrases, each with whether it is about the same event as the one before."""
        ...

    def case(self, case: Mapping[str, Any], strangest: str) -> str:
        """A row of `cases`, with the summary of its strangest flag."""
        ...

    def shift(self, shift: Mapping[Any, Any], period: str) -> str:
        """A row of `volume_shifts`, in periods of an hour or day."""
        ...


class English:
    """English."""

    def phrase(self, reason: Reason, times: int, in_a_row: bool) -> str:
        """E.g. "outcome failure 12 times in a row (usually success)"."""
        usual = usual_values(reason)
        text = _observed(reason)
        if times > 1:
            text += f" {times} times" + (" in a row" if in_a_row else "")
        if not usual:
            return text
        if reason.field == "action":
            return f"{text} where {' or '.join(usual).replace('_', ' ')} was expected"
        return f"{text} (usually {' or '.join(usual)})"

    def sentence(
        self, phrases: Sequence[tuple[str, bool]], unit_kind: UnitKind, p_value: float
    ) -> str:
        """E.g. "From a new device, then payment 12 times; 1 in 200 sessions is this strange."."""
        text = ""
        for phrase, same in phrases:
            text += (", " if same else ", then ") * bool(text) + phrase
        text = text or f"the {unit_kind} as a whole is unusual"
        return f"{text[0].upper()}{text[1:]}; {_rarity(unit_kind, p_value)}."

    def case(self, case: Mapping[str, Any], strangest: str) -> str:
        """E.g. "5 users share device d1 (5 of its 6 users): 14 flags in 2.0 hours; ..."."""
        named = [
            f"{one['kind']} {one['value']} ({one['flagged_users']} of its {one['users']} users)"
            for one in case["shared"][:NAMED]
        ]
        who = f"{case['n_users']} users share {' and '.join(named)}"
        if case["n_users"] == 1:
            who = f"User {case['user_ids'][0]}"
        several = case["n_flags"] > 1
        time = f" in {hours_of(case):,.1f} hours" if several else ""
        amount = f", {in_digits(case['amount_sum'])} in amounts" if case["amount_sum"] else ""
        flags = f"{case['n_flags']} flag{'s' * several}"
        return f"{who}: {flags}{time}{amount}; the strangest: {strangest}"

    def shift(self, shift: Mapping[Any, Any], period: str) -> str:
        """E.g. "seller b: events 1,920 instead of 1,600 (1,510 to 1,690 is usual) from ..."."""
        observed, expected, low, high = sums_of(shift)
        return (
            f"{shift['segment_kind']} {shift['segment']}: {shift['measure']} {observed} instead of "
            f"{expected} ({low} to {high} is usual) from {shift['period_start']:%Y-%m-%d %H:%M} "
            f"to {shift['period_end']:%Y-%m-%d %H:%M}; {_rarity(period, shift['p_value'])}."
        )


def usual_values(reason: Reason) -> list[str]:
    """The one or two likeliest values, where they are worth naming."""
    if reason.field in NEW:
        return []
    return [
        value
        for rank, (value, probability) in enumerate(reason.expected[:2])
        if rank == 0 or probability >= LIKELY
    ]


def hours_of(case: Mapping[str, Any]) -> float:
    """How long a case lasts."""
    hours: float = (case["ended_at"] - case["started_at"]).total_seconds() / 3600
    return hours


def sums_of(shift: Mapping[Any, Any]) -> tuple[str, ...]:
    """What was observed and expected, and between what is usual."""
    sums = [shift[name] for name in ("observed", "expected", "low", "high")]
    return tuple(in_digits(value) for value in sums)


def in_digits(value: float) -> str:
    """A volume or a sum of amounts: whole if it is large, else to two digits."""
    return f"{value:,.0f}" if abs(value) >= 10 else _in_two_digits(value)


def in_cents(amount: float) -> str:
    """One amount: to a hundredth, and one that is small, as coins may be, to two digits."""
    return f"{amount:,.2f}" if abs(amount) >= 0.1 or amount == 0 else _in_two_digits(amount)


def _in_two_digits(value: float) -> str:
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def one_in(p_value: float) -> str:
    """Of how many units one is as strange, to two digits."""
    return f"{float(f'{1 / p_value:.2g}'):,.0f}"


def _observed(reason: Reason) -> str:
    field, value = in_words(reason.field), reason.observed
    if (reason.field, value) == ENDING:
        return "it ends"
    if reason.field in NEW and value in ("yes", "no"):
        return f"{'from' if field != 'new counterparty' else 'with'} a " + (
            field if value == "yes" else f"known {NEW[reason.field]}"
        )
    if reason.field == "action":
        value = value.replace("_", " ")
    if feature_in_words(reason.field):
        return f"{field}: {value}"
    if value == "none":
        return f"no {field}"
    if value == "a rare or new value":
        return f"a rare or new {field}"
    return _PHRASES.get(reason.field, f"{field} {{}}").format(value)


def _rarity(unit: str, p_value: float) -> str:
    units = f"{unit}s"
    if p_value < RAREST:
        return f"fewer than 1 in {1 / RAREST:,.0f} {units} are this strange"
    if p_value > LIKELY:
        return f"{p_value:.0%} of {units} are this strange"
    return f"1 in {one_in(p_value)} {units} is this strange"
