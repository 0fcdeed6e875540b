"""How unlikely the errors of an autoencoder are, against obvious references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from habitus.domain.detectors.reconstruction import Network, Reconstruction, student
from habitus.errors import ArtefactError

pytestmark = pytest.mark.plain

WIDTH = 5


def network(seed: int = 1) -> Network:
    random = np.random.default_rng(seed)
    shapes = [(2 * WIDTH, 7), (7, 6), (6, WIDTH)]
    return Network([random.normal(size=shape) for shape in shapes], [np.ones(n) for _, n in shapes])


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    known = random.random((count, WIDTH)) < 0.9
    return np.where(known, random.normal(size=(count, WIDTH)), 0).astype(np.float32), known


def reconstruction() -> Reconstruction:
    orders = np.array([[0, 1, 2, 0, 1], [2, 1, 0, 1, 2]])
    return Reconstruction.fit(network(), orders, *rows(300, 2), np.full(WIDTH, 0.1))


@given(st.permutations([0, 0, 1, 2, 3]), st.integers(0, 9))
def test_a_column_is_told_from_the_groups_before_its_own_and_from_no_other(
    order: list[int], seed: int
) -> None:
    groups, net = np.array(order), network()
    values, known = rows(4, seed)
    told = net.told(values, known, groups)

    for column in range(WIDTH):
        seen = known & (groups < groups[column])
        state = np.hstack([np.where(seen, values, 0), ~seen])
        for kernel, bias in zip(net.kernels[:-1], net.biases[:-1], strict=True):
            state = np.maximum(state @ kernel + bias, 0)
        one = state @ net.kernels[-1] + net.biases[-1]
        np.testing.assert_allclose(told[:, column], one[:, column], atol=1e-9)


@pytest.mark.parametrize("freedom", [2, 32])
def test_scale_and_freedom_of_errors_are_the_likeliest(freedom: int) -> None:
    errors = stats.t.rvs(freedom, scale=0.7, size=(4000, 1), random_state=3)
    known = np.random.default_rng(1).random(errors.shape) < 0.8

    scale, found, nats = student(errors, known, np.array([0.01]))

    assert found == [freedom]
    _, _, reference = stats.t.fit(errors[known], f0=freedom, floc=0)
    assert scale == pytest.approx(reference, rel=1e-3)
    density = -stats.t.logpdf(errors[known], freedom, scale=scale[0])
    at_best = -stats.t.logpdf(0, freedom, scale=scale[0])
    assert nats == pytest.approx(density.mean() - at_best)


def test_errors_that_hardly_differ_have_the_smallest_scale_allowed() -> None:
    errors = np.zeros((50, 2))
    errors[:, 1] = 1e-9
    scale, freedom, nats = student(errors, np.ones((50, 2), bool), np.array([0.1, 0.3]))

    np.testing.assert_array_equal(scale, [0.1, 0.3])
    assert nats == pytest.approx(0)
    assert np.isfinite(freedom).all()


def test_a_column_that_is_never_known_is_no_error() -> None:
    known = np.array([[True, False]] * 50)
    scale, freedom, nats = student(np.ones((50, 2)), known, np.array([0.1, 0.1]))

    assert np.isfinite([scale, freedom, nats]).all()
    assert nats[1] == 0


def test_nats_are_minus_the_log_density_above_its_mean_over_other_rows() -> None:
    found = reconstruction()
    values, known = rows(20, 4)

    by_hand = np.zeros(values.shape)
    for index, order in enumerate(found.orders):
        freedom, scale = found.freedoms[index], found.scales[index]
        for rows_of, sign in ((rows(300, 2), -1), ((values, known), 1)):
            error = rows_of[0] - found.network.told(*rows_of, order)
            nats = -stats.t.logpdf(error, freedom, scale=scale)
            mean = np.where(rows_of[1], nats, 0).sum(axis=0) / rows_of[1].sum(axis=0)
            by_hand += nats if sign > 0 else -mean
    np.testing.assert_allclose(
        found.excess(values, known), np.where(known, by_hand / 2, 0), atol=1e-9
    )


def test_rows_like_those_it_was_measured_on_come_to_nothing_on_average() -> None:
    values, known = rows(300, 2)
    excess = reconstruction().excess(values, known)

    np.testing.assert_allclose(excess.sum(axis=0), 0, atol=1e-9)
    assert (excess[~known] == 0).all()


def test_many_rows_are_judged_as_each_alone() -> None:
    values, known = rows(1100, 5)
    together = reconstruction().excess(values, known)

    for row in (0, 511, 512, 1099):
        alone = reconstruction().excess(values[row : row + 1], known[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-10)


def test_arrays_bring_back_the_same_reconstruction() -> None:
    again = Reconstruction.from_arrays(reconstruction().to_arrays(), WIDTH, "x.npz")

    some = rows(9, 6)
    np.testing.assert_array_equal(again.excess(*some), reconstruction().excess(*some))


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("kernel_1", None, "'kernel_1' is missing"),
        ("kernel_0", np.ones((3, 7)), "'kernel_0' is missing or damaged"),
        ("bias_2", np.full(WIDTH, np.nan), "'bias_2' is missing or damaged"),
        ("bias_2", np.ones(WIDTH + 1), "'kernel_2' is missing or damaged"),
        ("bias_1", np.array(["a"] * 6), "'bias_1' is missing or damaged"),
        ("scales", np.ones((2, 4)), "'scales' is missing or damaged"),
        ("scales", np.ones((3, WIDTH)), "not as many"),
        ("scales", np.zeros((2, WIDTH)), "cannot be"),
        ("orders", np.full((2, WIDTH), -1), "cannot be"),
        ("orders", np.full((2, WIDTH), 10**9), "cannot be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    name: str, array: np.ndarray | None, words: str
) -> None:
    arrays = dict(reconstruction().to_arrays())
    arrays.pop(name)
    if array is not None:
        arrays[name] = array

    with pytest.raises(ArtefactError, match=f"x.npz: .*{words}"):
        Reconstruction.from_arrays(arrays, WIDTH, "x.npz")


def test_a_network_of_another_width_is_refused() -> None:
    with pytest.raises(ArtefactError, match=r"x.npz: array 'kernel_0'"):
        Reconstruction.from_arrays(reconstruction().to_arrays(), WIDTH + 1, "x.npz")
