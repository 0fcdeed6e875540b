"""Who they are: the shoppers of a block, with their tastes, devices and networks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitus.domain.simulation.catalogue import Catalogue, Floats, Ints
from habitus.domain.simulation.personas import PERSONAS

DAY_MS = 86_400_000
CHANNELS = ("app", "web", "mobile_web")
COUNTRIES = ("DE", "FR", "NL", "PL", "IT", "ES", "AT", "BE", "SE", "CZ", "GB", "US", "BR", "IN")
COUNTRY_SHARES = np.array([30, 14, 10, 9, 9, 7, 5, 4, 4, 3, 2, 1, 1, 1]) / 100
# Networks of mobile carriers and offices have many users, homes one or a few.
CARRIER_NETWORKS = 240
PHONE, LAPTOP, TABLET = 0, 1, 2
HOME, MOBILE, WORK = 0, 1, 2
# Ids of devices and networks are drawn at random from spaces this large.
DEVICE_SPACE = 2**40
# A network is the first three bytes of a public address.
NETWORK_SPACE = 223 * 2**16
# Share of the honest who join during the period; the others were customers long before.
JOINING = 0.25
# Networks below this are the carriers'.
_FIRST_PRIVATE_NETWORK = 4096


@dataclass(frozen=True)
class Shoppers:
    """The U shoppers of a block, honest ones before attackers.

    Args:
        honest: How many are honest.
        persona: [U] index into `PERSONAS`.
        rate: [U] factor on the number of visits, 1 on average over the honest.
        pace: [U] factor on the time between steps.
        joined: [U] when they became customers, ms since 1970; before the first day for most.
        devices: [U, 3] device of each slot (phone, laptop, tablet).
        owned: [U, 3] chance to use each device, 0 for those not owned.
        newer: [U] device that replaces the phone at `replaced`.
        replaced: [U] when the phone is replaced, ms since 1970; after the last day for most.
        networks: [U, 3] network at home, on the move, at work.
        country: [U] index into `COUNTRIES`.
        tastes: [U, 3] favourite categories.
        favourites: [U, 8] favourite items.
    """

    honest: int
    persona: Ints
    rate: Floats
    pace: Floats
    joined: Ints
    devices: Ints
    owned: Floats
    newer: Ints
    replaced: Ints
    networks: Ints
    country: Ints
    tastes: Ints
    favourites: Ints


def new_device(generator: np.random.Generator, size: int) -> Ints:
    """[size] ids of devices never seen before."""
    return generator.integers(0, DEVICE_SPACE, size)


def new_network(generator: np.random.Generator, size: int) -> Ints:
    """[size] networks that are no carrier's."""
    return generator.integers(_FIRST_PRIVATE_NETWORK, NETWORK_SPACE, size)


def carrier_network(generator: np.random.Generator, country: Ints) -> Ints:
    """[N] network of a mobile carrier of each country, shared by many."""
    per_country = CARRIER_NETWORKS // len(COUNTRIES)
    return country * per_country + generator.integers(0, per_country, len(country))


def make_shoppers(
    generator: np.random.Generator,
    catalogue: Catalogue,
    honest: int,
    attackers_joined: Ints,
    start: int,
    days: int,
) -> Shoppers:
    """Draw the shoppers of a block.

    Args:
        generator: Randomness.
        catalogue: The shop's items.
        honest: Number of honest shoppers, at least 1.
        attackers_joined: [A] when each attacker's own account was opened, ms since 1970.
        start: First day, ms since 1970.
        days: Days of traffic.
    """
    count = honest + len(attackers_joined)
    persona = generator.choice(len(PERSONAS), count, p=_persona_shares())
    visits = np.array([p.visits for p in PERSONAS.values()])[persona]
    # Few shop very often: a log-normal body with a tail that is capped at a dozen visits a day.
    rate = np.minimum(visits * np.exp(1.0 * generator.standard_normal(count)), 25.0)
    rate /= rate[:honest].mean()
    # An attacker's account shops honestly only now and then.
    rate[honest:] *= 0.5
    country = generator.choice(len(COUNTRIES), count, p=COUNTRY_SHARES)
    joins = generator.random(count) < JOINING
    joined = start + np.where(joins, generator.integers(0, days * DAY_MS, count), -DAY_MS)
    joined[honest:] = attackers_joined
    devices, networks = _equipment(generator, country)
    has = generator.random((count, 3)) < np.array([0.9, 0.65, 0.25])
    owned: Floats = np.where(has, np.array([0.6, 0.3, 0.1]), 0.0)
    owned[owned.sum(axis=1) == 0, LAPTOP] = 1.0
    owned /= owned.sum(axis=1, keepdims=True)
    replaced = np.where(
        generator.random(count) < 0.08,
        start + generator.integers(0, days * DAY_MS, count),
        start + 2 * days * DAY_MS,
    )
    tastes = catalogue.draw_categories(generator, 3 * count).reshape(count, 3)
    return Shoppers(
        honest=honest,
        persona=persona,
        rate=rate,
        pace=np.exp(0.3 * generator.standard_normal(count)),
        joined=joined,
        devices=devices,
        owned=owned,
        newer=new_device(generator, count),
        replaced=replaced,
        networks=networks,
        country=country,
        tastes=tastes,
        favourites=_favourites(generator, catalogue, tastes, persona),
    )


def _persona_shares() -> Floats:
    shares = np.array([p.share for p in PERSONAS.values()])
    normal: Floats = shares / shares.sum()
    return normal


def _equipment(generator: np.random.Generator, country: Ints) -> tuple[Ints, Ints]:
    """Devices and networks, some of them shared with others at home or in the office."""
    count = len(country)
    devices = new_device(generator, 3 * count).reshape(count, 3)
    networks = np.stack(
        [
            new_network(generator, count),
            carrier_network(generator, country),
            new_network(generator, count),
        ],
        axis=1,
    )
    # Every fifth lives with another shopper, and half of those share the tablet or laptop.
    household = _housemates(generator, count, 0.2)
    networks[:, HOME] = networks[household, HOME]
    shares = generator.random(count) < 0.5
    slot = generator.integers(LAPTOP, TABLET + 1, count)
    devices[shares, slot[shares]] = devices[household[shares], slot[shares]]
    # Colleagues come from one network; an office has about six shoppers.
    offices = new_network(generator, max(1, count // 6))
    networks[:, WORK] = offices[generator.integers(0, len(offices), count)]
    return devices, networks


def _housemates(generator: np.random.Generator, count: int, share: float) -> Ints:
    """[count] whose home each one lives in: their own, or another's."""
    owner = np.arange(count)
    moves = generator.random(count) < share / 2
    owner[moves] = generator.integers(0, count, int(moves.sum()))
    # Only into a home whose owner stayed.
    stayed: npt.NDArray[np.bool_] = owner[owner] == owner
    settled: Ints = np.where(stayed, owner, np.arange(count))
    return settled


def _favourites(
    generator: np.random.Generator, catalogue: Catalogue, tastes: Ints, persona: Ints
) -> Ints:
    """[U, 8] items of their favourite categories; the habitual keep to one seller where they can.

    Drawing a few candidates and keeping those of the first one's seller is what makes a seller
    preferred without a table of every seller's items.
    """
    count = len(persona)
    slots = generator.integers(0, 3, (count, 8, 3))
    categories = np.take_along_axis(tastes, slots.reshape(count, 24), axis=1)
    items = catalogue.draw_items(generator, categories.ravel()).reshape(count, 8, 3)
    preferred = catalogue.seller[items[:, 0, 0]]
    habit = np.array([p.habit for p in PERSONAS.values()])[persona]
    loyal = generator.random(count) < habit
    matches = (catalogue.seller[items] == preferred[:, None, None]) & loyal[:, None, None]
    choice = matches.argmax(axis=2)
    picked: Ints = np.take_along_axis(items, choice[:, :, None], axis=2)[:, :, 0]
    return picked
