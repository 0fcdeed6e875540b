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
        candidates: unit_id, user_id, event_date, event_time and is_shown of N units that nothing
            else suppresses, strangest first. What `is_shown` is so whatever others are: it takes
            no place and is not quiet.
        cool_down: How long after a unit's begin those that begin are quiet.
        budget_per_day: The places of each event_date; none: there is one for every unit.
    """
    names = ("unit_id", "user_id", "event_date", "event_time", "is_shown")
    shown: dict[str, list[datetime]] = defaultdict(list)
    taken: Counter[date] = Counter()
    quiet = set()
    columns = (candidates[name].to_pylist() for name in names)
    for unit, user, day, time, is_shown in zip(*columns, strict=True):
        if is_shown:
            shown[user].append(time)
        elif taken[day] == budget_per_day:
            continue
        elif any(time - cool_down <= earlier < time for earlier in shown[user]):
            quiet.add(unit)
        else:
            taken[day] += 1
            shown[user].append(time)
    return quiet
