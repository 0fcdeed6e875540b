"""What the report tells of cases: flags, what happened, the users' habits and what links them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from habitus.domain.detectors.base import Reason
from habitus.domain.linking import USER

SEVERITIES = ("critical", "high", "medium", "low")
OPEN = "open"  # the status of what nobody has looked at


@dataclass(frozen=True)
class CaseEvent:
    """One event of a flagged unit.

    Args:
        time: When it happened, UTC.
        action: What the user did.
        detail: What is known beside it: item, amount, outcome, ...
        judged: Whether it is judged rather than history.
        surprise: Field -> bits of surprise.
        amount: Money involved; none where there is none.
    """

    time: datetime
    action: str
    detail: str
    judged: bool
    surprise: Mapping[str, float]
    amount: float | None = None

    @property
    def bits(self) -> float:
        """Surprise of all fields together."""
        return sum(self.surprise.values())


@dataclass(frozen=True)
class Flag:
    """One flagged unit: a row of `anomalies`, its case, and the kinds it is known to be by now.

    Args:
        case_kind: As in `Case`.
    """

    unit_id: str
    case_id: str
    user_id: str
    event_time: datetime
    score: float
    p_value: float
    severity: str
    summary: str
    decision: str
    status: str
    kinds: tuple[str, ...] = ()
    case_kind: str = USER


@dataclass(frozen=True)
class PastUnit:
    """A unit of the past that a flagged one is like.

    Args:
        user_id: Whose it was.
        own: Whether the flagged one is the same user's.
        ended_at: When it ended, UTC.
        similarity: Cosine of the two vectors.
        happened: What was done, the most frequent first.
        kinds: The kinds of anomaly that it is known to be by now.
        severity: Of its own flag; none if it has none.
    """

    user_id: str
    own: bool
    ended_at: datetime
    similarity: float
    happened: str
    kinds: tuple[str, ...]
    severity: str | None


@dataclass(frozen=True)
class Habit:
    """How a user's sessions were before a flagged unit.

    Args:
        days: How many days back they were looked for.
        sessions: How many there were.
        hours: [24] of them by the hour of the day in which they began, UTC.
        actions: Action -> how often it was done, all sessions together.
        events: Number of events that a tenth, half and nine tenths of the sessions do not exceed.
        amounts: Likewise their sum of amounts, of those that have any; none where none has.
    """

    days: int
    sessions: int
    hours: tuple[int, ...] = (0,) * 24
    actions: Mapping[str, float] = field(default_factory=dict)
    events: tuple[float, float, float] | None = None
    amounts: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Story:
    """A flag told in full.

    Args:
        flag: The flag.
        reasons: What is strange, most first, one for each thing that is said.
        events: What happened.
        habit: The user's earlier sessions.
        nearest: Past units like it; empty where `embed` has not found any.
    """

    flag: Flag
    reasons: tuple[Reason, ...]
    events: tuple[CaseEvent, ...]
    habit: Habit
    nearest: tuple[PastUnit, ...] = ()


@dataclass(frozen=True)
class Thing:
    """A device, network or counterparty that users of a case share, and how many do."""

    kind: str
    value: str
    users: int
    flagged_users: int


@dataclass(frozen=True)
class Ring:
    """What links the users of a case.

    Args:
        users: Those that are drawn, the strangest first.
        things: Those that are drawn, the most shared first.
        uses: A user, a thing's kind and value, and in how many events the user used it.
        more_users, more_things: How many there are beside.
    """

    users: tuple[str, ...]
    things: tuple[Thing, ...]
    uses: tuple[tuple[str, str, str, int], ...]
    more_users: int = 0
    more_things: int = 0


@dataclass(frozen=True)
class Case:
    """A row of `cases`, or a single flag where there are none.

    Args:
        case_id: Its id, or the flag's unit.
        kind: user or ring.
        started_at, ended_at: Times of the first and of the last flag.
        n_users, n_flags: How many it has.
        amount_sum: Sum of the flagged units' amounts; none where it is not known.
        p_value: The least of the flags'.
        summary: The case in one sentence.
        status: Where its handling stands.
        user_ids: Its users, or of very many those of the flags and some others.
        flags: Its flags, the strangest first, or the strangest of very many; at least one.
        stories: The strangest of them in full.
        ring: What links the users; none of a single one.
        more_days, more_decisions: Of flags that are not among `flags`, perhaps of others too.
    """

    case_id: str
    kind: str
    started_at: datetime
    ended_at: datetime
    n_users: int
    n_flags: int
    amount_sum: float | None
    p_value: float
    summary: str
    status: str
    user_ids: tuple[str, ...]
    flags: tuple[Flag, ...]
    stories: tuple[Story, ...] = ()
    ring: Ring | None = None
    more_days: tuple[date, ...] = ()
    more_decisions: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """Of its gravest flag."""
        return min((flag.severity for flag in self.flags), key=SEVERITIES.index)

    @property
    def decisions(self) -> tuple[str, ...]:
        """What is decided on its flags, on the strangest first."""
        told = (flag.decision for flag in self.flags)
        return tuple(dict.fromkeys([*told, *sorted(self.more_decisions)]))

    @property
    def statuses(self) -> tuple[str, ...]:
        """Where its handling stands; while nobody has said so of the case, that of its flags."""
        if self.status != OPEN:
            return (self.status,)
        more = [OPEN] if self.n_flags > len(self.flags) else []
        return tuple(dict.fromkeys([*(flag.status for flag in self.flags), *more]))

    @property
    def days(self) -> tuple[date, ...]:
        """The days on which it has flags, the last first."""
        found = {self.started_at.date(), self.ended_at.date(), *self.more_days}
        return tuple(sorted(found | {flag.event_time.date() for flag in self.flags}, reverse=True))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of anomaly that its flags are known to be by now."""
        return tuple(sorted({kind for flag in self.flags for kind in flag.kinds}))


def in_full(cases: Sequence[Sequence[Flag]], most: int, of_case: int) -> list[Flag]:
    """As many flags as may be told in full: each case's strangest, then the next of each.

    Args:
        cases: The flags of each case, the strangest first.
        most: How many in all.
        of_case: How many of a case.
    """
    turns = range(of_case)
    flags = [flag for place in turns for flags in cases for flag in flags[place : place + 1]]
    return flags[:most]
