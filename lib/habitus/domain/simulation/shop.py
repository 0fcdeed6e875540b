"""One block of shoppers and its attackers: the events they cause, and what is true of them.

A block has the same size however the work is cut into tasks, and its own randomness, so the same
seed gives the same events on one core and on a thousand.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from habitus.config import SimulateSettings
from habitus.domain.simulation.campaigns import (
    KIND_NAMES,
    Campaign,
    assign_accounts,
    campaign_visits,
    openings,
    plan_campaigns,
)
from habitus.domain.simulation.catalogue import CATEGORIES, Catalogue, Ints, make_catalogue
from habitus.domain.simulation.chains import walk
from habitus.domain.simulation.content import Content, fill
from habitus.domain.simulation.embedding import Steps, embed, gaps
from habitus.domain.simulation.personas import STATE, STATES
from habitus.domain.simulation.scripts import COUPONS, PATHS
from habitus.domain.simulation.shoppers import (
    CHANNELS,
    COUNTRIES,
    DAY_MS,
    JOINING,
    NETWORK_SPACE,
    Shoppers,
    make_shoppers,
)
from habitus.domain.simulation.visits import Visits, all_visits, draw_visits, rhythm

BLOCK = 500
# Between two visits of a shopper lies more than the half hour that usually ends a session.
BETWEEN_VISITS_MS = 40 * 60_000
SIGNING_IN = ("account_takeover", "credential_stuffing", "coupon_abuse")

EVENT_COLUMNS = (
    "event_id", "ts", "customer", "action", "item", "category", "seller", "amount", "outcome",
    "device", "network", "channel", "session", "country", "path", "coupon",
)  # fmt: skip
LABEL_COLUMNS = ("unit_kind", "unit_id", "label", "kind", "known_at")


def blocks(settings: SimulateSettings) -> int:
    """Number of blocks of shoppers."""
    return -(-settings.users // BLOCK)


def generator_of(seed: int, block: int) -> np.random.Generator:
    """The block's own randomness; -1 is the catalogue's."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block + 1,)))


def simulate_block(settings: SimulateSettings, seed: int, block: int) -> tuple[pa.Table, pa.Table]:
    """All that happens in one block of shoppers, before anything goes wrong with the data.

    Args:
        settings: The shop.
        seed: Seed of the whole simulation.
        block: Number of the block, from 0.

    Returns:
        Events with `EVENT_COLUMNS`, by customer and time: `ts` a timestamp in ms, `amount` a
        float in units of money, all others text. Labels with `LABEL_COLUMNS`: `known_at` a
        timestamp in ms; only what is part of an attack has a label.
    """
    generator = generator_of(seed, block)
    catalogue = _catalogue(seed, settings.items, settings.sellers)
    start = int(settings.start.timestamp() * 1000)
    honest = min(BLOCK, settings.users - block * BLOCK)
    hours = rhythm(settings).sum(axis=1).mean()
    # Those who join during the period are there for half of it.
    expected = honest * settings.sessions_per_user_per_day * hours / 24 * (1 - JOINING / 2)
    campaigns = plan_campaigns(generator, settings, catalogue, expected, start, block)
    owners, opened = openings(generator, campaigns, settings.stealth)
    shoppers = make_shoppers(generator, catalogue, honest, opened, start, settings.days)
    campaigns = assign_accounts(generator, campaigns, owners, shoppers)
    ordinary = draw_visits(generator, settings, shoppers, start)
    attacks = campaign_visits(generator, campaigns, shoppers, settings.stealth)
    visits = all_visits([ordinary, *attacks])
    visits = visits.take(np.lexsort((visits.start, visits.shopper)))
    first = _first_states(visits, shoppers, campaigns, start)
    walked = walk(generator, visits.persona, visits.chain, first)
    steps = embed(generator, catalogue, visits, campaigns, walked, settings.stealth)
    time = _times(visits, steps, gaps(generator, steps, shoppers.pace[visits.shopper][steps.visit]))
    within = time[_first_of_visit(steps, len(visits))][steps.visit] < start + settings.days * DAY_MS
    steps, time = steps.take(np.flatnonzero(within)), time[within]
    promotion = np.isin((time - start) // DAY_MS, settings.promotion_days)
    content = fill(generator, catalogue, shoppers, visits, steps, promotion)
    events = _events(block, catalogue, visits, steps, time, content)
    return events, _labels(generator, events, visits, campaigns, steps, time)


@lru_cache(maxsize=2)
def _catalogue(seed: int, items: int, sellers: int) -> Catalogue:
    return make_catalogue(generator_of(seed, -1), items, sellers)


def _first_states(
    visits: Visits, shoppers: Shoppers, campaigns: list[Campaign], start: int
) -> Ints:
    """Those who joined during the period register in their first visit.

    Where the attack itself signs in or registers, the rest of the visit begins with a search.
    """
    first = np.ones(len(visits), dtype=bool)
    first[1:] = visits.shopper[1:] != visits.shopper[:-1]
    registers = first & (shoppers.joined[visits.shopper] >= start) & (visits.campaign < 0)
    opens = np.array([KIND_NAMES[c.kind] in SIGNING_IN for c in campaigns] + [False])
    # Visits without a campaign have number -1, the last.
    searches = np.where(opens[visits.campaign], STATE["search"], -1)
    return np.where(registers, STATE["register"], searches)


def _first_of_visit(steps: Steps, count: int) -> Ints:
    return np.searchsorted(steps.visit, np.arange(count))


def _times(visits: Visits, steps: Steps, gap: Ints) -> Ints:
    """[E] ms since 1970; a visit that would begin too soon after the one before is put off."""
    elapsed = np.cumsum(gap)
    first = _first_of_visit(steps, len(visits))
    since_start = elapsed - elapsed[first][steps.visit]
    durations = np.zeros(len(visits), dtype=np.int64)
    np.maximum.at(durations, steps.visit, since_start)
    taken = np.cumsum(durations + BETWEEN_VISITS_MS) - (durations + BETWEEN_VISITS_MS)
    # start'[i] = max(start[i], start'[i-1] + taken by it), as one running maximum per shopper:
    # shoppers are kept apart by a span longer than any period.
    apart = visits.shopper * 10**15
    begin = np.maximum.accumulate(visits.start - taken + apart) + taken - apart
    times: Ints = begin[steps.visit] + since_start
    return times


def _events(
    block: int,
    catalogue: Catalogue,
    visits: Visits,
    steps: Steps,
    time: Ints,
    content: Content,
) -> pa.Table:
    visit = steps.visit
    actions = [action for action, _ in STATES.values()]
    outcomes = [outcome for _, outcome in STATES.values()]
    # Which account is an attacker's must not show in its number.
    customers = [
        f"c{(block * 2**20 + n) * 2654435761 % 2**40:010x}"
        for n in range(int(visits.shopper.max()) + 1)
    ]
    sessions = [f"s{block}-{n}" for n in range(len(visits))]
    devices, device = np.unique(visits.device, return_inverse=True)
    networks, network = np.unique(visits.network, return_inverse=True)
    items = [f"i{n:06d}" for n in range(len(catalogue.price))]
    sellers = [f"v{n:05d}" for n in range(int(catalogue.seller.max()) + 1)]
    seller = np.where(content.item >= 0, catalogue.seller[content.item], -1)
    numbers = pa.array(block * 2**27 + np.arange(len(visit)))
    columns = {
        "event_id": numbers.cast(pa.string()),
        "ts": pa.array(time, pa.timestamp("ms")),
        "customer": _texts(customers, visits.shopper[visit]),
        "action": _texts(actions, steps.state),
        "item": _texts(items, content.item),
        "category": _texts(list(CATEGORIES), content.category),
        "seller": _texts(sellers, seller),
        "amount": pa.array(content.amount / 100, mask=content.amount < 0),
        "outcome": _texts(outcomes, steps.state),
        "device": _texts([f"d{n:010x}" for n in devices.tolist()], device[visit]),
        "network": _texts([_network_text(n) for n in networks.tolist()], network[visit]),
        "channel": _texts(CHANNELS, visits.channel[visit]),
        "session": _texts(sessions, visit),
        "country": _texts(COUNTRIES, visits.country[visit]),
        "path": _texts(PATHS, content.path),
        "coupon": _texts(COUPONS, content.coupon),
    }
    return pa.table({name: columns[name] for name in EVENT_COLUMNS})


def _texts(values: Sequence[str | None], index: Ints) -> pa.Array:
    """The value at each index, null at -1."""
    positions: npt.NDArray[np.int64] = np.asarray(index)
    return pa.array(values, pa.string()).take(pa.array(positions, mask=positions < 0))


def _network_text(network: int) -> str:
    # A factor prime to the space keeps different networks different, and spreads them.
    mixed = network * 0x9E3779B1 % NETWORK_SPACE
    return f"{1 + (mixed >> 16)}.{mixed >> 8 & 255}.{mixed & 255}.0/24"


def _labels(
    generator: np.random.Generator,
    events: pa.Table,
    visits: Visits,
    campaigns: list[Campaign],
    steps: Steps,
    time: Ints,
) -> pa.Table:
    """One label per session that holds a part of an attack, and one per such event."""
    guilty = np.flatnonzero(steps.attack)
    sessions, which = np.unique(steps.visit[guilty], return_inverse=True)
    # The last attack event of each session; time runs on within a session.
    last = guilty[np.searchsorted(which, np.arange(len(sessions)), side="right") - 1]
    kind = np.array([c.kind for c in campaigns], dtype=np.int64)[visits.campaign[sessions]]
    medians = np.array([c.how.known_after_h for c in campaigns])[visits.campaign[sessions]]
    delay = medians * 3_600_000 * np.exp(0.6 * generator.standard_normal(len(sessions)))
    known = time[last] + delay.astype(np.int64)
    count = len(sessions) + len(guilty)
    ids = pa.concat_arrays(
        [
            events.column("session").combine_chunks().take(pa.array(last)),
            events.column("event_id").combine_chunks().take(pa.array(guilty)),
        ]
    )
    return pa.table(
        {
            "unit_kind": _texts(
                ("session", "event"), np.repeat([0, 1], [len(sessions), len(guilty)])
            ),
            "unit_id": ids,
            "label": pa.array(["true"] * count, pa.string()),
            "kind": _texts(KIND_NAMES, np.concatenate([kind, kind[which]])),
            "known_at": pa.array(np.concatenate([known, known[which]]), pa.timestamp("ms")),
        }
    )
