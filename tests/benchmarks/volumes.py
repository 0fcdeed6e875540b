"""How well shifts of whole segments are found: `make bench-volumes`.

The protocol. A simulated shop without attacks, 56 days of 20,000 shoppers, with a promotion of
tenfold traffic on day 50; the default split: half of the time trains, the test period begins at
.7 of it. Its events are counted by hour, and by seller, category and country.

- Into every modelled seller one shift is planted: for 6 hours its events are those hours' own and
  those of the same hours one and two weeks before, so three times as many, as bursty as they are.
- Into every category and every country with enough failures in training likewise: for 12 hours
  five times the failures (their own and those of the four weeks before), with no more events than
  there were. Most categories have a failure in several hours only.

Each begins at a random hour of the test period, not on the day of the promotion nor the day after.
A shift is found when one of the flagged hours is in it. False alarms are the flagged hours of the
same days without plants, in segments with enough in training to be judged; those of the promotion's
day are counted by themselves.

The rival is what a shop's monitoring does: the z-score of an hour against the mean and the standard
deviation of the same hour of the week over the four weeks before (at least the square root of the
mean, as of a count), failures as their share of events times the events of the hour. Both are set
to the same false alarm rate by the same rule: the p-value by the calibration hours, pooled over
segments. The settings were chosen on shops of seeds 1 and 2; these are others.
"""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
from _figures import Figure, at_least, publish

from habitus.config import Settings
from habitus.domain.calibration import Curve
from habitus.domain.shifts import find_shifts
from habitus.domain.simulation.shop import blocks, simulate_block
from habitus.domain.split import resolve_split
from habitus.domain.vocabulary import Split
from habitus.domain.volume_models import naive, segment_residuals
from habitus.loading import load_settings

SEEDS, SMALL_SEEDS = (11, 12, 13), (11,)
USERS, SMALL_USERS = 20_000, 5_000
DAYS, PROMOTION_DAY = 56, 50
WEEK = 168
RATE = 0.0001
KINDS = {"seller": "seller", "category": "category", "country": "country"}
# Kind of segment -> measure, hours, and how many weeks' volumes are put together.
PLANTS = {
    "seller": ("events", 6, 3),
    "category": ("failures", 12, 5),
    "country": ("failures", 12, 5),
}
KEY = ["segment_kind", "segment"]
MEASURES = ("events", "failures")
DAYS_JUDGED = {"on quiet days": True, "on the promotion's day": False}

Judge = Callable[[pd.DataFrame], pd.DataFrame]


def shop_volumes(settings: Settings, seed: int) -> pd.DataFrame:
    """Events and failures by kind, segment and hour, complete, as `complete_series` gives them."""
    hours = pd.date_range(naive(settings.simulate.start), periods=24 * DAYS, freq="h")
    parts = []
    for block in range(blocks(settings.simulate)):
        events, _ = simulate_block(settings.simulate, seed, block)
        frame = events.select(["ts", "outcome", *KINDS.values()]).to_pandas()
        frame["period_start"] = frame["ts"].dt.floor("h")
        frame["failures"] = (frame["outcome"] == "failure").astype(float)
        for kind, column in KINDS.items():
            sums = frame.groupby([column, "period_start"])["failures"].agg(["size", "sum"])
            sums.columns = pd.Index(["events", "failures"])
            parts.append(pd.concat({kind: sums}, names=["segment_kind"]))
    counted = pd.concat(parts)
    counted.index.names = [*KEY, "period_start"]
    counted = counted.groupby(level=[0, 1, 2]).sum().unstack("period_start", fill_value=0.0)
    full = counted.reindex(columns=pd.MultiIndex.from_product([["events", "failures"], hours]))
    full = full.fillna(0.0).stack(1, future_stack=True).rename_axis([*KEY, "period_start"])
    return with_elsewhere(full.reset_index())


def with_elsewhere(series: pd.DataFrame) -> pd.DataFrame:
    """The series with the events of all other segments of the kind."""
    everywhere = series.groupby(["segment_kind", "period_start"])["events"].transform("sum")
    return series.assign(elsewhere=everywhere - series["events"])


def planted(
    series: pd.DataFrame, settings: Settings, split: Split, random: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The series with shifts, and the shifts: kind, segment, measure, begin and end."""
    series = series.copy()
    promotion = naive(settings.simulate.start) + timedelta(days=PROMOTION_DAY)
    shifts = []
    for (kind, segment), one in series.groupby(KEY):
        if kind not in PLANTS:
            continue
        measure, length, times = PLANTS[kind]
        begins = one["period_start"]
        trained = (begins < naive(split.train_until)) & (one[measure] > 0)
        if trained.sum() < settings.volumes.minimum_periods:
            continue
        usual = (begins < promotion) | (begins >= promotion + timedelta(days=2))
        allowed = np.flatnonzero((begins >= naive(split.validation_until)) & usual)
        # Neither into the promotion nor beyond the end.
        allowed = allowed[np.isin(allowed + length - 1, allowed)]
        at = int(random.choice(allowed))
        values = one[measure].to_numpy()
        several = sum(values[at - week * WEEK :][:length] for week in range(times))
        series.loc[one.index[at : at + length], measure] = several
        end = begins.iloc[at] + timedelta(hours=length)
        shifts.append((kind, segment, measure, begins.iloc[at], end))
    columns = [*KEY, "measure", "begin", "end"]
    return with_elsewhere(series), pd.DataFrame(shifts, columns=columns)


def ours(settings: Settings, split: Split) -> Judge:
    """The hours that habitus flags."""

    def judge(series: pd.DataFrame) -> pd.DataFrame:
        volumes = settings.volumes
        parts = [segment_residuals(one, volumes, split) for _, one in series.groupby(KEY)]
        fitted = [part[part["skipped"].isna()] for part in parts]
        rows = pd.concat([part for part in fitted if len(part)])
        since = naive(split.validation_until)
        found = [
            find_shifts(group, volumes, split, since, pd.Timestamp.max, "en")
            for _, group in rows.groupby(["segment_kind", "measure"])
        ]
        shifts = pd.concat([one for one in found if len(one)], ignore_index=True)
        starts = [
            pd.date_range(start, end, freq="h", inclusive="left")
            for start, end in zip(shifts["period_start"], shifts["period_end"], strict=True)
        ]
        return (
            shifts[[*KEY, "measure"]]
            .assign(period_start=pd.Series(starts, index=shifts.index))
            .explode("period_start")
        )

    return judge


def rival(settings: Settings, split: Split) -> Judge:
    """The hours that the z-score against the same hour of the four weeks before flags."""

    def judge(series: pd.DataFrame) -> pd.DataFrame:
        found = []
        for kind, of_kind in series.groupby("segment_kind"):
            events = of_kind.pivot(index="period_start", columns="segment", values="events")
            failures = of_kind.pivot(index="period_start", columns="segment", values="failures")
            for measure, counts in zip(MEASURES, (events, failures), strict=True):
                trained = counts[counts.index < naive(split.train_until)]
                known = (trained > 0).sum() >= settings.volumes.minimum_periods
                scores = _z_scores(counts, events if measure == "failures" else None).loc[:, known]
                if known.any():
                    found.append(_flagged(scores.abs(), str(kind), measure, split))
        return pd.concat(found, ignore_index=True)

    return judge


def _z_scores(counts: pd.DataFrame, events: pd.DataFrame | None) -> pd.DataFrame:
    rates = counts if events is None else counts / events.clip(lower=1)
    now = 1 if events is None else events
    before = [rates.shift(week * WEEK) * now for week in range(1, 5)]
    mean = sum(before[1:], before[0]) / len(before)
    squares = [(one - mean) ** 2 for one in before]
    spread = (sum(squares[1:], squares[0]) / (len(before) - 1)) ** 0.5
    # The first weeks have no week before: nothing is strange.
    least = mean.clip(lower=0.25) ** 0.5
    return ((counts - mean) / spread.where(spread > least, least)).fillna(0.0)


def _flagged(scores: pd.DataFrame, kind: str, measure: str, split: Split) -> pd.DataFrame:
    long = pd.Series(scores.stack(future_stack=True)).dropna().rename("score").reset_index()
    times, values = long["period_start"], long["score"].to_numpy()
    held = (times >= naive(split.calibrate_from)) & (times < naive(split.validation_until))
    p_values = Curve.fit(values[held]).p_values(values)
    flagged = long[(times >= naive(split.validation_until)) & (p_values <= RATE)]
    return flagged.assign(segment_kind=kind, measure=measure).drop(columns="score")


def found_share(flagged: pd.DataFrame, shifts: pd.DataFrame, kind: str) -> float:
    """Share of the planted shifts of a kind that a flagged hour lies in."""
    both = shifts[shifts["segment_kind"] == kind].merge(flagged, "left", [*KEY, "measure"])
    hit = (both["period_start"] >= both["begin"]) & (both["period_start"] < both["end"])
    return float(hit.groupby([both["segment"]]).any().mean())


def alarms(
    flagged: pd.DataFrame, series: pd.DataFrame, settings: Settings, split: Split
) -> dict[str, float]:
    """Hours flagged for each measure, per 10,000 of the quiet test days and of the promotion's."""
    promotion = naive(settings.simulate.start) + timedelta(days=PROMOTION_DAY)

    def within(times: pd.Series, quiet: bool) -> int:
        days = (times - promotion) // timedelta(days=1)
        tested = times >= naive(split.validation_until)
        return int((tested & (~days.isin([0, 1]) if quiet else days == 0)).sum())

    rates = {}
    for measure in MEASURES:
        trained = (series["period_start"] < naive(split.train_until)) & (series[measure] > 0)
        periods = trained.groupby([series[column] for column in KEY]).transform("sum")
        judged = series.loc[periods >= settings.volumes.minimum_periods, "period_start"]
        alarmed = flagged.loc[flagged["measure"] == measure, "period_start"]
        for day, quiet in DAYS_JUDGED.items():
            rates[f"{measure} {day}"] = 1e4 * within(alarmed, quiet) / within(judged, quiet)
    return rates


def measure(settings: Settings, seed: int) -> tuple[pd.Series, pd.Series]:
    """Each figure of ours and of the rival on one shop."""
    series = shop_volumes(settings, seed)
    start = settings.simulate.start
    split = resolve_split(settings.split, start, start + timedelta(days=DAYS))
    with_shifts, shifts = planted(series, settings, split, np.random.default_rng(seed))
    figures = []
    for judge in (ours(settings, split), rival(settings, split)):
        before = time.perf_counter()
        clean = judge(series)
        seconds = time.perf_counter() - before
        figure = alarms(clean, series, settings, split)
        flagged = judge(with_shifts)
        figure |= {kind: found_share(flagged, shifts, kind) for kind in PLANTS}
        figure["segments a second"] = len(series[KEY].drop_duplicates()) / seconds
        figures.append(pd.Series(figure))
    counts = shifts["segment_kind"].value_counts()
    figures[0] = pd.concat([figures[0], counts.rename(lambda kind: f"{kind} plants")])
    return figures[0], figures[1]


def settings_of(users: int, *overrides: str) -> Settings:
    """The shop's settings, and what is judged."""
    return load_settings(
        overrides=[
            f"simulate.users={users}",
            f"simulate.days={DAYS}",
            f"simulate.promotion_days=[{PROMOTION_DAY}]",
            "simulate.attack_share=0",
            "volumes.measures.amount=null",
            f"volumes.false_positive_rate={RATE}",
            *overrides,
        ]
    )


def figures(users: int, seeds: Sequence[int]) -> list[Figure]:
    """The mean over some shops."""
    settings = settings_of(users)
    both = [measure(settings, seed) for seed in seeds]
    mine = pd.concat([one for one, _ in both], axis=1).mean(axis=1)
    other = pd.concat([two for _, two in both], axis=1).mean(axis=1)
    plain = settings_of(users, "volumes.orders=[]")
    seasons = pd.concat([measure(plain, seed)[0] for seed in seeds], axis=1).mean(axis=1)
    what = {
        "seller": "a seller's events x3 for 6 hours",
        "category": "a category's failures x5 for 12 hours",
        "country": "a country's failures x5 for 12 hours",
    }
    found = []
    for kind, text in what.items():
        found += [
            Figure(f"planted in a shop: {text}", round(mine[f"{kind} plants"], 1)),
            at_least("share found", mine[kind], other[kind], other[kind]),
            Figure("share found by the season alone, without ARIMA", seasons[kind]),
        ]
    return [
        *found,
        *(
            Figure(f"hours of 10,000 flagged, {alarm}", mine[alarm], other[alarm])
            for alarm in (f"{measure} {day}" for measure in MEASURES for day in DAYS_JUDGED)
        ),
        Figure("segments a second, one core", mine["segments a second"]),
        Figure("segments a second without ARIMA", seasons["segments a second"]),
    ]


def main() -> None:
    small = sys.argv[1:] == ["--small"]
    publish("volumes", figures(*((SMALL_USERS, SMALL_SEEDS) if small else (USERS, SEEDS))))


if __name__ == "__main__":
    main()
