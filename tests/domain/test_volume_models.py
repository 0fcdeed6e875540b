"""Volume models on series whose season, share and shifts are known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from habitus.domain.vocabulary import Split
from habitus.domain.volume_models import RESIDUALS, segment_residuals
from habitus.loading import load_settings
from habitus.volume_settings import VolumeSettings

pytestmark = pytest.mark.plain

START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 42
HOURS = 24 * DAYS
SPLIT = Split(
    train_from=START,
    train_until=START + timedelta(days=21),
    calibrate_from=START + timedelta(days=26),
    validation_until=START + timedelta(days=31),
)
TEST = 24 * 31 - 24 * 21  # first test period among those after training


def settings(*overrides: str) -> VolumeSettings:
    chosen = ("volumes.measures.amount=null", "volumes.orders=[]", *overrides)
    return load_settings(overrides=chosen).volumes


def shop() -> np.ndarray:
    """[HOURS] expected events of a whole shop: a peak every evening, more at weekends."""
    hours = np.arange(HOURS)
    return (60 + 40 * np.cos(2 * np.pi * (hours - 20) / 24)) * np.where(hours % 168 >= 120, 1.4, 1)


def lifted(hours: slice, times: float) -> np.ndarray:
    """[HOURS] 1, but in some hours so many times that."""
    lift = np.ones(HOURS)
    lift[hours] = times
    return lift


def series(
    seed: int, share: float = 0.1, lift: np.ndarray | None = None, own: np.ndarray | None = None
) -> pd.DataFrame:
    """A seller with this share of the shop's events, one in ten of them a failure.

    `lift` multiplies everybody's events, `own` the seller's alone.
    """
    random = np.random.default_rng(seed)
    expected = shop() * (1 if lift is None else lift)
    events = random.poisson(share * expected * (1 if own is None else own))
    return pd.DataFrame(
        {
            "segment_kind": "seller",
            "segment": "s1",
            "period_start": pd.date_range(START.replace(tzinfo=None), periods=HOURS, freq="h"),
            "events": events.astype(float),
            "failures": random.binomial(events, 0.1).astype(float),
            "elsewhere": random.poisson((1 - share) * expected).astype(float),
        }
    )


def residuals(frame: pd.DataFrame, measure: str = "events", *overrides: str) -> pd.DataFrame:
    found = segment_residuals(frame, settings(*overrides), SPLIT)
    assert list(found.columns) == [column.split()[0] for column in RESIDUALS.split(", ")]
    return found[found["measure"] == measure].reset_index(drop=True)


def test_an_undisturbed_segment_is_forecast_to_its_chance() -> None:
    found = residuals(series(1))

    assert len(found) == HOURS - 24 * 21
    # Windows of several periods make the largest of several normal numbers.
    assert found["strangeness"].quantile(0.99) < 4
    hours = residuals(series(1), "events", "volumes.windows=[1]")
    assert hours["observed"].sum() == pytest.approx(hours["expected"].sum(), rel=0.05)
    assert found["scale"][0] == pytest.approx(1, abs=0.2)


def test_a_busy_segment_is_judged_by_the_chance_of_counts() -> None:
    busy = series(7, lift=np.full(HOURS, 20.0))

    found = residuals(busy, "events", "volumes.windows=[1]")

    assert busy["events"].min() > 20
    # By chance, others' events vary by a ninth of their number as well.
    assert found["scale"][0] == pytest.approx(10 / 9, abs=0.2)
    # The median of |x|, x normal.
    assert found["strangeness"].median() == pytest.approx(0.67, abs=0.1)


def test_a_promotion_that_lifts_all_alike_is_no_segments_shift() -> None:
    promotion = lifted(slice(24 * 35, 24 * 36), 10)

    usual, busy = residuals(series(1)), residuals(series(1, lift=promotion))

    day = slice(24 * 14, 24 * 15)
    assert busy["observed"][day].mean() > 4 * usual["observed"][day].mean()
    assert busy["strangeness"][day].max() < usual["strangeness"].max() + 1


def test_a_promotion_is_the_shift_of_a_segment_that_is_alone() -> None:
    promotion = lifted(slice(24 * 35, 24 * 36), 10)
    alone = series(1, share=1.0, lift=promotion).assign(elsewhere=0.0)

    found = residuals(alone)

    assert "daily" in found["model"][0] or "weekly" in found["model"][0]
    assert found["strangeness"][24 * 14 : 24 * 15].max() > 20
    assert found["strangeness"][TEST : 24 * 14].max() < 5


def test_a_segment_with_nearly_all_events_of_its_kind_is_judged_by_itself() -> None:
    frame = series(8, share=0.98, lift=np.full(HOURS, 10.0), own=lifted(slice(840, 846), 0.6))

    found = residuals(frame)

    assert found["strangeness"][TEST : 840 - 504].max() < 5
    assert found["strangeness"][840 - 504 : 846 - 504].max() > 10


def test_one_that_was_alone_in_training_is_not_measured_by_who_comes_later() -> None:
    frame = series(9, share=1.0)
    opened = np.arange(HOURS) >= 24 * 35
    frame["elsewhere"] = np.where(opened, 20.0, 0.0)

    assert residuals(frame)["strangeness"][TEST:].max() < 5


def of_amounts(frame: pd.DataFrame, paid: np.ndarray) -> pd.DataFrame:
    """What the model makes of the amounts paid."""
    chosen = ("volumes.measures={failures: null, amount: amount}", "volumes.orders=[]")
    volumes = load_settings(overrides=chosen).volumes
    found = segment_residuals(frame.assign(amount=paid), volumes, SPLIT)
    return found[found["measure"] == "amount"].reset_index(drop=True)


def test_the_currency_of_amounts_does_not_matter() -> None:
    frame = series(10)
    events = frame["events"].to_numpy()
    # Each event pays 20 in the mean, its square 600.
    paid = np.random.default_rng(1).gamma(2 * np.maximum(events, 1e-9), 10.0)
    paid[840:846] *= 3

    found = of_amounts(frame, paid)

    assert found["scale"][0] == pytest.approx(30, rel=0.7)
    assert found["strangeness"][840 - 504 : 846 - 504].max() > 8
    for coin in (1e-4, 1e4):
        other = of_amounts(frame, paid * coin)["strangeness"]
        np.testing.assert_allclose(other, found["strangeness"], rtol=1e-3, atol=1e-3)


def test_what_nearly_all_events_are_is_judged_as_what_few_are_not() -> None:
    frame = series(11, lift=np.full(HOURS, 20.0))
    failed = np.random.default_rng(2).binomial(frame["events"].astype(int), 0.01)
    failed[840:846] = 0.08 * frame["events"][840:846]
    few = residuals(frame.assign(failures=failed.astype(float)), "failures")
    most = residuals(frame.assign(failures=frame["events"] - failed), "failures")

    shifted = slice(840 - 504, 846 - 504)
    assert few["strangeness"][shifted].max() > 8
    assert most["strangeness"][shifted].max() > 8
    assert most["strangeness"][TEST : 840 - 504].max() < 6


def test_an_hour_in_which_more_is_paid_back_than_paid_hides_no_other() -> None:
    frame = series(12)
    paid = frame["events"].to_numpy() * 10.0
    paid[840:846] *= 5
    paid[860] = -900

    found = of_amounts(frame, paid)

    assert found["strangeness"][840 - 504 : 846 - 504].max() > 10
    assert found["strangeness"][860 - 504] > 3


def test_volumes_follow_the_clocks_of_their_time_zone() -> None:
    # Clocks in Berlin go forward on 29 March 2026, here in the middle of the test period.
    random = np.random.default_rng(13)
    times = pd.date_range("2026-02-20", periods=HOURS, freq="h")
    local = times.tz_localize("UTC").tz_convert("Europe/Berlin").hour
    events = random.poisson(500 + 450 * np.cos(2 * np.pi * (local - 20) / 24)).astype(float)
    frame = series(13).assign(period_start=times, events=events, elsewhere=0.0)
    moved = timedelta(days=(datetime(2026, 2, 20, tzinfo=UTC) - START).days)
    split = SPLIT.model_copy(
        update={name: getattr(SPLIT, name) + moved for name in type(SPLIT).model_fields}
    )

    strangest = {}
    for zone in ("UTC", "Europe/Berlin"):
        volumes = settings(f"volumes.time_zone={zone}", "volumes.windows=[1]")
        found = segment_residuals(frame, volumes, split)
        of_events = found[(found["measure"] == "events").to_numpy()]
        strangest[zone] = of_events["strangeness"][of_events["period_start"] >= "2026-03-30"].max()

    assert strangest["UTC"] > 8
    assert strangest["Europe/Berlin"] < 5


def test_failures_are_judged_per_event() -> None:
    frame = series(2)
    hours = slice(24 * 35, 24 * 35 + 12)
    more_events = series(2, own=lifted(hours, 4))
    more_failures = frame.copy()
    more_failures.loc[hours, "failures"] = more_failures.loc[hours, "events"] * 0.6

    here = slice(24 * 14, 24 * 14 + 12)
    assert residuals(more_events)["strangeness"][here].max() > 7
    assert residuals(more_events, "failures")["strangeness"][here].max() < 5
    assert residuals(more_failures, "failures")["strangeness"][here].max() > 5.5
    assert residuals(more_failures)["strangeness"][here].max() < 5


def test_what_lasts_from_hour_to_hour_is_left_to_arima() -> None:
    random = np.random.default_rng(3)
    drift = np.zeros(HOURS)
    for hour in range(1, HOURS):
        drift[hour] = 0.9 * drift[hour - 1] + 0.15 * random.normal()
    frame = series(3, share=0.3)
    frame["events"] = random.poisson(0.3 * shop() * np.exp(drift)).astype(float)

    hours = "volumes.windows=[1]"
    without = residuals(frame, "events", hours)
    found = residuals(frame, "events", hours, "volumes.orders=[[1, 0, 0], [0, 1, 1]]")

    assert "ARIMA" in found["model"][0]
    assert "ARIMA" not in without["model"][0]
    errors = [(one["observed"] - one["expected"]).abs().sum() for one in (found, without)]
    assert errors[0] < 0.85 * errors[1]


def test_what_comes_later_changes_no_forecast() -> None:
    frame = series(4)
    changed = frame.copy()
    changed.loc[24 * 35 :, ["events", "failures", "elsewhere"]] *= 3

    before, after = residuals(frame), residuals(changed)

    pd.testing.assert_frame_equal(before[: 24 * 14], after[: 24 * 14])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"events": 0.0}, "too rare in training"),
        ({"events": 5.0}, "constant in training"),
        ({"events": -1.0}, "it is negative"),
    ],
)
def test_what_cannot_be_learnt_is_skipped_with_the_reason(
    change: dict[str, float], reason: str
) -> None:
    found = residuals(series(1).assign(**change))

    assert found["skipped"].tolist() == [reason]
    assert found["period_start"].isna().all()


def test_a_short_training_period_is_a_reason() -> None:
    found = residuals(series(1)[24 * 21 - 10 :])

    assert found["skipped"].tolist() == ["the training period is too short"]


def test_rare_volumes_are_not_taken_for_dispersed_ones() -> None:
    frame = series(6, share=0.02)

    found = residuals(frame)

    assert found["scale"][0] == pytest.approx(1, abs=0.2)
    assert found["dispersion"].max() < 0.05
