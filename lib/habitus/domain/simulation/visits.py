"""When they come, with which device, from which network."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from habitus.config import SimulateSettings
from habitus.domain.simulation.catalogue import Floats, Ints
from habitus.domain.simulation.chains import LEAVING_SHARES, chain_of
from habitus.domain.simulation.personas import PERSONAS
from habitus.domain.simulation.shoppers import (
    COUNTRIES,
    DAY_MS,
    HOME,
    LAPTOP,
    MOBILE,
    PHONE,
    WORK,
    Shoppers,
    carrier_network,
    new_network,
)

HOUR_MS = 3_600_000
PROMOTION_PEAK_HOUR = 19.0
PROMOTION_SPREAD_HOURS = 3.0


@dataclass(frozen=True)
class Visits:
    """S visits, each of one shopper.

    Args:
        shopper: [S] index of the shopper.
        start: [S] first event, ms since 1970.
        persona: [S] how they shop this time.
        chain: [S] transition matrix.
        device: [S] device id.
        network: [S] network.
        channel: [S] index into `CHANNELS`.
        country: [S] index into `COUNTRIES`.
        campaign: [S] index of the attack that the visit belongs to, -1 for none.
    """

    shopper: Ints
    start: Ints
    persona: Ints
    chain: Ints
    device: Ints
    network: Ints
    channel: Ints
    country: Ints
    campaign: Ints

    def __len__(self) -> int:
        return len(self.shopper)

    def take(self, indices: Ints) -> "Visits":
        """The visits at these indices."""
        return Visits(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})


def all_visits(parts: Sequence[Visits]) -> Visits:
    """The visits of all parts, of which there is at least one."""
    return Visits(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Visits)}
    )


def rhythm(settings: SimulateSettings) -> Floats:
    """[personas, hours] visits per hour of the period, relative to an average hour.

    The average is over a usual week; promotions come on top, each with a peak in the evening.
    """
    hours = np.arange(24 * settings.days)
    weekday = (settings.start.weekday() + hours // 24) % 7
    rates = []
    for persona in PERSONAS.values():
        of_day = np.zeros(24)
        for centre, spread, weight in persona.hours:
            distance = np.abs(np.arange(24) + 0.5 - centre)
            distance = np.minimum(distance, 24 - distance)
            of_day += weight * np.exp(-0.5 * (distance / spread) ** 2)
        of_day = of_day / of_day.mean() * 0.94 + 0.06
        weekend = np.where(weekday >= 5, persona.weekend, 1.0) / (5 + 2 * persona.weekend) * 7
        rates.append(of_day[hours % 24] * weekend)
    busy: Floats = np.stack(rates)
    for day in settings.promotion_days:
        from_peak = np.abs(hours + 0.5 - 24 * day - PROMOTION_PEAK_HOUR)
        promotion = (settings.promotion_traffic - 1) * np.exp(
            -0.5 * (from_peak / PROMOTION_SPREAD_HOURS) ** 2
        )
        busy = busy * (1.0 + promotion)
    return busy


def draw_visits(
    generator: np.random.Generator, settings: SimulateSettings, shoppers: Shoppers, start: int
) -> Visits:
    """All visits that the shoppers make as themselves, in no order."""
    rates = rhythm(settings)
    cumulative = np.cumsum(rates, axis=1)
    mean = settings.sessions_per_user_per_day / 24 * cumulative[:, -1][shoppers.persona]
    counts = generator.poisson(np.minimum(mean * shoppers.rate, 12.0 * settings.days))
    shopper = np.repeat(np.arange(len(counts)), counts)
    # All personas' hours lie end to end, so that one search serves every visit.
    ends = (cumulative / cumulative[:, -1:] + np.arange(len(PERSONAS))[:, None]).ravel()
    points = shoppers.persona[shopper] + generator.random(len(shopper))
    hour = np.minimum(np.searchsorted(ends, points, side="right"), len(ends) - 1)
    hour = hour % rates.shape[1]
    moment = start + hour * HOUR_MS + generator.integers(0, HOUR_MS, len(shopper))
    here = moment >= shoppers.joined[shopper]
    return make_visits(generator, shoppers, shopper[here], moment[here])


def make_visits(
    generator: np.random.Generator, shoppers: Shoppers, shopper: Ints, moment: Ints
) -> Visits:
    """Visits of the given shoppers at the given times, in their own ways and surroundings."""
    count = len(shopper)
    # One visit in seven is out of character.
    usual = generator.random(count) < 0.86
    persona = np.where(
        usual, shoppers.persona[shopper], shoppers.persona[generator.permutation(shopper)]
    )
    leaving = generator.choice(len(LEAVING_SHARES), count, p=LEAVING_SHARES)
    slot, place = _surroundings(generator, shoppers, shopper, moment)
    device = shoppers.devices[shopper, slot]
    device = np.where(
        (slot == PHONE) & (moment >= shoppers.replaced[shopper]), shoppers.newer[shopper], device
    )
    country = shoppers.country[shopper]
    network = shoppers.networks[shopper, place]
    # A carrier gives a phone another of its networks from time to time.
    roams = (place == MOBILE) & (generator.random(count) < 0.3)
    network = np.where(roams, carrier_network(generator, country), network)
    # On a trip: a hotel's network, every third time abroad.
    travels = generator.random(count) < 0.015
    network = np.where(travels, new_network(generator, count), network)
    abroad = travels & (generator.random(count) < 1 / 3)
    country = np.where(abroad, generator.integers(0, len(COUNTRIES), count), country)
    phone_in_browser = (slot == PHONE) & (generator.random(count) < 0.25)
    channel = np.where(slot == LAPTOP, 1, np.where(phone_in_browser, 2, 0))
    return Visits(
        shopper=shopper,
        start=moment,
        persona=persona,
        chain=chain_of(persona, leaving),
        device=device,
        network=network,
        channel=channel,
        country=country,
        campaign=np.full(count, -1),
    )


def _surroundings(
    generator: np.random.Generator, shoppers: Shoppers, shopper: Ints, moment: Ints
) -> tuple[Ints, Ints]:
    """Device slot and place of each visit."""
    owned = np.cumsum(shoppers.owned[shopper], axis=1)
    slot = (owned[:, :-1] <= generator.random((len(shopper), 1))).sum(axis=1)
    hour = moment // HOUR_MS % 24
    # 1970 began on a Thursday.
    workday = (moment // DAY_MS + 3) % 7 < 5
    at_work = workday & (hour >= 8) & (hour < 17) & (generator.random(len(shopper)) < 0.5)
    outside = np.where((hour >= 7) & (hour < 21), 0.45, 0.15)
    moving = (slot == PHONE) & (generator.random(len(shopper)) < outside)
    place = np.where(moving, MOBILE, np.where(at_work, WORK, HOME))
    return slot, place
