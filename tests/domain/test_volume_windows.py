"""Windows of volumes, and the scale on which they are compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from habitus.domain.volume_windows import stabilise, strangest_windows, unstabilise

pytestmark = pytest.mark.plain


@given(st.floats(0, 1e6), st.floats(1e-6, 10))
def test_what_is_stabilised_comes_back(volume: float, dispersion: float) -> None:
    back = unstabilise(stabilise(np.array([volume]), dispersion), dispersion)

    assert back[0] == pytest.approx(volume, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dispersion", [1e-6, 0.2])
@pytest.mark.parametrize("mean", [5, 50, 500])
def test_stabilised_volumes_have_a_variance_of_1(mean: float, dispersion: float) -> None:
    random = np.random.default_rng(5)
    rate = mean * random.gamma(1 / dispersion, dispersion, 50_000)

    stable = stabilise(random.poisson(rate).astype(float), dispersion)

    assert stable.var() == pytest.approx(1, abs=0.1)


@given(
    st.lists(st.integers(0, 30), min_size=12, max_size=30),
    st.sets(st.integers(2, 6), max_size=3),
)
def test_the_strangest_window_is_that_of_a_search_through_all(
    values: list[int], more: set[int]
) -> None:
    windows = (1, *sorted(more))
    observed, expected = np.array(values, dtype=float), np.linspace(2, 9, len(values))
    trained = np.arange(len(values)) < 10

    found = strangest_windows(observed, expected, (2.0, 0.1), trained, windows)

    far: dict[int, list[tuple[float, int]]] = {end: [] for end in range(1, len(values) + 1)}
    for length in windows:
        left = {}
        for end in range(length, len(values) + 1):
            mean = expected[end - length : end]
            dispersion = 0.1 * (mean**2).sum() / mean.sum() ** 2
            both = np.array([observed[end - length : end].sum(), mean.sum()]) / 2
            left[end] = np.subtract(*stabilise(both, dispersion))
        usual = [value for end, value in left.items() if end <= 10]
        for end, value in left.items():
            width = max(np.std(usual), 1.0)
            far[end].append((abs(value - np.mean(usual)) / width, length))
    for end, several in far.items():
        row = found.loc[end - 1]
        assert row["strangeness"] == pytest.approx(max(several)[0], rel=1e-6, abs=1e-6)
        assert row["observed"] == observed[end - int(row["periods"]) : end].sum()
