"""Flags that belong together: of one user, or of users who share what hardly anybody else uses.

Two flags with a device, network or counterparty in common belong to one case if there is no longer
pause between them, among the flags that have it in common, than a window; so do two of one user.
A case is a connected component of that graph.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from habitus.domain.languages import WORDINGS
from habitus.domain.wording import Wording
from habitus.setting_types import Language

Integers = npt.NDArray[np.int64]

USER, RING = "user", "ring"


def with_components(flags: pa.Table, links: pa.Table, window: int) -> pa.Table:
    """Say of each flag which case it belongs to.

    Args:
        flags: A row per flag: unit_id, user_id and event_time.
        links: A row per flag and thing that it shares: unit_id, kind and value.
        window: The longest pause between two flags that are joined, in microseconds.

    Returns:
        The flags with their `component`, the same for flags of one case.
    """
    units, users = flags["unit_id"].combine_chunks(), flags["user_id"].combine_chunks()
    times = flags["event_time"].cast(pa.int64()).to_numpy()
    shared = pc.binary_join_element_wise(links["kind"], links["value"], "\x1f").combine_chunks()
    of_links = pc.index_in(links["unit_id"].combine_chunks(), value_set=units).to_numpy()
    named = pa.concat_arrays([users.dictionary_encode().indices, _codes(shared, len(users))])
    flag_of = np.concatenate([np.arange(len(units)), of_links]).astype(np.int64)
    label = components(
        len(units), named.to_numpy().astype(np.int64), flag_of, times[flag_of], window
    )
    return flags.append_column("component", pa.array(label))


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


def cases_of(flags: pa.Table, links: pa.Table, language: Language) -> list[dict[str, Any]]:
    """Put flags together into cases.

    Args:
        flags: A row per flag: unit_id, user_id, event_time, p_value, amount_sum, summary and
            component, the same for flags of one case.
        links: Rows of things that flags of a component share: unit_id (of one of them, or a row
            for each), kind, value, users (how many use the thing) and flagged_users.
        language: Of the cases' summaries.

    Returns:
        Rows of `cases` but for model, run and status, by the time they began.
    """
    flags = flags.sort_by([("event_time", "ascending"), ("unit_id", "ascending")])
    of_case: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    component = {}
    for flag in flags.to_pylist():
        component[flag["unit_id"]] = flag["component"]
        of_case[flag["component"]].append(flag)
    shared: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for link in links.to_pylist():
        shared[component[link["unit_id"]]].append(link)
    wording = WORDINGS[language]
    return [_case(some, shared[number], wording) for number, some in of_case.items()]


def keep_ids(
    found: Sequence[dict[str, Any]], begun: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Give cases that an analyst has begun with their ids, whatever flag they begin with now.

    Args:
        found: Rows of `cases_of`.
        begun: The begun ones, the first first: case_id and unit_ids.

    Returns:
        The found cases, of which none has a flag of a begun one but by its id; and the ids of begun
        cases that are no more, all their flags that there are being in others.
    """
    case_of = {unit_id: at for at, case in enumerate(found) for unit_id in case["unit_ids"]}
    natural = {case["case_id"]: at for at, case in enumerate(found)}
    kept: dict[int, str] = {}
    gone = []
    for case in begun:
        # Its own id first: no other may get that.
        own = [natural[case["case_id"]]] if case["case_id"] in natural else []
        now = sorted({case_of[unit_id] for unit_id in case["unit_ids"] if unit_id in case_of})
        free = [at for at in (*own, *now) if at not in kept]
        if free:
            kept[free[0]] = case["case_id"]
        elif now:
            gone.append(case["case_id"])
    return [
        case | {"case_id": kept.get(at, case["case_id"])} for at, case in enumerate(found)
    ], gone


def _codes(values: pa.Array, first: int) -> pa.Array:
    """[L] a number for each value, from `first` on."""
    return pc.add(values.dictionary_encode().indices, pa.scalar(first, pa.int32()))


def _case(
    flags: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, Any]], wording: Wording
) -> dict[str, Any]:
    """One case of flags in the order of time."""
    users = sorted({flag["user_id"] for flag in flags})
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    # Of a thing that is shared twice, with a pause between, the time when more did is told.
    for link in sorted(links, key=itemgetter("flagged_users", "users")):
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
    return case | {"summary": wording.case(case, strangest["summary"])}
