"""What is beyond the largest scores: generalised Pareto tails, each believed as far as it fits."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Reals = npt.NDArray[np.float64]

FEWEST_EXCESSES = 50  # too few to fit a tail's shape to
_NEAR_EXPONENTIAL = 1e-6  # of theta, in means of the excesses; at 0 the formulas divide by 0
_LEAST_WEIGHT = 1e-9  # of a tail that is kept
# Of a segment within a larger one: the levels of the larger one's shapes that are tried, and how
# far beside each, which is the quantiles of a normal distribution with deviation .1; and scales.
_SHAPE_LEVELS = np.array([0.1, 0.5, 0.9])
_SHAPES_BESIDE = 0.1 * np.array([-1.28, -0.52, 0.0, 0.52, 1.28])
_SCALES, _SPREAD = 11, 3.5  # so many, up to so many deviations away
_LEAST_OF_MANY = 1e-4  # weight of a shape and scale that is kept


class Tail(BaseModel):
    """A generalised Pareto distribution of what is beyond the last of a curve's scores.

    Args:
        weight: How far it is believed; those of a curve's tails sum to 1.
        scale: Of the excess.
        shape: Below 0 it ends; above 0 it is heavier than an exponential one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(ge=0, le=1)
    scale: float = Field(gt=0)
    shape: float


def fit_tails(excesses: Reals) -> tuple[Tail, ...]:
    """Generalised Pareto distributions of k excesses, each weighed by its likelihood.

    With theta = shape / scale the best shape is the mean of log(1 + theta x), so one number tells a
    tail; the thetas are quantiles of the prior of Zhang and Stephens (2009, "A new and efficient
    estimation method for the generalized Pareto distribution"), who take their mean, weighed so.
    Where excesses are too few to tell a shape, the predictive distribution of an exponential
    tail's next excess, which is Pareto with shape 1 / k.
    """
    count = len(excesses)
    if not count:
        return ()
    mean = float(excesses.mean())
    if count < FEWEST_EXCESSES:
        return (Tail(weight=1, scale=mean, shape=1 / count),)
    relative = np.sort(excesses) / mean
    points = 20 + int(np.sqrt(count))
    place = np.sqrt(points / (np.arange(points) + 0.5)) - 1
    theta = place / (3 * relative[int(count / 4 + 0.5) - 1]) - 1 / relative[-1]
    theta = np.where(np.abs(theta) < _NEAR_EXPONENTIAL, _NEAR_EXPONENTIAL, theta)
    shape = np.log1p(theta[:, None] * relative).mean(axis=1)
    likelihood = count * (np.log(theta / shape) - shape)
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    return tuple(
        Tail(weight=float(w), scale=float(mean * s / t), shape=float(s))
        for w, s, t in zip(weight, shape, theta, strict=True)
        if w > _LEAST_WEIGHT
    )


def fit_scales(excesses: Reals, tails: tuple[Tail, ...]) -> tuple[Tail, ...]:
    """Generalised Pareto distributions of k excesses, of shapes like those of a whole's tails.

    The prior of the shape is that of these tails, give or take a tenth, that of the logarithm of
    the scale is flat; each pair of both is weighed by its likelihood.
    """
    count = len(excesses)
    if not count:
        return ()
    shape = _likely_shapes(tails)[:, None]
    # The mean excess is scale / (1 - shape); k of them tell its logarithm to about 1 / sqrt(k).
    steps = np.linspace(-_SPREAD, _SPREAD, _SCALES) / np.sqrt(count)
    scale = float(excesses.mean()) * np.maximum(1 - shape, 0.1) * np.exp(steps)
    left = 1 + (shape / scale)[:, :, None] * excesses
    with np.errstate(divide="ignore", invalid="ignore"):  # a tail that ends before an excess
        logs = np.where(left > 0, np.log(left), np.inf)
        likelihood = -count * np.log(scale) - (1 / shape + 1) * logs.sum(axis=2)
    likelihood = np.where((left > 0).all(axis=2), likelihood, -np.inf)
    if not np.isfinite(likelihood).any():
        # Each of these tails ends before the largest excess: the shape is another.
        return fit_tails(excesses)
    weight = np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    chosen = weight > _LEAST_OF_MANY
    shapes = np.broadcast_to(shape, scale.shape)
    total = weight[chosen].sum()
    return tuple(
        Tail(weight=float(w / total), scale=float(one), shape=float(of))
        for w, one, of in zip(weight[chosen], scale[chosen], shapes[chosen], strict=True)
    )


def _likely_shapes(tails: tuple[Tail, ...]) -> Reals:
    """[S] shapes, each as likely as the others; none is 0, where formulas divide by it."""
    shapes, weights = np.array([(one.shape, one.weight) for one in tails]).T
    order = np.argsort(shapes)
    middles = weights[order].cumsum() - weights[order] / 2
    found = np.interp(_SHAPE_LEVELS, middles, shapes[order])
    found = np.add.outer(found, _SHAPES_BESIDE).ravel()
    return np.where(np.abs(found) < _NEAR_EXPONENTIAL, _NEAR_EXPONENTIAL, found)


def beyond(tails: tuple[Tail, ...], excess: float) -> tuple[Tail, ...]:
    """The tails of what is beyond an excess, which are Pareto too (Coles 2001, section 4.2.2)."""
    weights = [one.weight * float(survival((one,), np.array([excess]))[0]) for one in tails]
    return tuple(
        Tail(weight=w / sum(weights), scale=one.scale + one.shape * excess, shape=one.shape)
        for w, one in zip(weights, tails, strict=True)
        if w
    )


def survival(tails: tuple[Tail, ...], excesses: Reals) -> Reals:
    """[N] the share of units beyond the start that are beyond each excess; 1 without tails."""
    if not tails:
        return np.ones(len(excesses))
    weight, scale, shape = np.array([(one.weight, one.scale, one.shape) for one in tails]).T
    left = np.maximum(1 + np.outer(excesses, shape / scale), 0)
    with np.errstate(divide="ignore"):  # nothing is left beyond the end of a tail
        shares: Reals = np.exp(-np.log(left) / shape) @ weight
    return shares
