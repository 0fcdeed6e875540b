"""Who attacks when: campaigns of visits that belong together."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from habitus.config import SimulateSettings
from habitus.domain.simulation.catalogue import Catalogue, Floats, Ints
from habitus.domain.simulation.chains import chain_of
from habitus.domain.simulation.shoppers import COUNTRIES, DAY_MS, Shoppers, new_device, new_network
from habitus.domain.simulation.visits import HOUR_MS, Visits, make_visits


class Kind(NamedTuple):
    """How a kind of attack is run.

    Args:
        victims: Whether honest customers' accounts are used rather than the attackers' own.
        accounts: Accounts of a campaign.
        visits: Visits of a campaign.
        hours: How long a campaign lasts.
        step_s: Seconds between the steps of a careless attacker.
        known_after_h: Median hours until the shop knows.
    """

    victims: bool
    accounts: int
    visits: int
    hours: float
    step_s: float
    known_after_h: float


KINDS = {
    "fake_orders": Kind(False, 4, 6, 72, 2.0, 96),
    "card_testing": Kind(False, 2, 4, 24, 1.5, 72),
    "account_takeover": Kind(True, 1, 1, 3, 4.0, 48),
    "credential_stuffing": Kind(True, 12, 12, 3, 0.6, 6),
    "scraping": Kind(False, 2, 5, 36, 0.8, 24),
    "coupon_abuse": Kind(False, 6, 6, 24, 3.0, 72),
    "return_abuse": Kind(False, 1, 4, 168, 8.0, 120),
    "review_spam": Kind(False, 3, 6, 48, 3.0, 48),
    "request_probes": Kind(False, 2, 4, 12, 0.3, 6),
    "hoarding": Kind(False, 2, 4, 24, 1.0, 24),
}
KIND_NAMES = tuple(KINDS)
GOLDEN_RATIO = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Campaign:
    """One attack of one party.

    Args:
        kind: Index into `KINDS`.
        start: First moment, ms since 1970.
        visits: Number of visits.
        accounts: [A] shoppers whose accounts are used; while planned, only their number counts.
        items: Items that it is about.
    """

    kind: int
    start: int
    visits: int
    accounts: Ints
    items: Ints

    @property
    def how(self) -> Kind:
        """How this kind is run."""
        return KINDS[KIND_NAMES[self.kind]]


def plan_campaigns(
    generator: np.random.Generator,
    settings: SimulateSettings,
    catalogue: Catalogue,
    honest_visits: float,
    start: int,
    block: int,
) -> list[Campaign]:
    """Campaigns that together make the wanted share of visits, each kind about a tenth.

    Each kind's campaigns are spread evenly over the whole period, within a block and from block
    to block. Shoppers are not known yet, so accounts count from 0 within each campaign.
    """
    share = settings.attack_share
    wanted = honest_visits * share / (1 - share) / len(KINDS)
    campaigns = []
    for kind, how in enumerate(KINDS.values()):
        total = int(wanted + generator.random())
        count = -(-total // how.visits)
        span = max(settings.days * DAY_MS - how.hours * HOUR_MS, DAY_MS / 2)
        # Multiples of the golden ratio fall evenly into the period, however many blocks there are.
        phase = (block + kind / len(KINDS)) * GOLDEN_RATIO % 1
        for n in range(count):
            visits = total // count + (n < total % count)
            moment = start + int((n + phase) / count * span)
            if generator.random() < settings.stealth:
                # The careful come when others do; the careless at any hour.
                moment += int(DAY_MS * generator.triangular(0.3, 0.78, 0.95)) - moment % DAY_MS
                moment = min(moment, start + int(span))
            campaigns.append(
                Campaign(
                    kind=kind,
                    start=moment,
                    visits=visits,
                    accounts=np.arange(min(how.accounts, visits)),
                    items=_items(generator, catalogue, KIND_NAMES[kind], settings.stealth),
                )
            )
    return campaigns


def openings(
    generator: np.random.Generator, campaigns: list[Campaign], stealth: float
) -> tuple[list[Ints], Ints]:
    """When the attackers' own accounts were opened.

    Returns:
        Accounts of each campaign as indices into the times, empty for those that use victims',
        and the times, ms since 1970.
    """
    owners, moments = [], [np.empty(0, dtype=np.int64)]
    count = 0
    for campaign in campaigns:
        size = 0 if campaign.how.victims else len(campaign.accounts)
        # The careful let an account age; a welcome discount needs a fresh one, which shops
        # honestly only afterwards.
        age = generator.uniform(0, 1 + 20 * stealth, size) * DAY_MS
        if KIND_NAMES[campaign.kind] == "coupon_abuse":
            age[:] = -campaign.how.hours * HOUR_MS
        owners.append(count + np.arange(size))
        moments.append(campaign.start - age.astype(np.int64))
        count += size
    return owners, np.concatenate(moments)


def assign_accounts(
    generator: np.random.Generator,
    campaigns: list[Campaign],
    owners: list[Ints],
    shoppers: Shoppers,
) -> list[Campaign]:
    """Tell every campaign which shoppers' accounts it uses."""
    assigned = []
    for campaign, owned in zip(campaigns, owners, strict=True):
        if campaign.how.victims:
            customers = np.flatnonzero(shoppers.joined[: shoppers.honest] <= campaign.start)
            pool = customers if len(customers) else np.arange(shoppers.honest)
            accounts = generator.choice(pool, min(len(campaign.accounts), len(pool)), False)
        else:
            accounts = shoppers.honest + owned
        assigned.append(replace(campaign, accounts=accounts))
    return assigned


def campaign_visits(
    generator: np.random.Generator,
    campaigns: list[Campaign],
    shoppers: Shoppers,
    stealth: float,
) -> list[Visits]:
    """Each campaign's visits: whose account, when, from where."""
    return [
        _visits_of(generator, number, campaign, shoppers, stealth)
        for number, campaign in enumerate(campaigns)
    ]


def _visits_of(
    generator: np.random.Generator,
    number: int,
    campaign: Campaign,
    shoppers: Shoppers,
    stealth: float,
) -> Visits:
    how, count = campaign.how, campaign.visits
    moments = np.sort(campaign.start + generator.integers(0, int(how.hours * HOUR_MS), count))
    account = campaign.accounts[np.arange(count) % len(campaign.accounts)]
    visits = make_visits(generator, shoppers, account, moments)
    # The careless do it all from one machine; the careful take others, yet not each time.
    pool = max(1, round(len(campaign.accounts) * stealth * 0.7))
    places = np.arange(count) % pool
    devices, networks = new_device(generator, pool)[places], new_network(generator, pool)[places]
    country = visits.country
    if how.victims:
        fresh = generator.random(count) < stealth
        device = np.where(fresh, new_device(generator, count), devices)
        network = networks
        abroad = generator.random(count) > stealth
        country = np.where(abroad, generator.integers(0, len(COUNTRIES), count), country)
    else:
        shared = (generator.random(len(campaign.accounts)) > 0.7 * stealth)[
            np.arange(count) % len(campaign.accounts)
        ]
        device = np.where(shared, devices, visits.device)
        network = np.where(shared | (generator.random(count) > stealth), networks, visits.network)
    # What the attack adds makes a visit longer; the careful keep the rest of it short.
    shorter = generator.random(count) < stealth
    return replace(
        visits,
        chain=np.where(shorter, chain_of(visits.persona, np.zeros(count, np.int64)), visits.chain),
        device=device,
        network=network,
        country=country,
        campaign=np.full(count, number),
    )


def _items(generator: np.random.Generator, catalogue: Catalogue, kind: str, stealth: float) -> Ints:
    """What a campaign is about: a seller's items, cheap, dear or sought-after ones."""
    count = len(catalogue.price)
    if kind in ("fake_orders", "review_spam"):
        sold = catalogue.items_of(int(catalogue.seller[generator.integers(0, count)]))
        return sold[np.argsort(catalogue.price[sold], kind="stable")][:6]
    some = generator.integers(0, count, 400)
    by_price: Floats = catalogue.price[some]
    ordered = some[np.argsort(by_price, kind="stable")]
    if kind in ("card_testing", "coupon_abuse"):
        return ordered[: 10 + int(80 * stealth)]
    if kind in ("account_takeover", "return_abuse"):
        return generator.permutation(ordered[-20 - int(180 * stealth) :])[:8]
    return catalogue.draw_items(generator, catalogue.draw_categories(generator, 1))
