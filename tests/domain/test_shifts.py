"""Shifts found in residuals that are known."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from habitus.domain.shifts import SHIFTS, find_shifts
from habitus.domain.vocabulary import Split
from habitus.domain.volume_windows import strangest_windows
from habitus.loading import load_settings
from habitus.setting_types import Language
from habitus.volume_settings import VolumeSettings

pytestmark = pytest.mark.plain

START = datetime(2026, 1, 5, tzinfo=UTC)
SPLIT = Split(
    train_from=START - timedelta(days=10),
    train_until=START,
    calibrate_from=START + timedelta(hours=10),
    validation_until=START + timedelta(hours=300),
)
HOURS = 400
SETTINGS: VolumeSettings = load_settings(
    overrides=["volumes.windows=[1, 2, 4]", "volumes.false_positive_rate=0.001"]
).volumes
SINCE = pd.Timestamp("2026-01-17 12:00")  # hour 300
FAR = pd.Timestamp.max


def rows(jumps: dict[tuple[str, int, int], float], segments: str = "ab") -> pd.DataFrame:
    """Segments of 400 hours: 400 events in each, but in some hours [from, to) another number."""
    random = np.random.default_rng(1)
    parts = []
    for segment in segments:
        values = random.poisson(400, HOURS).astype(float)
        for (name, start, end), size in jumps.items():
            if name == segment:
                values[start:end] = size
        times = pd.date_range("2026-01-05", periods=HOURS, freq="h")
        found = strangest_windows(
            values, np.full(HOURS, 400.0), (1.0, 1e-6), np.arange(HOURS) < 100, SETTINGS.windows
        )
        names = {"segment_kind": "seller", "segment": segment, "measure": "events"}
        parts.append(found.assign(model="daily", scale=1.0, period_start=times, **names))
    return pd.concat(parts, ignore_index=True).dropna()


def found(
    frame: pd.DataFrame, until: pd.Timestamp = FAR, language: Language = "en"
) -> pd.DataFrame:
    shifts = find_shifts(frame, SETTINGS, SPLIT, SINCE, until, language)
    assert list(shifts.columns) == [column.split()[0] for column in SHIFTS.split(", ")]
    return shifts


def test_a_shift_is_one_row_from_where_it_began_to_where_it_ended() -> None:
    (shift,) = found(rows({("b", 340, 344): 480.0})).to_dict("records")

    assert shift["segment"] == "b"
    assert shift["period_start"] == pd.Timestamp("2026-01-19 04:00")  # hour 340
    assert shift["period_end"] == pd.Timestamp("2026-01-19 08:00")
    assert shift["periods"] == 4
    assert shift["observed"] == 4 * 480
    assert shift["expected"] == 1600
    assert shift["low"] < 1600 < shift["high"] < shift["observed"]
    assert shift["p_value"] <= SETTINGS.false_positive_rate


def test_a_shift_of_one_period_and_a_fall_are_found_too() -> None:
    shifts = found(rows({("a", 320, 321): 700.0, ("b", 350, 352): 250.0}))

    assert shifts["segment"].tolist() == ["a", "b"]
    assert shifts["periods"].tolist() == [1, 2]
    assert shifts["observed"][1] < shifts["low"][1]


def test_two_shifts_apart_are_two_rows() -> None:
    shifts = found(rows({("a", 320, 322): 600.0, ("a", 360, 362): 600.0}))

    assert shifts["period_start"].tolist() == [
        pd.Timestamp("2026-01-18 08:00"),
        pd.Timestamp("2026-01-20 00:00"),
    ]


def test_only_the_judged_period_is_flagged() -> None:
    jumps = {("a", 100, 102): 600.0, ("a", 360, 362): 600.0}

    assert len(found(rows(jumps), until=pd.Timestamp("2026-01-19"))) == 0


def test_neither_the_order_of_rows_nor_other_segments_periods_matter() -> None:
    frame = rows({("b", 340, 344): 480.0})

    shuffled = frame.sample(frac=1, random_state=0)

    pd.testing.assert_frame_equal(found(frame), found(shuffled))


def test_the_sentence_says_what_where_and_when() -> None:
    (summary,) = found(rows({("b", 340, 344): 480.0}))["summary"]

    assert summary.startswith("seller b: events 1,920 instead of 1,600 (")
    assert "is usual) from 2026-01-19 04:00 to 2026-01-19 08:00; " in summary
    assert summary.endswith("fewer than 1 in 1,000,000 hours are this strange.")


def test_the_sentence_reads_well_in_chinese() -> None:
    (summary,) = found(rows({("b", 340, 344): 480.0}), language="zh")["summary"]

    assert summary.startswith("卖家b：事件数为1,920，预期为1,600（通常为")
    assert "），2026-01-19 04:00至2026-01-19 08:00；每" in summary
    assert summary.endswith("每1,000,000个小时中不到1个如此异常。")


def test_without_periods_to_calibrate_on_nothing_is_flagged() -> None:
    frame = rows({("a", 340, 344): 600.0}, segments="a")

    assert found(frame[-95:]).empty


def test_few_periods_to_calibrate_on_make_no_common_hour_rare() -> None:
    frame = rows({}, segments="a")[-130:].assign(strangeness=np.linspace(0.5, 1, 130))
    common, strange = frame.copy(), frame.copy()
    common.loc[common.index[-5], "strangeness"] = 3.2
    strange.loc[strange.index[-5], "strangeness"] = 5.0

    assert found(common).empty
    assert len(found(strange)) == 1
