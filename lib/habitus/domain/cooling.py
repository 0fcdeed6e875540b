"""Which units are quiet in the cool-down of another one of their user."""

from collections import Counter, defaultdict
from datetime import date, datetime, timedelta

import pyarrow as pa


def in_cool_down(
    candidates: pa.Table, cool_down: timedelta, budget_per_day: int | None
) -> set[str]:
    """The units that are quiet, as one of their user that is shown began shortly before.

    Units are gone through from the strangest on, as they take the places of a day's budget: so what
    is quiet, or cut, keeps nothing else quiet, and a unit is never kept quiet by one less strange.

    Args:
        candidates: unit_id, user_id, event_date and event_time of N units that nothing else
            suppresses, strangest first.
        cool_down: How long after a unit's begin those that begin are quiet.
        budget_per_day: The places of each event_date; none: there is one for every unit.
    """
    names = ("unit_id", "user_id", "event_date", "event_time")
    shown: dict[str, list[datetime]] = defaultdict(list)
    taken: Counter[date] = Counter()
    quiet = set()
    for unit, user, day, time in zip(*(candidates[n].to_pylist() for n in names), strict=True):
        if taken[day] == budget_per_day:
            continue
        if any(time - cool_down <= earlier < time for earlier in shown[user]):
            quiet.add(unit)
        else:
            taken[day] += 1
            shown[user].append(time)
    return quiet
