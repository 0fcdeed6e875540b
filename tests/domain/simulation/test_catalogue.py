import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.simulation.catalogue import CATEGORIES, make_catalogue

pytestmark = pytest.mark.plain


@given(items=st.integers(10, 400), sellers=st.integers(2, 30), seed=st.integers(0, 99))
def test_any_catalogue_gives_items_of_the_category_asked_for(
    items: int, sellers: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    catalogue = make_catalogue(generator, items, sellers)
    assert len(catalogue.price) == len(catalogue.seller) == len(catalogue.category) == items
    assert catalogue.price.min() >= 99
    assert 0 <= catalogue.seller.min() <= catalogue.seller.max() < sellers
    categories = catalogue.draw_categories(generator, 200)
    assert (catalogue.category[catalogue.draw_items(generator, categories)] == categories).all()


def test_few_items_and_few_sellers_make_most_of_the_trade() -> None:
    generator = np.random.default_rng(1)
    catalogue = make_catalogue(generator, 3000, 150)
    drawn = catalogue.draw_items(generator, catalogue.draw_categories(generator, 50_000))
    counts = np.sort(np.bincount(drawn, minlength=3000))[::-1]
    assert counts[:300].sum() > 0.5 * counts.sum()
    assert np.sort(np.bincount(catalogue.seller))[::-1][:15].sum() > 0.35 * 3000


def test_prices_follow_their_category() -> None:
    catalogue = make_catalogue(np.random.default_rng(1), 5000, 50)
    names = list(CATEGORIES)
    median = {
        name: np.median(catalogue.price[catalogue.category == names.index(name)])
        for name in ("stationery", "phones")
    }
    assert median["phones"] > 10 * median["stationery"]
