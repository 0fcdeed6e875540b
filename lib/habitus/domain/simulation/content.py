"""What each step is about: item, amount, coupon and path."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitus.domain.simulation.catalogue import Catalogue, Floats, Ints
from habitus.domain.simulation.embedding import Steps
from habitus.domain.simulation.personas import PERSONAS, STATE
from habitus.domain.simulation.scripts import (
    COUPONS,
    HONEST_COUPONS,
    HONEST_PATHS,
    PROMOTION_COUPON,
    WELCOME_COUPON,
)
from habitus.domain.simulation.shoppers import Shoppers
from habitus.domain.simulation.visits import Visits

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Content:
    """What E steps are about; -1 stands for nothing.

    Args:
        item: [E] item.
        category: [E] category, also of a search that has no item.
        amount: [E] cents.
        coupon: [E] index into `COUPONS`.
        path: [E] index into `PATHS`.
    """

    item: Ints
    category: Ints
    amount: Ints
    coupon: Ints
    path: Ints


def fill(
    generator: np.random.Generator,
    catalogue: Catalogue,
    shoppers: Shoppers,
    visits: Visits,
    steps: Steps,
    promotion: Mask,
) -> Content:
    """Give every step its content; what a step of an attack says of itself stands.

    Args:
        generator: Randomness.
        catalogue: The shop's items.
        shoppers: The U shoppers.
        visits: The S visits, by shopper and in order.
        steps: The E steps, by visit and in order.
        promotion: [E] whether a promotion is on.
    """
    shopper = visits.shopper[steps.visit]
    persona = visits.persona[steps.visit]
    ordinary = ~steps.attack
    first = _starts(steps.visit)
    category, viewed = _browsed(generator, catalogue, shoppers, steps, shopper, persona, first)
    added = _latest(_in(steps, "add") & ordinary, first)
    bought = np.where(added >= 0, viewed[added], viewed)
    item = np.where(_in(steps, "remove", "checkout", "pay_ok", "pay_failed"), bought, viewed)
    item = _look_back(generator, shoppers, steps, shopper, item)
    item = np.where(_in(steps, *_WITH_ITEM), item, -1)
    item = np.where(steps.attack, steps.item, item)
    category = np.where(item >= 0, catalogue.category[item], category)
    category = np.where((item >= 0) | _in(steps, "search", "search_cart", "filter"), category, -1)
    amount = _amounts(generator, catalogue, steps, persona, item, added, first)
    return Content(
        item=item,
        category=category,
        amount=np.where(steps.attack, steps.amount, amount),
        coupon=np.where(steps.attack, steps.coupon, _coupons(generator, steps, promotion, first)),
        path=np.where(
            _in(steps, "request_ok", "request_failed") & ordinary,
            generator.integers(0, len(HONEST_PATHS), len(item)),
            steps.path,
        ),
    )


_PAST = ("review_good", "review_bad", "rate_good", "rate_bad", "return", "refund")
_WITH_ITEM = (
    "view", "view_cart", "recommend", "recommend_cart", "wishlist", "add", "remove", "checkout",
    "pay_ok", "pay_failed", "message", *_PAST,
)  # fmt: skip


def _browsed(
    generator: np.random.Generator,
    catalogue: Catalogue,
    shoppers: Shoppers,
    steps: Steps,
    shopper: Ints,
    persona: Ints,
    first: Ints,
) -> tuple[Ints, Ints]:
    """Category and item in view at each step: a search picks a category, a view an item of it."""
    count = len(shopper)
    ordinary = ~steps.attack
    begins = np.arange(count) == first
    turns = _in(steps, "search", "search_cart", "recommend", "recommend_cart") & ordinary
    turning = np.flatnonzero(turns | begins)
    taste = shoppers.tastes[shopper[turning], generator.choice(3, len(turning), p=[0.6, 0.3, 0.1])]
    popular = catalogue.draw_categories(generator, len(turning))
    chosen = np.empty(count, dtype=np.int64)
    chosen[turning] = np.where(generator.random(len(turning)) < 0.6, taste, popular)
    category = chosen[_latest(turns | begins, first)]

    looks = _in(steps, "view", "view_cart", "recommend", "recommend_cart") & ordinary
    looking = np.flatnonzero(looks | begins)
    who, how = shopper[looking], persona[looking]
    one = catalogue.draw_items(generator, category[looking])
    other = catalogue.draw_items(generator, category[looking])
    thrifty = generator.random(len(looking)) < _of("thrift")[how]
    cheaper = np.where(catalogue.price[other] < catalogue.price[one], other, one)
    item = np.where(thrifty, cheaper, one)
    known = shoppers.favourites[who, generator.integers(0, 8, len(looking))]
    item = np.where(generator.random(len(looking)) < _of("habit")[how], known, item)
    viewed = np.empty(count, dtype=np.int64)
    viewed[looking] = item
    return category, viewed[_latest(looks | begins, first)]


def _look_back(
    generator: np.random.Generator,
    shoppers: Shoppers,
    steps: Steps,
    shopper: Ints,
    item: Ints,
) -> Ints:
    """Reviews, ratings, returns and questions about them concern what was bought before."""
    ordinary = ~steps.attack
    back = _in(steps, *_PAST) & ordinary
    before = np.concatenate([[-1], steps.state[:-1]])
    goes_on = np.concatenate([[False], back[:-1] & (steps.visit[1:] == steps.visit[:-1])])
    asks = _in(steps, "message") & ordinary & goes_on
    # A review right after a rating is about the same item; a second review is not.
    anchor = back & (~goes_on | (before == steps.state))
    paid = _latest(_in(steps, "pay_ok") & ordinary, _starts(shopper))
    recent = (paid >= 0) & (generator.random(len(item)) < 0.6)
    earlier = shoppers.favourites[shopper, generator.integers(0, 8, len(item))]
    past = np.where(recent, item[paid], earlier)
    return np.where(back | asks, past[_latest(anchor, _starts(steps.visit))], item)


def _amounts(
    generator: np.random.Generator,
    catalogue: Catalogue,
    steps: Steps,
    persona: Ints,
    item: Ints,
    added: Ints,
    first: Ints,
) -> Ints:
    """Cents: of the pieces added or removed, of the whole cart at checkout, of a refund."""
    count = len(item)
    ordinary = ~steps.attack
    price = np.where(item >= 0, catalogue.price[item], 0)
    adds = _in(steps, "add") & ordinary
    pieces = 1 + generator.poisson(_of("quantity")[persona] - 1)
    value = np.where(adds, price * pieces, 0)
    removes = _in(steps, "remove") & ordinary
    value = np.where(removes, np.where(added >= 0, value[added], price), value)
    # What lies in the cart: what was added since the last payment, less what was removed.
    sums = np.cumsum(np.where(removes, -value, value))
    paid = _latest(np.concatenate([[False], (_in(steps, "pay_ok") & ordinary)[:-1]]), first)
    since = np.where(paid >= 0, paid, first) - 1
    cart = np.maximum(sums - np.where(since >= 0, sums[since], 0), price)
    discounted = _latest(_in(steps, "coupon_ok") & ordinary, first) > since
    cart = np.where(discounted, cart * 9 // 10, cart)
    pays = _in(steps, "checkout", "pay_ok", "pay_failed")
    amount = np.where(adds | removes, value, np.full(count, -1))
    amount = np.where(pays, cart, amount)
    return np.where(_in(steps, "return", "refund"), price, amount)


def _coupons(generator: np.random.Generator, steps: Steps, promotion: Mask, first: Ints) -> Ints:
    """The codes that shoppers type: the promotion's, the welcome code of new ones, old ones."""
    count = len(steps.state)
    usual = generator.integers(0, len(HONEST_COUPONS), count)
    welcome = COUPONS.index(WELCOME_COUPON)
    code = np.where(steps.state[first] == STATE["register"], welcome, usual)
    on_sale = promotion & (generator.random(count) < 0.7)
    code = np.where(on_sale, COUPONS.index(PROMOTION_COUPON), code)
    hopes = _in(steps, "coupon_failed") & (generator.random(count) < 0.3)
    code = np.where(hopes, generator.integers(welcome + 1, len(COUPONS), count), code)
    return np.where(_in(steps, "coupon_ok", "coupon_failed"), code, -1)


def _in(steps: Steps, *names: str) -> Mask:
    table = np.zeros(len(STATE), dtype=bool)
    table[[STATE[name] for name in names]] = True
    member: Mask = table[steps.state]
    return member


def _of(name: str) -> Floats:
    return np.array([getattr(persona, name) for persona in PERSONAS.values()])


def _starts(groups: Ints) -> Ints:
    """[E] index of the first event of each event's group; groups lie together."""
    index = np.arange(len(groups))
    begins = np.ones(len(groups), dtype=bool)
    begins[1:] = groups[1:] != groups[:-1]
    starts: Ints = np.maximum.accumulate(np.where(begins, index, 0))
    return starts


def _latest(where: Mask, first: Ints) -> Ints:
    """[E] index of the latest marked event up to each, not before `first`; -1 where none is."""
    latest = np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))
    within: Ints = np.where(latest >= first, latest, -1)
    return within
