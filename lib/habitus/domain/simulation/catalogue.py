"""What the shop sells: items in categories, by sellers, at skewed prices and popularity."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Category -> median price in whole units of money; the order is the order of popularity.
CATEGORIES = {
    "fashion": 35, "phones": 240, "beauty": 18, "home": 45, "books": 14, "toys": 25,
    "grocery": 8, "sports": 40, "computers": 520, "garden": 38, "shoes": 60, "baby": 22,
    "kitchen": 42, "audio": 90, "pets": 16, "games": 48, "tools": 55, "jewellery": 110,
    "furniture": 180, "stationery": 7, "cameras": 330, "health": 20, "gift_cards": 50,
    "music": 15,
}  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """The I items of C categories; items of one category lie next to each other.

    Args:
        category: [I] index into `CATEGORIES`.
        seller: [I] index of the seller.
        price: [I] price in cents.
        popularity: [I] category plus the cumulative share of the item's popularity within it.
        category_popularity: [C] cumulative share of the category.
        first_item: [C + 1] where each category's items begin.
    """

    category: Ints
    seller: Ints
    price: Ints
    popularity: Floats
    category_popularity: Floats
    first_item: Ints

    def draw_categories(self, generator: np.random.Generator, size: int) -> Ints:
        """[size] categories by popularity."""
        return np.searchsorted(self.category_popularity, generator.random(size), side="right")

    def draw_items(self, generator: np.random.Generator, categories: Ints) -> Ints:
        """One item of each category given, by popularity."""
        points = categories + generator.random(len(categories))
        items = np.searchsorted(self.popularity, points, side="right")
        # A point that rounds up to the next category stays in its own.
        last: Ints = np.minimum(items, self.first_item[categories + 1] - 1)
        return last

    def items_of(self, seller: int) -> Ints:
        """The items of a seller."""
        return np.flatnonzero(self.seller == seller)


def make_catalogue(generator: np.random.Generator, items: int, sellers: int) -> Catalogue:
    """Lay out a shop whose popularity of categories, items and sellers follows Zipf's law."""
    count = min(len(CATEGORIES), max(2, items // 4))
    shares = _zipf(count, 0.8)
    # Every category has an item, the others follow the categories' popularity.
    sizes = 1 + generator.multinomial(items - count, shares)
    first_item = np.concatenate([[0], np.cumsum(sizes)])
    category = np.repeat(np.arange(count), sizes)
    medians = np.array(list(CATEGORIES.values())[:count], dtype=np.float64)
    price = medians[category] * np.exp(0.7 * generator.standard_normal(items))
    popularity = np.concatenate(
        [c + np.cumsum(generator.permutation(_zipf(n, 1.0))) for c, n in enumerate(sizes)]
    )
    popularity[first_item[1:] - 1] = np.arange(1, count + 1)
    # The first sellers are the largest, and each leans to some categories.
    seller = np.concatenate(
        [
            generator.choice(sellers, size, p=_shares(_zipf(sellers, 0.9) * lean))
            for size, lean in zip(
                sizes, np.exp(1.5 * generator.standard_normal((count, sellers))), strict=True
            )
        ]
    )
    return Catalogue(
        category=category,
        seller=seller,
        price=np.maximum(99, np.round(price).astype(np.int64) * 100 - 1),
        popularity=popularity,
        category_popularity=np.append(np.cumsum(shares)[:-1], 1.0),
        first_item=first_item,
    )


def _zipf(count: int, exponent: float) -> Floats:
    return _shares(1.0 / np.arange(1, count + 1) ** exponent)


def _shares(weights: Floats) -> Floats:
    shares: Floats = weights / weights.sum()
    return shares
