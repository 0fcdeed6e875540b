"""A ring as a picture: its users, what they share, and who uses what."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup, escape

from habitus.domain.reporting.cases import Ring

_WIDTH, _ROW = 360, 26
_USERS_AT, _THINGS_AT = 122, 226
_LONGEST = 16


def ring_graph(ring: Ring, severities: Mapping[str, str]) -> Markup:
    """Users on the left, things on the right, a line for each use, as inline SVG.

    Args:
        ring: What links the users.
        severities: User -> severity of the gravest flag; users without one are left grey.
    """
    n_rows = max(len(ring.users), 2 * len(ring.things), 1)
    height = n_rows * _ROW + (_ROW if ring.more_users or ring.more_things else 0)
    users = dict(zip(ring.users, _spread(len(ring.users), n_rows), strict=True))
    keys = [(thing.kind, thing.value) for thing in ring.things]
    things = dict(zip(keys, _spread(len(keys), n_rows), strict=True))
    lines = [
        f'<path class="use" stroke-width="{1 + min(np.log2(times), 5) / 2:.1f}" '
        f'd="M{_USERS_AT} {users[user]:.0f}C{_USERS_AT + 55} {users[user]:.0f} '
        f'{_THINGS_AT - 55} {things[kind, value]:.0f} {_THINGS_AT} {things[kind, value]:.0f}">'
        f"<title>{_text(user)}: {_text(value)} in {times:,} event{'s' * (times > 1)}</title></path>"
        for user, kind, value, times in ring.uses
        if user in users and (kind, value) in things
    ]
    of_users = [
        f'<a href="#cases" data-user="{_text(user)}">'
        f'<circle class="{severities.get(user, "none")}" cx="{_USERS_AT}" cy="{y:.0f}" r="6"/>'
        f'<text x="{_USERS_AT - 12}" y="{y + 4:.0f}" text-anchor="end">{_short(user)}</text></a>'
        for user, y in users.items()
    ]
    of_things = [
        f'<rect x="{_THINGS_AT}" y="{y - 6:.0f}" width="12" height="12" rx="2"/>'
        f'<text x="{_THINGS_AT + 19}" y="{y:.0f}">{_short(thing.value)}</text>'
        f'<text class="faint" x="{_THINGS_AT + 19}" y="{y + 13:.0f}">{_text(thing.kind)}, '
        f"{thing.flagged_users:,} of {thing.users:,} users</text>"
        for thing, y in zip(ring.things, things.values(), strict=True)
    ]
    more = [
        f'<text class="faint" x="{x}" y="{height - 8}" text-anchor="{anchor}">'
        f"and {count:,} more</text>"
        for count, x, anchor in (
            (ring.more_users, _USERS_AT - 12, "end"),
            (ring.more_things, _THINGS_AT + 19, "start"),
        )
        if count
    ]
    # Whatever of it is a user's text has been escaped above.
    return Markup(  # noqa: S704
        f'<svg class="ring" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="Users and what they share">{"".join([*lines, *of_users, *of_things, *more])}'
        "</svg>"
    )


def _spread(count: int, rows: int) -> list[float]:
    """[count] heights of so many nodes over so many rows."""
    return [float(y) for y in (np.arange(count) + 0.5) * rows * _ROW / max(count, 1)]


def _text(value: str) -> str:
    return str(escape(value))


def _short(value: str) -> str:
    if len(value) <= _LONGEST:
        return _text(value)
    return f"{_text(value[: _LONGEST - 1])}…<title>{_text(value)}</title>"
