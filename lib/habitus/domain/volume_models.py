"""A model of one segment's volume, and how far each period is from its one-step-ahead forecast.

The volume of a period is expected to be exposure * exp(level + season): a Poisson regression whose
offset is the log of the exposure. A segment's events are exposed to the events of all other
segments of its kind, so what lifts all alike, a promotion say, is nobody's shift; any other measure
is exposed to the segment's own events, so it is judged per event. A segment that has nearly all
events of its kind has no exposure, as the few others would tell it badly: what lifts it is the
shift of the whole shop. The coefficient of the exposure is 1 and not estimated: a training period
without a promotion could not tell it.

Volumes are overdispersed counts, variance scale * mean + dispersion * mean^2. In units of the
scale, asinh(sqrt(dispersion (x + 3/8))) has the same variance whatever the mean (Anscombe 1948,
"The transformation of Poisson, binomial and negative-binomial data", section 4; square root
without dispersion, logarithm where it is large), and there ARIMA models what the regression leaves:
a regression with ARIMA errors (Hyndman and Athanasopoulos 2021, "Forecasting: principles and
practice", chapter 10; Fourier terms for the seasons, section 12.1).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from scipy import optimize
from statsmodels.genmod.families import Poisson
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import PerfectSeparationError
from statsmodels.tsa.arima.model import ARIMA

from habitus.domain.vocabulary import Split
from habitus.domain.volume_windows import (
    Periods,
    Reals,
    stabilise,
    strangest_windows,
    unstabilise,
)
from habitus.domain.volumes import EVENTS
from habitus.volume_settings import VolumeSettings

RESIDUALS = (
    "segment_kind string, segment string, measure string, model string, skipped string, "
    "period_start timestamp, periods int, observed double, expected double, forecast double, "
    "spread double, scale double, dispersion double, strangeness double"
)
# Cycles a week: of the week's own shape, of the day's, and of the day's that differ by weekday.
_WEEKLY = {"hour": (1, 2, 3, 6, 8, 13, 15), "day": (1, 2, 3)}
_DAILY = {"hour": (7, 14, 21, 28, 35), "day": ()}
_PERIODS = {"hour": 168, "day": 7}  # of a week
_CYCLES = 2  # a season must have been seen so often
_FEWEST = 20  # training periods
_LEAST_EXPOSURE = 0.5
_NEARLY_ALL = 0.9  # of a kind's events
_LEAST_SCALE = 1e-3  # of a condition that nearly all events fulfil
_LEAST_EXPECTED = 1e-6  # in units of the scale
_LEAST_DISPERSION = 1e-6


@dataclass(frozen=True)
class _Forecast:
    """A fitted model's one-step-ahead forecasts of N periods.

    Args:
        name: What the model is made of.
        forecast: [N] on the stabilised scale.
        residuals: [N] standardised by their spread in training.
        spread: That spread.
    """

    name: str
    forecast: Reals
    residuals: Reals
    spread: float

    def likelihood(self, periods: Periods) -> float:
        """Log-likelihood of some periods, normal residuals taken as independent."""
        return float(-(0.5 * self.residuals[periods] ** 2 + np.log(self.spread)).sum())


def segment_residuals(series: pd.DataFrame, settings: VolumeSettings, split: Split) -> pd.DataFrame:
    """Fit a model to each measure of a segment, and compare what came after training with it.

    The season and the ARIMA order are those that make the validation period before
    `split.calibrate_from` likeliest.

    Args:
        series: One segment's rows of `complete_series`, in any order; times are UTC, no zone.
        settings: Measures, ARIMA orders and windows.
        split: The time split.

    Returns:
        Columns RESIDUALS; a row per measure and period after training about the strangest window
        that ends with it (what it had, what was expected, and on the stabilised scale what was
        forecast, with which spread), or one row per measure that says why it was `skipped`.
    """
    series = series.sort_values("period_start", ignore_index=True)
    parts = []
    for measure in (EVENTS, *settings.judged):
        with warnings.catch_warnings():
            # A fit that does not converge loses the choice by its likelihood.
            warnings.simplefilter("ignore")
            part = _measure_residuals(series, measure, settings, split)
        parts.append(part.assign(measure=measure))
    names = [column.split()[0] for column in RESIDUALS.split(", ")]
    named = pd.concat(parts, ignore_index=True)
    of = {name: series[name].iloc[0] for name in ("segment_kind", "segment")}
    return named.assign(**of).reindex(columns=names)


def _measure_residuals(
    series: pd.DataFrame, measure: str, settings: VolumeSettings, split: Split
) -> pd.DataFrame:
    times = series["period_start"]
    observed = series[measure].to_numpy(dtype=np.float64)
    training = (times >= naive(split.train_from)) & (times < naive(split.train_until))
    after = (times >= naive(split.train_until)).to_numpy()
    choosing = after & (times < naive(split.calibrate_from)).to_numpy()
    trained = training.to_numpy()
    reason = _unfit(observed[trained], settings)
    if reason:
        return _skipped(reason)
    exposure = series["elsewhere" if measure == EVENTS else EVENTS].to_numpy(dtype=np.float64)
    least = 1.0 if measure == EVENTS else _least_scale(observed[trained], exposure[trained])
    own, others = observed[trained].sum(), exposure[trained].sum()
    alone = measure == EVENTS and own > _NEARLY_ALL * (own + others)
    exposure = np.ones_like(exposure) if alone else np.maximum(exposure, _LEAST_EXPOSURE)
    means = dict(_means(observed, exposure, times, trained, settings))
    if not means:
        return _skipped("no model fits")
    # One scale for all, or their likelihoods would be of different things.
    scale, dispersion = _dispersion(observed[trained], list(means.values())[-1][trained], least)
    stable = stabilise(observed / scale, dispersion)
    centres = {name: stabilise(mean / scale, dispersion) for name, mean in means.items()}
    # The season first: most ARIMA fits are then spared.
    plain = [_forecasts(name, stable, centre, trained) for name, centre in centres.items()]
    season = max(plain, key=lambda one: one.likelihood(choosing))
    arima = [
        _forecasts(season.name, stable, centres[season.name], trained, order)
        for order in settings.orders
    ]
    usable = [one for one in (season, *arima) if np.isfinite(one.residuals).all()]
    if not usable:
        return _skipped("no model fits")
    chosen = max(usable, key=lambda one: one.likelihood(choosing))
    expected = np.maximum(unstabilise(chosen.forecast, dispersion), _LEAST_EXPECTED) * scale
    windows = strangest_windows(observed, expected, (scale, dispersion), trained, settings.windows)
    described = windows.assign(period_start=times, model=chosen.name, scale=scale, skipped=None)
    return described[after]


def _skipped(reason: str) -> pd.DataFrame:
    return pd.DataFrame({"skipped": [reason], "model": [None], "period_start": [pd.NaT]})


def _unfit(trained: Reals, settings: VolumeSettings) -> str | None:
    """Why nothing can be learnt from a training series."""
    if len(trained) < _FEWEST:
        return "the training period is too short"
    if (trained < 0).any():
        return "it is negative"
    if np.count_nonzero(trained) < settings.minimum_periods:
        return "too rare in training"
    return "constant in training" if np.ptp(trained) == 0 else None


def _means(
    observed: Reals,
    exposure: Reals,
    times: pd.Series,
    trained: Periods,
    settings: VolumeSettings,
) -> Iterator[tuple[str, Reals]]:
    """[N] expected volume by each regression that can be fitted, the simplest first."""
    period = settings.period
    # People keep to the clocks on their walls.
    zoned = times.dt.tz_localize("UTC").dt.tz_convert(settings.time_zone)
    local = zoned.dt.tz_localize(None)
    weeks = trained.sum() / _PERIODS[period]
    seasons = {"level": (), "daily": _DAILY[period], "weekly": _DAILY[period] + _WEEKLY[period]}
    for name, cycles in seasons.items():
        if name != "level" and (not cycles or weeks * min(cycles) < _CYCLES):
            continue
        terms = _fourier(local, cycles)
        try:
            fitted = GLM(
                observed[trained], terms[trained], Poisson(), offset=np.log(exposure[trained])
            ).fit()
        except (np.linalg.LinAlgError, ValueError, PerfectSeparationError):
            continue
        mean = np.exp(terms @ fitted.params) * exposure
        if np.isfinite(mean).all():
            yield name, mean


def _fourier(times: pd.Series, cycles: tuple[int, ...]) -> Reals:
    """[N, 1 + 2 K] a constant, and sines and cosines of so many cycles a week."""
    week = times.to_numpy(dtype="datetime64[s]").astype(np.int64) / (7 * 86_400)
    angles = 2 * np.pi * week[:, None] * np.asarray(cycles, dtype=np.float64)
    return np.hstack([np.ones((len(week), 1)), np.sin(angles), np.cos(angles)])


def _least_scale(observed: Reals, events: Reals) -> float:
    """The least that a measure's variance can be, as a multiple of its mean.

    Of a condition that a share m of the events fulfils that is 1 - m, as of a binomial number; of a
    sum it is the mean of what each event adds, if that is never negative.
    """
    each = float(observed.sum() / max(events.sum(), 1.0))
    is_condition = (observed <= events).all() and (observed == np.rint(observed)).all()
    return max(1 - each, _LEAST_SCALE) if is_condition else each


def _dispersion(observed: Reals, mean: Reals, least: float) -> tuple[float, float]:
    """Scale, and dispersion in its units: the squared residuals fitted by least squares.

    The scale is no less than the least it can be. Dispersion is only taken where it pays by
    Akaike's criterion: of rare volumes it cannot be told from the scale.
    """
    squares = (observed - mean) ** 2
    # Large volumes must not decide alone.
    weight = 1 / (mean * (1 + mean / mean.mean()))
    moments = np.stack([mean, mean**2], axis=1) * weight[:, None]
    (scale, dispersion), _ = optimize.nnls(moments, squares * weight)
    both = max(float(scale), least), float(dispersion)
    alone = max(float((squares / mean).mean()), least), 0.0

    def misfit(fitted: tuple[float, float]) -> float:
        variance = fitted[0] * mean + fitted[1] * mean**2
        return float((squares / variance + np.log(variance)).sum())

    scale, dispersion = both if misfit(both) + 2 < misfit(alone) else alone
    return scale, max(dispersion, _LEAST_DISPERSION)


def _forecasts(
    season: str,
    stable: Reals,
    centre: Reals,
    trained: Periods,
    order: tuple[int, int, int] | None = None,
) -> _Forecast:
    """Forecasts by the regression, and by an ARIMA model of what it leaves."""
    left = stable - centre
    usual = left[trained].mean()
    name, moves = season, np.zeros_like(left)
    if order is not None:
        name = f"{season} + ARIMA{order}"
        moves = _arima(left - usual, trained, order)
    residuals = left - usual - moves
    spread = max(float(residuals[trained].std()), 1e-9)
    return _Forecast(name, centre + moves, residuals / spread, spread)


def _arima(values: Reals, trained: Periods, order: tuple[int, int, int]) -> Reals:
    """[N] one-step-ahead forecasts with what training has taught; NaN where it cannot be fitted."""
    begin, end = np.flatnonzero(trained)[[0, -1]]
    try:
        fitted = ARIMA(values[begin : end + 1], order=order, trend="n").fit()
        return np.asarray(fitted.apply(values).fittedvalues, dtype=np.float64)
    except (np.linalg.LinAlgError, ValueError):
        return np.full_like(values, np.nan)


def naive(time: datetime) -> pd.Timestamp:
    """The time as pandas UDFs are handed it: UTC, without a zone."""
    return pd.Timestamp(time.astimezone(UTC).replace(tzinfo=None))
