"""How well an autoencoder tells each number of a row from the others, in nats.

Columns are told group by group, each from those of the groups before it, so that by the chain rule
the log-densities of a row's numbers add up to one of the row, and numbers that say the same count
once. Any order of the columns will do, and the mean over several is taken (Uria, Murray and
Larochelle 2014, "A deep and tractable density estimator"; here without their mixture).

What an error means is learned for each column at its place in each order from rows that the network
was not trained on: errors follow Student's t with n degrees of freedom and the scale s,

    -log p(e) = (n + 1) / 2 log(1 + e^2 / (n s^2)) + log s + 1/2 log n + log B(1/2, n / 2),

the likeliest s and n (Lange, Little and Taylor 1989, "Robust statistical modeling using the t
distribution"). So a column that nobody can tell counts little, and one that is nearly always told
exactly, yet not quite always, counts as much as its exceptions are rare. What counts is how much
-log p is above its mean over those rows, its entropy; a missing number counts nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from habitus.domain.detectors.files import MEND
from habitus.domain.units import Floats
from habitus.errors import ArtefactError

_FREEDOMS = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)
_ROUNDS = 30
_TABLES = ("orders", "scales", "freedoms", "expected")
_AT_ONCE = 512  # rows told together: more do not fit into a core's cache

Numbers = npt.NDArray[np.float64]
Known = npt.NDArray[np.bool_]
Orders = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Network:
    """The autoencoder's layers, the last one linear, those before it rectified.

    Args:
        kernels: [2 D, .], ..., [., D]; the first is for numbers seen and for whether each is not.
        biases: One for each kernel.
    """

    kernels: Sequence[Numbers]
    biases: Sequence[Numbers]

    def told(self, values: Floats, known: Known, order: Orders) -> Numbers:
        """[N, D] each number as it is told from those of the groups before its own.

        Args:
            values: [N, D] numbers, 0 where missing.
            known: [N, D] whether a number is known.
            order: [D] the group of each column, from 0.
        """
        width = len(order)
        of_seen, of_hidden = self.kernels[0][:width], self.kernels[0][width:]
        first = np.tile(self.biases[0] + of_hidden.sum(axis=0), (len(values), 1))
        told = np.empty(values.shape)
        for group in range(order.max() + 1):
            state = first.clip(min=0)
            for kernel, bias in zip(self.kernels[1:-1], self.biases[1:-1], strict=True):
                state = (state @ kernel + bias).clip(min=0)
            own = order == group
            told[:, own] = state @ self.kernels[-1][:, own] + self.biases[-1][own]
            first += values[:, own] @ of_seen[own] - known[:, own] @ of_hidden[own]
        return told


@dataclass(frozen=True)
class Reconstruction:
    """A network, the orders it is asked in, and what its errors are like.

    Args:
        network: The network.
        orders: [M, D] the group of each column in each order.
        scales: [M, D] s of each column's error.
        freedoms: [M, D] n likewise.
        expected: [M, D] mean of -log p, less what does not depend on the error.
    """

    network: Network
    orders: Orders
    scales: Numbers
    freedoms: Numbers
    expected: Numbers

    @classmethod
    def fit(
        cls, network: Network, orders: Orders, values: Floats, known: Known, least: Numbers
    ) -> Self:
        """Learn what errors are like.

        Args:
            network: The trained network.
            orders: [M, D] the group of each column in each order.
            values: [H, D] rows that it was not trained on, 0 where a number is missing.
            known: [H, D] whether a number is known.
            least: [D] an error that means nothing; no scale is smaller.
        """
        errors = (values - network.told(values, known, order) for order in orders)
        learned = [student(each, known, least) for each in errors]
        return cls(network, orders, *np.stack(learned, axis=1))

    def excess(self, values: Floats, known: Known) -> Numbers:
        """[N, D] nats of each number above those expected, the mean over the orders."""
        nats = np.zeros(values.shape)
        parts = [slice(start, start + _AT_ONCE) for start in range(0, len(values), _AT_ONCE)]
        for order, scale, freedom, expected in zip(
            self.orders, self.scales, self.freedoms, self.expected, strict=True
        ):
            for part in parts:
                told = self.network.told(values[part], known[part], order)
                error = (values[part] - told) / scale
                nats[part] += (freedom + 1) / 2 * np.log1p(error**2 / freedom) - expected
        return np.where(known, nats / len(self.orders), 0)

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """All of it by name."""
        layers = {
            f"{name}_{index}": array
            for name, arrays in (("kernel", self.network.kernels), ("bias", self.network.biases))
            for index, array in enumerate(arrays)
        }
        return {name: getattr(self, name) for name in _TABLES} | layers

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, npt.NDArray[np.generic]], width: int, at: str
    ) -> Self:
        """Read what `to_arrays` wrote, for `width` columns.

        Raises:
            ArtefactError: An array is missing or does not fit; `at` names the file.
        """
        layers = sum(name.startswith("kernel_") for name in arrays)
        inputs, kernels, biases = 2 * width, [], []
        for layer in range(layers):
            bias = _array(arrays, f"bias_{layer}", (None,), at)
            kernels.append(_array(arrays, f"kernel_{layer}", (inputs, len(bias)), at))
            biases.append(bias)
            inputs = len(bias)
        if layers < 2 or inputs != width:
            raise ArtefactError(at, f"{layers} layers with {inputs} outputs, not {width}", MEND)
        orders, scales, freedoms, expected = (
            _array(arrays, name, (None, width), at) for name in _TABLES
        )
        if not orders.shape == scales.shape == freedoms.shape == expected.shape:
            raise ArtefactError(at, "orders and errors are not as many", MEND)
        if (orders < 0).any() or (orders >= width).any() or min(scales.min(), freedoms.min()) <= 0:
            raise ArtefactError(at, "an order, scale or degree of freedom cannot be", MEND)
        network = Network(kernels, biases)
        return cls(network, orders.astype(np.int64), scales, freedoms, expected)


def student(errors: Numbers, known: Known, least: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The likeliest scale and degrees of freedom of each column's errors, and the mean nats.

    The scales are found by the fixed point of Kent, Tyler and Vardi (1994), "A curious likelihood
    identity for the multivariate t-distribution", which takes few rounds.

    Args:
        errors: [H, D] errors.
        known: [H, D] which of them count.
        least: [D] the smallest scale.

    Returns:
        [D] scales, [D] degrees of freedom, [D] mean of (n + 1) / 2 log(1 + e^2 / (n s^2)).
    """
    squares = np.where(known, errors, 0) ** 2
    count = known.sum(axis=0).clip(min=1)
    variance = np.maximum(squares.sum(axis=0) / count, least**2)
    best = np.full((4, len(least)), np.inf)
    for freedom in _FREEDOMS:
        for _ in range(_ROUNDS):
            weights = known / (freedom + squares / variance)
            total = weights.sum(axis=0)
            fixed = (weights * squares).sum(axis=0) / np.where(total > 0, total, 1)
            variance = np.maximum(fixed, least**2)
        nats = (freedom + 1) / 2 * np.log1p(squares / (freedom * variance)).sum(axis=0) / count
        entropy = nats + np.log(variance * freedom) / 2 + betaln(0.5, freedom / 2)
        found = np.stack([entropy, np.sqrt(variance), np.full_like(nats, freedom), nats])
        best = np.where(entropy < best[0], found, best)
    return best[1], best[2], best[3]


def _array(
    arrays: Mapping[str, npt.NDArray[np.generic]], name: str, shape: tuple[int | None, ...], at: str
) -> Numbers:
    """A finite array of this shape; none stands for any length but 0."""
    array = arrays.get(name)
    fits = (
        array is not None
        and array.dtype.kind in "if"
        and array.ndim == len(shape)
        and all(found == wanted for found, wanted in zip(array.shape, shape, strict=True) if wanted)
        and array.size > 0
        and bool(np.isfinite(array).all())
    )
    if array is None or not fits:
        raise ArtefactError(at, f"array {name!r} is missing or damaged", MEND)
    return array.astype(np.float64)
