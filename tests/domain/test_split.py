"""The time split follows the settings."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from habitus.config import SplitSettings
from habitus.domain.split import resolve_split, rolled
from habitus.errors import SettingsError

pytestmark = pytest.mark.plain

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
LAST = datetime(2026, 1, 11, tzinfo=UTC)


def settings(train_until: object, validation_until: object, share: float = 0.5) -> SplitSettings:
    return SplitSettings.model_validate(
        {
            "train_from": None,
            "train_until": train_until,
            "validation_until": validation_until,
            "calibration_share": share,
        }
    )


def test_shares_are_of_the_span() -> None:
    split = resolve_split(settings(0.5, 0.7, 0.25), FIRST, LAST)
    assert split.train_until == datetime(2026, 1, 6, tzinfo=UTC)
    assert split.calibrate_from == datetime(2026, 1, 7, 12, tzinfo=UTC)
    assert split.validation_until == datetime(2026, 1, 8, tzinfo=UTC)


def test_times_are_taken_as_they_are() -> None:
    split = resolve_split(settings("2026-01-03", "2026-01-05T00:00:00+01:00"), FIRST, LAST)
    assert split.train_until == datetime(2026, 1, 3, tzinfo=UTC)
    assert split.validation_until == datetime(2026, 1, 4, 23, tzinfo=UTC)


@given(
    shares=st.lists(st.floats(0.001, 1), min_size=2, max_size=2, unique=True).map(sorted),
    calibration=st.floats(0, 1),
)
def test_the_periods_follow_each_other(shares: list[float], calibration: float) -> None:
    first, last = FIRST, FIRST + timedelta(days=3650)
    # Times are exact to the microsecond.
    assume(shares[1] - shares[0] > 1e-12)
    split = resolve_split(settings(*shares, calibration), first, last)
    assert first <= split.train_until <= split.calibrate_from <= split.validation_until <= last


@pytest.mark.parametrize(
    ("train_until", "validation_until"), [(0.7, 0.5), (0.5, 0.5), ("2026-01-09", 0.5)]
)
def test_training_that_does_not_end_first_is_refused(
    train_until: object, validation_until: object
) -> None:
    with pytest.raises(SettingsError, match=r"not after split\.train_until"):
        resolve_split(settings(train_until, validation_until), FIRST, LAST)


def test_training_may_begin_late_but_before_it_ends() -> None:
    late = settings(0.5, 0.7).model_copy(update={"train_from": 0.4})
    assert resolve_split(late, FIRST, LAST).train_from == datetime(2026, 1, 5, tzinfo=UTC)
    with pytest.raises(SettingsError, match=r"not after split\.train_from"):
        resolve_split(late.model_copy(update={"train_from": 0.5}), FIRST, LAST)


def test_each_block_is_split_as_the_first_is_with_more_before_it() -> None:
    split = resolve_split(settings(0.5, 0.7, 0.25), FIRST, LAST)
    moved = rolled(split, LAST, 3)
    assert [start for _, start in moved] == [
        datetime(2026, 1, day, tzinfo=UTC) for day in (8, 9, 10)
    ]
    same, *later = [resolve_split(one, FIRST, LAST) for one, _ in moved]
    assert same == split
    for days, one in enumerate(later, start=1):
        assert one.train_from == FIRST
        assert one.train_until == split.train_until + timedelta(days=days)
        assert one.calibrate_from == split.calibrate_from + timedelta(days=days)
        assert one.validation_until == split.validation_until + timedelta(days=days)
