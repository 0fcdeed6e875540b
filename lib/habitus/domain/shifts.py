"""Sudden shifts of a segment's volume: the stretches that hardly ever occur by chance.

The strangeness of every period (see `volume_models`) becomes a p-value by the periods that are
kept for calibration, those of a segment where it has enough of them, else those of all segments of
its kind. As windows overlap, these tell less than their number says, so no p-value is smaller than
that of a normal residual times the number of windows. A shift is a run of flagged windows that
touch each other; it is told by the strangest of them, which is where it began and ended most
likely.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from habitus.domain.calibration import FEWEST, Calibration, Names, Reals
from habitus.domain.languages import WORDINGS
from habitus.domain.vocabulary import Split
from habitus.domain.volume_models import naive
from habitus.domain.volume_windows import unstabilise
from habitus.setting_types import Language
from habitus.volume_settings import VolumeSettings

Indices = npt.NDArray[np.int64]

SHIFTS = (
    "segment_kind string, segment string, measure string, period_start timestamp, "
    "period_end timestamp, periods int, observed double, expected double, low double, high double, "
    "p_value double, model string, summary string"
)
_LENGTHS = {"hour": pd.Timedelta(hours=1), "day": pd.Timedelta(days=1)}
_STEPS = 4000  # the threshold is found to a 4000th of the largest strangeness


def find_shifts(
    residuals: pd.DataFrame,
    settings: VolumeSettings,
    split: Split,
    since: pd.Timestamp,
    until: pd.Timestamp,
    language: Language,
) -> pd.DataFrame:
    """Judge one measure of all segments of one kind.

    Args:
        residuals: Rows of `volume_models.RESIDUALS`, none of them skipped, in any order.
        settings: The false-positive rate.
        split: Where the periods for calibration begin and end.
        since: First time that is judged, UTC without a zone.
        until: End of the judged time, not included.
        language: Of the summaries.

    Returns:
        Columns SHIFTS, one row per shift; none where fewer than FEWEST periods calibrate.
    """
    rows = residuals.sort_values(["segment", "period_start"], ignore_index=True)
    times = rows["period_start"]
    held = (times >= naive(split.calibrate_from)) & (times < naive(split.validation_until))
    names = [column.split()[0] for column in SHIFTS.split(", ")]
    if held.sum() < FEWEST:
        return pd.DataFrame(columns=names)
    strangeness = rows["strangeness"].to_numpy(dtype=np.float64)
    segments = rows["segment"].to_numpy(dtype=object)
    calibration = Calibration.fit(strangeness[held], segments[held, None])
    p_values, compared = calibration.p_values(strangeness, segments[:, None])
    p_values = np.maximum(p_values, _if_normal(strangeness, settings))
    judged = ((times >= since) & (times < until)).to_numpy()
    flagged = np.flatnonzero(judged & (p_values <= settings.false_positive_rate))
    if not len(flagged):
        return pd.DataFrame(columns=names)
    ends = _strangest_of_each_run(rows, flagged)
    bounds = _thresholds(calibration, compared[ends], strangeness.max(), settings)
    strangest = rows.loc[ends].assign(p_value=p_values[ends]).reset_index(drop=True)
    shifts = _told(strangest, bounds, settings)
    wording = WORDINGS[language]
    shifts["summary"] = [wording.shift(row, settings.period) for row in shifts.to_dict("records")]
    return shifts[names]


def _strangest_of_each_run(rows: pd.DataFrame, flagged: Indices) -> Indices:
    """Of the flagged windows that touch each other, the row at which the strangest ends."""
    windows = rows.loc[flagged, ["segment", "periods", "strangeness"]]
    before = np.concatenate([[-np.inf], flagged[:-1]])
    segments = windows["segment"].to_numpy()
    other = np.concatenate([[True], segments[1:] != segments[:-1]])
    begins = other | (flagged - windows["periods"].to_numpy() > before)
    strangest: Indices = windows["strangeness"].groupby(begins.cumsum()).idxmax().to_numpy()
    return strangest


def _if_normal(strangeness: Reals, settings: VolumeSettings) -> Reals:
    """[N] p-values of the largest of as many normal residuals as there are windows, at most."""
    p_values: Reals = 2 * len(settings.windows) * stats.norm.sf(strangeness)
    return np.minimum(p_values, 1.0)


def _thresholds(
    calibration: Calibration, compared: Names, most: float, settings: VolumeSettings
) -> Reals:
    """[S] the least strangeness that is flagged, by what each shift was compared with."""
    steps = np.linspace(0, most, _STEPS)
    normal = _if_normal(steps, settings)
    least = {}
    for name in set(compared):
        curve = calibration.segments.get(name, calibration.overall)
        p_values = np.maximum(curve.p_values(steps), normal)
        least[name] = steps[(p_values <= settings.false_positive_rate).argmax()]
    return np.array([least[name] for name in compared])


def _told(rows: pd.DataFrame, bounds: Reals, settings: VolumeSettings) -> pd.DataFrame:
    """Shifts, of the rows that tell of them and the least strangeness each is flagged from."""
    length = _LENGTHS[settings.period]
    margin = bounds * rows["spread"]

    def at(forecast: pd.Series) -> Reals:
        dispersion, scale = rows["dispersion"].to_numpy(), rows["scale"].to_numpy()
        sums: Reals = unstabilise(forecast.to_numpy(), dispersion) * scale
        return sums

    return rows.assign(
        period_start=rows["period_start"] - (rows["periods"] - 1) * length,
        period_end=rows["period_start"] + length,
        low=at(rows["forecast"] - margin),
        high=at(rows["forecast"] + margin),
    )
