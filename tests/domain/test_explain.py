"""Reasons in words."""

import re
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from habitus.domain.detectors.base import Reason
from habitus.domain.explain import reason_rows, summary
from habitus.domain.features import feature_names
from habitus.setting_types import MeasureName
from habitus.tables import REASONS
from habitus.unit_settings import FeatureSettings

pytestmark = pytest.mark.plain


def reason(
    index: int | None, field: str, observed: str, *expected: str, surprise: float = 5.0
) -> Reason:
    likely = tuple((value, 0.6 - 0.2 * rank) for rank, value in enumerate(expected))
    return Reason(index, field, observed, likely, surprise, surprise / 50, "sequence")


def test_a_card_test_in_one_sentence() -> None:
    reasons = [
        *(reason(i, "action", "payment", "logout", "view") for i in range(3, 15)),
        reason(2, "amount", "512 or more", "5 to 40", surprise=12),
        reason(2, "new_device", "yes", "no", surprise=9),
        reason(1, "hour", "03:00", "19:00", surprise=1),
    ]
    assert summary(reasons, "session", 1 / 20_000, "en") == (
        "An amount of 512 or more (usually 5 to 40), from a new device, then payment 12 times in "
        "a row where logout or view was expected; 1 in 20,000 sessions is this strange."
    )


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (reason(1, "action", "refund", "view"), "Refund where view was expected"),
        (reason(1, "action", "add_to_cart", "log_out"), "Add to cart where log out was expected"),
        (reason(1, "action", "a rare or new value", "view"), "A rare or new action where view was"),
        (reason(None, "action", "the end", "pay"), "It ends where pay was expected"),
        (reason(1, "new_network", "no", "yes"), "From a known network;"),
        (reason(1, "new_counterparty", "yes", "no"), "With a new counterparty;"),
        (reason(1, "outcome", "none", "success"), "No outcome (usually success)"),
        (reason(1, "gap", "below 1 s"), "A gap of below 1 s;"),
        (reason(1, "hour", "03:00", "19:00", "20:00"), "At 03:00 (usually 19:00 or 20:00)"),
        (reason(1, "category", "toys", "books"), "Category toys (usually books)"),
        (
            reason(None, "user_count_1d", "90", "2 to 6"),
            "The user's events of the last day: 90 (usually 2 to 6)",
        ),
        (
            reason(None, "network_distinct_user_7d", "40", "1 to 2"),
            "The network's number of different users of the last 7 days: 40 (usually 1 to 2)",
        ),
        (
            reason(None, "user_entropy_category_pay_1h", "2", "0 to 1"),
            "The user's entropy of categories of pay events in bits of the last hour: 2",
        ),
        (
            reason(None, "user_device_since_last_90d", "none", "60 to 900"),
            "The user's seconds since the last event with the device of the last 90 days: none",
        ),
        (reason(None, "user_habit", "3", "1"), "User habit 3 (usually 1)"),
    ],
)
def test_each_field_reads_well(one: Reason, text: str) -> None:
    assert summary([one], "session", 0.01, "en").startswith(text)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (reason(1, "action", "refund", "view"), "refund（预期为view）"),
        (reason(1, "action", "a rare or new value", "view"), "罕见或新出现的行为（预期为view）"),
        (reason(None, "action", "the end", "pay"), "到此结束（预期为pay）"),
        (reason(1, "new_network", "no", "yes"), "使用已知网络；"),
        (reason(1, "new_counterparty", "yes", "no"), "与新交易对方交易；"),
        (reason(1, "outcome", "none", "success"), "无结果（通常为success）"),
        (reason(1, "gap", "below 1 s"), "间隔为低于1秒；"),
        (reason(1, "gap", "5 to 12 s"), "间隔为5至12秒；"),
        (reason(None, "gap_pattern", "too regular"), "间隔的变化模式过于规律；"),
        (reason(1, "hour", "03:00", "19:00", "20:00"), "时间为03:00（通常为19:00或20:00）"),
        (reason(1, "category", "toys", "books to read"), "品类为toys（通常为books to read）"),
        (
            reason(None, "user_amount_mean_7d", "90", "0 to 3"),
            "用户近7天金额均值为90（通常为0至3）",
        ),
        (reason(None, "mean gap", "0.25 s", "5 s to 60 s"), "平均间隔为0.25秒（通常为5秒至60秒）"),
        (
            reason(None, "user_amount_peak_10min", "9", "1 to 3"),
            "用户近10分钟金额最大值与中位数之比为9（通常为1至3）",
        ),
        (
            reason(None, "surprise of gap either way", "-2.3 deviations", "0.1 to 2 deviations"),
            "间隔的意外程度（不分方向）为-2.3个标准差（通常为0.1至2个标准差）",
        ),
        (
            reason(None, "share of outcome failure", "79%", "0% to 10%"),
            "结果为failure的占比为79%（通常为0%至10%）",
        ),
        (reason(None, "number of view", "0", "2 to 9"), "view次数为0（通常为2至9）"),
    ],
)
def test_each_field_reads_well_in_chinese(one: Reason, text: str) -> None:
    assert summary([one], "session", 0.01, "zh").startswith(text)


def name_of(measure: MeasureName) -> str:
    declared = FeatureSettings.model_construct(
        entity="user", windows=(timedelta(days=1),), measures=(measure,), of=None, where={}
    )
    (name,) = feature_names([declared])
    return name


@pytest.mark.parametrize("measure", get_args(MeasureName))
def test_each_measure_of_a_feature_has_english_words(measure: MeasureName) -> None:
    told = summary([reason(None, name_of(measure), "2", "0 to 1")], "session", 0.01, "en")
    assert re.match(r"The user's [a-z ]+ of the last day: 2 \(usually 0 to 1\);", told), told


@pytest.mark.parametrize("measure", get_args(MeasureName))
def test_each_measure_of_a_feature_has_chinese_words(measure: MeasureName) -> None:
    name = name_of(measure)
    told = summary([reason(None, name, "2", "0 to 1")], "session", 0.01, "zh")
    assert not re.search("[a-z_]", told.split("为")[0]), told


def test_a_card_test_in_one_chinese_sentence() -> None:
    reasons = [
        *(reason(i, "action", "payment", "logout", "view") for i in range(3, 15)),
        reason(2, "amount", "512 or more", "5 to 40", surprise=12),
        reason(2, "new_device", "yes", "no", surprise=9),
    ]
    assert summary(reasons, "session", 1 / 20_000, "zh") == (
        "金额为512及以上（通常为5至40），使用新设备，随后payment连续12次（预期为logout或view）；"
        "每20,000个会话中有1个如此异常。"
    )
    assert (
        summary([], "event", 1e-9, "zh") == "该事件整体异常；每1,000,000个事件中不到1个如此异常。"
    )
    assert summary([], "event", 0.4, "zh") == "该事件整体异常；40%的事件如此异常。"


def test_what_is_unlikely_itself_is_not_named_as_expected() -> None:
    one = Reason(0, "action", "pay", (("logout", 0.97), ("view", 0.02)), 6.0, 1.0, "sequence")
    assert summary([one], "event", 0.01, "en").startswith("Pay where logout was expected;")


def test_repetitions_are_counted_and_said_to_be_in_a_row_only_if_they_are() -> None:
    apart = [reason(i, "outcome", "failure", "success") for i in (1, 3, 5)]
    assert summary(apart, "session", 0.01, "en").startswith(
        "Outcome failure 3 times (usually success);"
    )


def test_the_story_is_told_in_the_order_of_events_with_the_end_last() -> None:
    reasons = [
        reason(None, "action", "the end", "pay"),
        reason(7, "action", "refund"),
        reason(2, "action", "login"),
    ]
    assert summary(reasons, "session", 0.01, "en").startswith("Login, then refund, then it ends")


def test_a_unit_without_a_reason_still_has_a_sentence() -> None:
    assert summary([], "event", 0.01, "en") == (
        "The event as a whole is unusual; 1 in 100 events is this strange."
    )


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.4, "40% of sessions are this strange."),
        (0.0123, "1 in 81 sessions is this strange."),
        (1 / 12_345, "1 in 12,000 sessions is this strange."),
        (1e-9, "fewer than 1 in 1,000,000 sessions are this strange."),
    ],
)
def test_a_p_value_in_words(p_value: float, text: str) -> None:
    assert summary([], "session", p_value, "en").endswith("; " + text)


def test_reasons_become_rows_with_ranks_ids_and_times() -> None:
    times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (1, 2)]
    rows = reason_rows(
        [reason(1, "action", "pay", "view"), reason(None, "duration", "9 s")], ["a", "b"], times
    )
    assert rows[0] == {
        "rank": 1,
        "event_index": 1,
        "event_id": "b",
        "event_time": times[1],
        "field": "action",
        "observed": "pay",
        "expected": [{"value": "view", "probability": 0.6}],
        "surprise": 5.0,
        "share": 0.1,
        "against": "sequence",
    }
    assert (rows[1]["rank"], rows[1]["event_id"], rows[1]["event_time"]) == (2, None, None)
    assert list(rows[0]) == [field.name for field in REASONS.fields]
