"""Who shops here: personas, and the habits that make up a visit."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# State -> action and outcome in the files. A state is finer than an action: what people do next
# depends on how the last step went, and on whether something lies in the cart.
STATES = {
    "login_ok": ("login", "success"),
    "login_failed": ("login", "failure"),
    "register": ("register", "success"),
    "search": ("search", None),
    "filter": ("filter", None),
    "view": ("view", None),
    "recommend": ("recommend_click", None),
    "wishlist": ("wishlist", None),
    "add": ("add_to_cart", None),
    "search_cart": ("search", None),
    "view_cart": ("view", None),
    "recommend_cart": ("recommend_click", None),
    "remove": ("remove_from_cart", None),
    "coupon_ok": ("coupon", "success"),
    "coupon_failed": ("coupon", "failure"),
    "checkout": ("checkout", None),
    "address_cart": ("address_change", "success"),
    "pay_ok": ("payment", "success"),
    "pay_failed": ("payment", "failure"),
    "review_good": ("review", "positive"),
    "review_bad": ("review", "negative"),
    "rate_good": ("rate", "positive"),
    "rate_bad": ("rate", "negative"),
    "return": ("return", None),
    "refund": ("refund", "success"),
    "profile": ("profile_change", "success"),
    "address": ("address_change", "success"),
    "password": ("password_change", "success"),
    "message": ("message_seller", None),
    "request_ok": ("request", "success"),
    "request_failed": ("request", "failure"),
    "logout": ("logout", None),
}
STATE = {name: index for index, name in enumerate(STATES)}
END = len(STATES)

# State -> weights of the next state; "end" leaves the shop. Personas bend these.
NEXT: dict[str, dict[str, float]] = {
    "login_ok": {
        "search": 40, "view": 15, "recommend": 12, "profile": 2, "address": 1.5, "password": 0.8,
        "review_good": 2, "rate_good": 2, "return": 2, "message": 2, "wishlist": 2, "end": 6,
    },
    "login_failed": {"login_failed": 18, "login_ok": 68, "password": 4, "end": 10},
    "register": {"search": 40, "view": 20, "profile": 15, "address": 10, "end": 10},
    "search": {
        "view": 60, "filter": 15, "search": 15, "recommend": 3, "request_failed": 0.3, "end": 8,
    },
    "filter": {"view": 65, "filter": 10, "search": 12, "end": 6},
    "view": {
        "view": 32, "search": 17, "recommend": 9, "filter": 5, "add": 11, "wishlist": 3.5,
        "message": 1, "request_ok": 0.3, "request_failed": 0.2, "logout": 1, "end": 14,
    },
    "recommend": {
        "view": 50, "recommend": 12, "add": 7, "wishlist": 3, "search": 10, "end": 11,
    },
    "wishlist": {"view": 45, "search": 20, "recommend": 10, "end": 18},
    "add": {
        "view_cart": 28, "search_cart": 15, "recommend_cart": 6, "coupon_ok": 4,
        "coupon_failed": 1.5, "checkout": 30, "remove": 4, "add": 4, "end": 9,
    },
    "search_cart": {"view_cart": 72, "search_cart": 12, "checkout": 4, "end": 6},
    "view_cart": {
        "view_cart": 30, "search_cart": 14, "recommend_cart": 7, "add": 22, "checkout": 12,
        "remove": 4, "end": 8,
    },
    "recommend_cart": {"view_cart": 50, "add": 20, "checkout": 10, "end": 7},
    "remove": {"view_cart": 35, "search_cart": 15, "checkout": 25, "end": 18},
    "coupon_ok": {"checkout": 85, "view_cart": 8, "end": 4},
    "coupon_failed": {
        "coupon_failed": 22, "coupon_ok": 18, "checkout": 45, "view_cart": 6, "end": 9,
    },
    "checkout": {
        "pay_ok": 70, "pay_failed": 7, "address_cart": 5, "coupon_ok": 5, "coupon_failed": 2,
        "view_cart": 5, "end": 9,
    },
    "address_cart": {"pay_ok": 75, "pay_failed": 8, "checkout": 12, "end": 4},
    "pay_ok": {
        "end": 45, "view": 14, "search": 10, "recommend": 10, "profile": 2, "rate_good": 2,
        "logout": 8, "message": 2,
    },
    "pay_failed": {
        "pay_failed": 27, "pay_ok": 48, "address_cart": 3, "message": 2, "end": 18,
    },
    "review_good": {
        "review_good": 11, "review_bad": 1, "rate_good": 38, "view": 14, "search": 8, "end": 28,
    },
    "review_bad": {"rate_bad": 40, "message": 14, "return": 8, "search": 8, "end": 30},
    "rate_good": {"rate_good": 20, "rate_bad": 2, "review_good": 14, "view": 14, "end": 42},
    "rate_bad": {"review_bad": 25, "rate_good": 8, "message": 10, "view": 8, "end": 45},
    "return": {
        "refund": 38, "return": 12, "message": 15, "search": 10, "view": 8, "end": 26,
    },
    "refund": {"end": 46, "search": 15, "view": 15, "return": 12, "message": 5},
    "profile": {
        "address": 20, "password": 10, "search": 25, "view": 15, "profile": 8, "logout": 5,
        "end": 15,
    },
    "address": {"profile": 12, "search": 25, "view": 20, "password": 4, "end": 15},
    "password": {"login_ok": 25, "search": 20, "view": 15, "profile": 10, "end": 15},
    "message": {"message": 20, "view": 30, "search": 12, "return": 4, "end": 33},
    "request_ok": {"search": 35, "view": 35, "request_ok": 5, "request_failed": 3, "end": 18},
    "request_failed": {
        "search": 35, "view": 25, "request_ok": 5, "request_failed": 10, "end": 24,
    },
    "logout": {"login_ok": 5, "end": 95},
}  # fmt: skip
FIRST: dict[str, float] = {
    "search": 30, "view": 22, "recommend": 9, "login_ok": 26, "login_failed": 3, "wishlist": 1,
    "review_good": 1, "review_bad": 0.4, "rate_good": 1.2, "rate_bad": 0.3, "return": 1.8,
    "message": 1.5, "profile": 0.6, "address": 0.5, "password": 0.4, "request_ok": 0.3,
    "request_failed": 0.3,
}  # fmt: skip

# State -> median seconds until the next step, and the spread of its logarithm.
DWELL: dict[str, tuple[float, float]] = {
    "login_ok": (6, 0.6), "login_failed": (8, 0.6), "register": (40, 0.5), "search": (9, 0.8),
    "filter": (7, 0.7), "view": (20, 1.1), "recommend": (11, 0.9), "wishlist": (7, 0.8),
    "add": (9, 0.9), "search_cart": (9, 0.8), "view_cart": (18, 1.1), "recommend_cart": (10, 0.9),
    "remove": (6, 0.7), "coupon_ok": (9, 0.7), "coupon_failed": (13, 0.8), "checkout": (32, 0.7),
    "address_cart": (30, 0.6), "pay_ok": (16, 0.9), "pay_failed": (26, 0.8),
    "review_good": (80, 0.7), "review_bad": (100, 0.7), "rate_good": (11, 0.7),
    "rate_bad": (12, 0.7), "return": (50, 0.8), "refund": (20, 0.8), "profile": (35, 0.7),
    "address": (40, 0.7), "password": (28, 0.6), "message": (70, 0.9), "request_ok": (5, 1.0),
    "request_failed": (5, 1.0), "logout": (5, 0.7),
}  # fmt: skip


@dataclass(frozen=True)
class Persona:
    """A way to shop.

    Args:
        share: Share of shoppers.
        bends: State -> factor on the weight of going there.
        visits: Factor on the number of visits.
        pace: Factor on the time between steps.
        weekend: Factor on visits on Saturdays and Sundays.
        hours: (hour of day, spread in hours, weight) of each peak of the day.
        habit: Chance that a new item is one of the shopper's old favourites.
        thrift: Chance to take the cheaper of two items.
        quantity: Mean number of pieces per purchase.
    """

    share: float
    bends: Mapping[str, float] = field(default_factory=dict)
    visits: float = 1.0
    pace: float = 1.0
    weekend: float = 1.2
    hours: tuple[tuple[float, float, float], ...] = ((20, 2.5, 0.6), (12.5, 1.5, 0.25), (8, 2, 0.1))
    habit: float = 0.2
    thrift: float = 0.3
    quantity: float = 1.05


PERSONAS = {
    "browser": Persona(
        0.35, {"add": 0.4, "wishlist": 2.0, "recommend": 1.7, "end": 0.85}, pace=0.9
    ),
    "bargain_hunter": Persona(
        0.21,
        {"filter": 2.5, "coupon_ok": 4, "coupon_failed": 5, "remove": 2, "wishlist": 1.6},
        thrift=0.95,
        habit=0.1,
    ),
    "loyal": Persona(
        0.2,
        {"search": 0.6, "review_good": 2, "rate_good": 2, "add": 1.8, "checkout": 1.5},
        visits=1.2,
        habit=0.65,
    ),
    "gift": Persona(
        0.1,
        {"search": 1.5, "add": 1.4, "message": 1.6, "return": 2, "address_cart": 3},
        visits=0.6,
        pace=1.2,
        weekend=1.6,
        habit=0.02,
        quantity=1.2,
    ),
    "business": Persona(
        0.06,
        {"add": 2.6, "checkout": 1.3, "pay_failed": 1.4, "end": 0.9, "wishlist": 0.2},
        visits=2.0,
        pace=0.7,
        weekend=0.15,
        hours=((10, 1.6, 0.5), (14.5, 1.8, 0.5)),
        habit=0.55,
        quantity=6.0,
    ),
    "dissatisfied": Persona(
        0.06,
        {"return": 5, "refund": 2, "message": 3, "review_bad": 6, "rate_bad": 6, "remove": 2},
        visits=0.8,
        habit=0.15,
    ),
    "night_owl": Persona(
        0.02,
        {"end": 0.6, "view": 1.3},
        visits=2.5,
        pace=0.6,
        hours=((1.5, 1.8, 0.8), (22, 1.5, 0.2)),
    ),
}
