"""Flags that belong together: of one user, or of users who share what hardly anybody else uses.

Two flags with a device, network or counterparty in common belong to one case if there is no longer
pause between them, among the flags that have it in common, than a window; so do two of one user.
A case is a connected component of that graph.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Integers = npt.NDArray[np.int64]

USER, RING = "user", "ring"
_NAMED = 2  # shared things in a sentence


def components(
    flags: int, things: Integers, flag_of: Integers, times: Integers, window: int
) -> Integers:
    """Which component each flag is in.

    Args:
        flags: How many flags there are.
        things: [L] what a flag has, as a number; of L pairs of a flag and a thing.
        flag_of: [L] which flag has it.
        times: [L] the time of that flag.
        window: The longest pause between two flags that are joined, in the unit of times.

    Returns:
        [flags] the number of each flag's component.
    """
    order = np.lexsort((times, things))
    things, flag_of, times = things[order], flag_of[order], times[order]
    joined = (np.diff(things) == 0) & (np.diff(times) <= window)
    ends = flag_of[:-1][joined], flag_of[1:][joined]
    graph = coo_matrix((np.ones(len(ends[0])), ends), shape=(flags, flags))
    _, labels = connected_components(graph, directed=False)
    found: Integers = labels.astype(np.int64)
    return found


def cases_of(flags: pa.Table, links: pa.Table, window: int) -> list[dict[str, Any]]:
    """Put flags together into cases.

    Args:
        flags: A row per flag: unit_id, user_id, event_time, p_value, amount_sum and summary.
        links: A row per flag and thing that it shares: unit_id, kind, value, users (how many use
            the thing) and flagged_users.
        window: The longest pause between two flags that are joined, in microseconds.

    Returns:
        Rows of `cases` but for model, run and status, by the time they began.
    """
    if not len(flags):
        return []
    flags = flags.sort_by([("event_time", "ascending"), ("unit_id", "ascending")])
    units, users = flags["unit_id"].combine_chunks(), flags["user_id"].combine_chunks()
    times = flags["event_time"].cast(pa.int64()).to_numpy()
    shared = pc.binary_join_element_wise(links["kind"], links["value"], "\x1f").combine_chunks()
    of_links = pc.index_in(links["unit_id"].combine_chunks(), value_set=units).to_numpy()
    named = pa.concat_arrays([users.dictionary_encode().indices, _codes(shared, len(users))])
    flag_of = np.concatenate([np.arange(len(units)), of_links]).astype(np.int64)
    label = components(
        len(units), named.to_numpy().astype(np.int64), flag_of, times[flag_of], window
    )
    rows = flags.to_pylist()
    link_rows = links.to_pylist()
    found = []
    for number in _in_order_of_first(label):
        of_case = [rows[at] for at in np.flatnonzero(label == number)]
        at_links = np.flatnonzero(label[of_links.astype(np.int64)] == number)
        found.append(_case(of_case, [link_rows[at] for at in at_links]))
    return found


def _codes(values: pa.Array, first: int) -> pa.Array:
    """[L] a number for each value, from `first` on."""
    return pc.add(values.dictionary_encode().indices, pa.scalar(first, pa.int32()))


def _in_order_of_first(label: Integers) -> Integers:
    _, first = np.unique(label, return_index=True)
    ordered: Integers = label[np.sort(first)]
    return ordered


def _case(flags: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One case of flags in the order of time."""
    users = sorted({flag["user_id"] for flag in flags})
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for link in links:
        thing = {name: link[name] for name in ("kind", "value", "users", "flagged_users")}
        seen[link["kind"], link["value"]] = thing
    things = sorted(
        seen.values(), key=lambda one: (-one["flagged_users"], one["kind"], one["value"])
    )
    first = flags[0]["unit_id"]
    strangest = min(flags, key=lambda flag: (flag["p_value"], flag["unit_id"]))
    case: dict[str, Any] = {
        "case_id": hashlib.md5(first.encode(), usedforsecurity=False).hexdigest(),
        "kind": RING if len(users) > 1 else USER,
        "started_at": flags[0]["event_time"],
        "ended_at": flags[-1]["event_time"],
        "n_users": len(users),
        "n_flags": len(flags),
        "amount_sum": float(sum(flag["amount_sum"] for flag in flags)),
        "p_value": strangest["p_value"],
        "user_ids": users,
        "unit_ids": [flag["unit_id"] for flag in flags],
        # Of one user's flags nothing tells more than the user.
        "shared": things if len(users) > 1 else [],
    }
    return case | {"summary": _summary(case, strangest["summary"])}


def _summary(case: Mapping[str, Any], strangest: str) -> str:
    """E.g. "5 users share device d1 (5 of its 6 users): 14 flags in 2.0 hours; ..."."""
    flags = f"{case['n_flags']} flag{'s' * (case['n_flags'] > 1)}"
    if case["kind"] == USER:
        who = f"User {case['user_ids'][0]}"
    else:
        named = [
            f"{one['kind']} {one['value']} ({one['flagged_users']} of its {one['users']} users)"
            for one in case["shared"][:_NAMED]
        ]
        who = f"{case['n_users']} users share {' and '.join(named)}"
    hours = (case["ended_at"] - case["started_at"]).total_seconds() / 3600
    time = f" in {hours:,.1f} hours" if case["n_flags"] > 1 else ""
    amount = f", {case['amount_sum']:,.0f} in amounts" if case["amount_sum"] else ""
    return f"{who}: {flags}{time}{amount}; the strangest: {strangest}"
