"""What an attacker does in one visit, for each kind of attack.

Each script mixes two numbers everywhere: what a careless attacker does and what a careful one
does, weighed by stealth. A careful attacker does less of it per visit, more slowly, and hides
it among the steps of an ordinary visit; order, repetition, novelty and the counterparties
still tell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from habitus.domain.simulation.catalogue import Catalogue, Ints
from habitus.domain.simulation.personas import STATE

HONEST_PATHS = (
    "/favicon.ico", "/robots.txt", "/help/returns", "/old/summer-sale", "/blog/size-guide",
    "/item/", "/sitemap.xml", "/newsletter/unsubscribe", "/index.html", "/app/download",
    "/jobs", "/wish-list?shared=1",
)  # fmt: skip
PROBE_PATHS = (
    "/item?id=1' OR '1'='1", "/search?q=<script>alert(1)</script>", "/../../etc/passwd",
    "/wp-login.php", "/.env", "/.git/config", "/admin/config.php", "/item?id=1 UNION SELECT 1,2,3",
    "/cgi-bin/test.cgi?cmd=id", "/api/v1/users?limit=9999", "/phpmyadmin/index.php",
    "/search?q=%27%3B+DROP+TABLE+users", "/login?next=//evil.example", "/backup.sql.gz",
)  # fmt: skip
HONEST_COUPONS = ("SPRING10", "APPSAVE", "NEWSLETTER5", "BIRTHDAY", "FREESHIP", "FAMILY15")
PROMOTION_COUPON = "MEGASALE20"
WELCOME_COUPON = "WELCOME15"
GUESSED_COUPONS = tuple(f"SAVE{n:02d}" for n in range(10, 60))
PATHS = HONEST_PATHS + PROBE_PATHS
COUPONS = (*HONEST_COUPONS, PROMOTION_COUPON, WELCOME_COUPON, *GUESSED_COUPONS)


class Step(NamedTuple):
    """One step of an attack.

    Args:
        state: Index into `STATES`.
        item: Item, -1 for none.
        amount: Cents, -1 for none.
        path: Index into `PATHS`, -1 for none.
        coupon: Index into `COUPONS`, -1 for none.
        opening: Whether the step comes before the visit's ordinary steps.
    """

    state: int
    item: int = -1
    amount: int = -1
    path: int = -1
    coupon: int = -1
    opening: bool = False


@dataclass(frozen=True)
class Scene:
    """What a script plays with.

    Args:
        generator: Randomness.
        catalogue: The shop's items.
        items: Items that the campaign is about.
        ordinal: Number of the visit within its campaign, from 0.
        stealth: 0 careless to 1 careful.
    """

    generator: np.random.Generator
    catalogue: Catalogue
    items: Ints
    ordinal: int
    stealth: float

    def between(self, careless: float, careful: float) -> float:
        """A number between two, by stealth, on a ratio scale."""
        return float(careless ** (1 - self.stealth) * careful**self.stealth)

    def times(self, careless: float, careful: float) -> int:
        """How often to do something, at least once."""
        spread = float(np.exp(0.3 * self.generator.standard_normal()))
        return max(1, round(self.between(careless, careful) * spread))

    def happens(self, chance: float) -> bool:
        """Whether something of this chance happens."""
        return bool(self.generator.random() < chance)

    def any_of(self, items: Ints) -> int:
        """One of these."""
        return int(items[self.generator.integers(0, len(items))])

    def price(self, item: int) -> int:
        """Price of an item in cents."""
        return int(self.catalogue.price[item])


def _step(name: str, item: int = -1, amount: int = -1, *, opening: bool = False) -> Step:
    return Step(STATE[name], item, amount, opening=opening)


def fake_orders(scene: Scene) -> list[Step]:
    """A ring buys from one seller, without choosing, and praises what it bought."""
    steps = []
    for _ in range(scene.times(8, 1)):
        item = scene.any_of(scene.items)
        price = scene.price(item)
        if scene.happens(scene.stealth):
            steps += [_step("search"), _step("view_cart", item)]
        steps += [_step("add", item, price), _step("checkout", item, price)]
        steps += [_step("pay_ok", item, price)]
        if scene.happens(0.6):
            steps += [_step("rate_good", item)]
        if scene.happens(0.4):
            steps += [_step("review_good", item)]
    return steps


def card_testing(scene: Scene) -> list[Step]:
    """Stolen cards are tried one after the other with small payments until one goes through."""
    item = scene.any_of(scene.items)
    price = scene.price(item)
    steps = [_step("add", item, price), _step("checkout", item, price)]
    for _ in range(scene.times(32, 3)):
        amount = int(scene.generator.integers(50, 50 + round(scene.between(300, 4000))))
        steps.append(_step("pay_failed", item, amount))
        if scene.happens(0.12):
            steps.append(_step("pay_ok", item, amount))
    return steps


def account_takeover(scene: Scene) -> list[Step]:
    """A stranger signs in as the customer, changes the account and orders what sells well."""
    steps = [_step("login_failed", opening=True) for _ in range(scene.times(6, 0.6) - 1)]
    steps.append(_step("login_ok", opening=True))
    changes = ["password", "address", "profile"]
    if scene.stealth > 0.3:
        scene.generator.shuffle(changes)
        changes = changes[: 1 + int(scene.happens(0.5))]
    steps += [_step(name) for name in changes]
    for _ in range(scene.times(4, 1)):
        item = scene.any_of(scene.items)
        price = scene.price(item)
        steps += [_step("view_cart", item), _step("add", item, price)]
        steps.append(_step("checkout", item, price))
        if scene.happens(0.25):
            steps.append(_step("pay_failed", item, price))
        steps.append(_step("pay_ok", item, price))
    return steps


def credential_stuffing(scene: Scene) -> list[Step]:
    """Leaked passwords are tried on many accounts; now and then one fits."""
    steps = [_step("login_failed", opening=True) for _ in range(scene.times(12, 1.2))]
    if scene.happens(0.2):
        steps.append(_step("login_ok", opening=True))
    return steps


def scraping(scene: Scene) -> list[Step]:
    """A robot reads a category item by item, in order."""
    count = scene.times(240, 12)
    category = scene.catalogue.category[scene.items[0]]
    low, high = scene.catalogue.first_item[category : category + 2]
    first = int(scene.generator.integers(0, high - low))
    steps = []
    for n in range(count):
        if n % 24 == 0:
            steps.append(_step("search"))
        steps.append(_step("view", int(low + (first + n) % (high - low))))
    return steps


def coupon_abuse(scene: Scene) -> list[Step]:
    """Fresh accounts of one person each take the welcome discount, and guess at other codes."""
    item = scene.any_of(scene.items)
    price = scene.price(item)
    steps = [_step("register", opening=True), _step("view", item), _step("add", item, price)]
    failed, taken = STATE["coupon_failed"], STATE["coupon_ok"]
    for _ in range(scene.times(20, 1.2)):
        guess = COUPONS.index(scene.generator.choice(GUESSED_COUPONS))
        steps.append(Step(failed, coupon=guess))
    steps.append(Step(taken, coupon=COUPONS.index(WELCOME_COUPON)))
    paid = price * 85 // 100
    return [*steps, _step("checkout", item, paid), _step("pay_ok", item, paid)]


def return_abuse(scene: Scene) -> list[Step]:
    """Dear things are bought in one visit, and nearly all of them sent back in the next."""
    steps = []
    for n in range(scene.times(7, 1.6)):
        item = int(scene.items[n % len(scene.items)])
        price = scene.price(item)
        if scene.ordinal % 2 == 0:
            steps += [_step("add", item, price), _step("checkout", item, price)]
            steps.append(_step("pay_ok", item, price))
        else:
            steps.append(_step("return", item, price))
            if scene.happens(0.3):
                steps.append(_step("message", item))
            steps.append(_step("refund", item, price))
    return steps


def review_spam(scene: Scene) -> list[Step]:
    """Items never bought are praised or run down in a row, all of one seller."""
    mood = "good" if scene.items[0] % 3 else "bad"
    steps = []
    for _ in range(scene.times(20, 2)):
        item = scene.any_of(scene.items)
        steps.append(_step(f"review_{mood}", item))
        if scene.happens(0.7):
            steps.append(_step(f"rate_{mood}", item))
    return steps


def request_probes(scene: Scene) -> list[Step]:
    """Paths that no page links to, looking for a way in."""
    steps = []
    for _ in range(scene.times(45, 2)):
        path = int(scene.generator.integers(len(HONEST_PATHS), len(PATHS)))
        name = "request_ok" if scene.happens(0.15) else "request_failed"
        steps.append(Step(STATE[name], path=path))
    return steps


def hoarding(scene: Scene) -> list[Step]:
    """Resellers put the same sought-after item into the cart over and over."""
    item = scene.any_of(scene.items)
    price = scene.price(item)
    pieces = scene.times(4, 1.5)
    rounds = scene.times(24, 2.5)
    steps = [_step("view", item)]
    steps += [_step("add", item, price * pieces) for _ in range(rounds)]
    if scene.happens(0.6):
        total = price * pieces * rounds
        steps += [_step("checkout", item, total), _step("pay_ok", item, total)]
    return steps


SCRIPTS: dict[str, Callable[[Scene], list[Step]]] = {
    script.__name__: script
    for script in (
        fake_orders, card_testing, account_takeover, credential_stuffing, scraping,
        coupon_abuse, return_abuse, review_spam, request_probes, hoarding,
    )
}  # fmt: skip
