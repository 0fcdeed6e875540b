"""How what is strange reads in Chinese.

What the data name themselves (actions, categories, channels) stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from habitus.domain.detectors.base import Reason
from habitus.domain.wording import (
    ENDING,
    LIKELY,
    NAMED,
    NEW,
    RAREST,
    hours_of,
    in_digits,
    one_in,
    sums_of,
    usual_values,
)
from habitus.setting_types import UnitKind

_UNITS = {"session": "会话", "event": "事件", "hour": "小时", "day": "天"}
# What volumes are counted of, and which of them, where settings do not name their own.
_SEGMENTS = {
    "shop": "全店",
    "seller": "卖家",
    "category": "品类",
    "channel": "渠道",
    "country": "国家",
}
_MEASURED = {"events": "事件数", "failures": "失败率", "amount": "金额"}
_THINGS = {"device": "设备", "network": "网络", "counterparty": "交易对方"}
_FIELDS = {
    "action": "行为",
    "amount": "金额",
    "gap": "间隔",
    "hour": "时间",
    "category": "品类",
    "outcome": "结果",
    "channel": "渠道",
    "number of events": "事件数",
    "duration": "时长",
    "mean gap": "平均间隔",
    "spread of gaps": "间隔离散度",
    "sum of amounts": "金额合计",
    "mean amount": "平均金额",
    "largest amount": "最大金额",
    "earlier events known": "已知历史事件数",
    "features without a value": "缺失的特征数",
    "surprise": "整体意外程度",
    "largest surprise": "最大意外程度",
    "gaps": "间隔",
    "events": "事件",
}
# A name that is made of others: what it looks like, and how it reads around them.
_MADE_OF = (
    (r"(.+) either way", "{}（不分方向）"),
    (r"(.+) as a multiple of the usual one", "{}与平时之比"),
    (r"mean of (.+) beside usual ones", "{}相对平时的平均偏离"),
    (r"sum of (.+) beside usual ones", "{}相对平时的累计偏离"),
    (r"spread of (.+) beside usual ones", "{}相对平时的离散度"),
    (r"share of earlier events with the same (.+)", "历史事件中{}相同的占比"),
    (r"different values of (.+)", "{}的不同取值数"),
    (r"largest surprise of (.+)", "{}的最大意外程度"),
    (r"surprise of (.+)", "{}的意外程度"),
    (r"rank of (.+)", "{}的常见度排名"),
    (r"number of (.+)", "{}次数"),
    (r"share of (.+)", "{}的占比"),
    (r"(.+)_pattern", "{}的变化模式"),
)
# Words of a feature's name in `features`, e.g. user_count_1_day.
_WORDS = _THINGS | {
    "user": "用户",
    "item": "商品",
    "count": "次数",
    "sum": "合计",
    "mean": "均值",
    "max": "最大值",
    "median": "中位数",
    "peak": "最大值与中位数之比",
    "multiple": "与中位数之比",
    "anomalous": "异常",
    "zscore": "偏离标准差数",
    "ratio": "与均值之比",
    "amount": "金额",
    "risk": "风险率",
    "anomalies": "异常数",
    "since": "距",
    "first": "首次",
    "last": "上次",
    "anomaly": "异常",
    "distinct": "不同数",
    "entropy": "熵",
    "share": "占比",
    "new": "新",
}
_WINDOWS = {"s": "秒", "min": "分钟", "h": "小时", "d": "天"}
_WINDOW = rf"(\d+)({'|'.join(_WINDOWS)})"
_VALUES = {
    "none": "无",
    "nothing": "无",
    "the end": "结束",
    "any": "任意",
    "yes": "是",
    "no": "否",
    "a rare or new value": "罕见或新出现的值",
    "too regular": "过于规律",
}
_RANGES = (
    (r"below (\S+)", "低于{}"),
    (r"(\S+) or more", "{}及以上"),
    (r"(\S+) to (\S+)", "{}至{}"),
)
_MEASURES = {"s": "秒", "deviations": "个标准差", "bits": "比特", "": ""}
_NUMBER = r"-?[\d.,e+-]+%?"


class Chinese:
    """Simplified Chinese."""

    def phrase(self, reason: Reason, times: int, in_a_row: bool) -> str:
        """E.g. "结果为failure连续12次（通常为success）"."""
        text = _observed(reason)
        if times > 1:
            text += f"{'连续' if in_a_row else '共'}{times}次"
        usual = "或".join(map(_value, usual_values(reason)))
        if not usual:
            return text
        return f"{text}（{'预期' if reason.field == 'action' else '通常'}为{usual}）"

    def sentence(
        self, phrases: Sequence[tuple[str, bool]], unit_kind: UnitKind, p_value: float
    ) -> str:
        """E.g. "使用新设备，随后payment连续12次；每200个会话中有1个如此异常。"."""
        text = ""
        for phrase, same in phrases:
            text += ("，" if same else "，随后") * bool(text) + phrase
        text = text or f"该{_UNITS[unit_kind]}整体异常"
        return f"{text}；{_rarity(unit_kind, p_value)}。"

    def case(self, case: Mapping[str, Any], strangest: str) -> str:
        """E.g. "5个用户共用设备d1（其6个用户中的5个）：14个预警，历时2.0小时；最异常的：..."."""
        named = [
            f"{_THINGS[one['kind']]}{one['value']}（其{one['users']}个用户中的"
            f"{one['flagged_users']}个）"
            for one in case["shared"][:NAMED]
        ]
        who = f"{case['n_users']}个用户共用{'和'.join(named)}"
        if case["n_users"] == 1:
            who = f"用户{case['user_ids'][0]}"
        time = f"，历时{hours_of(case):,.1f}小时" if case["n_flags"] > 1 else ""
        amount = f"，金额合计{in_digits(case['amount_sum'])}" if case["amount_sum"] else ""
        return f"{who}：{case['n_flags']}个预警{time}{amount}；最异常的：{strangest}"

    def shift(self, shift: Mapping[Any, Any], period: str) -> str:
        """E.g. "卖家b：事件数为1,920，预期为1,600（通常为1,510至1,690），..."."""
        observed, expected, low, high = sums_of(shift)
        kind, measure = shift["segment_kind"], shift["measure"]
        return (
            f"{_SEGMENTS.get(kind, kind)}{shift['segment']}：{_MEASURED.get(measure, measure)}为"
            f"{observed}，预期为{expected}（通常为{low}至{high}），"
            f"{shift['period_start']:%Y-%m-%d %H:%M}至{shift['period_end']:%Y-%m-%d %H:%M}；"
            f"{_rarity(period, shift['p_value'])}。"
        )


def _observed(reason: Reason) -> str:
    value = reason.observed
    if (reason.field, value) == ENDING:
        return "到此结束"
    if reason.field in NEW and value in ("yes", "no"):
        thing = _THINGS[NEW[reason.field]]
        verb = "与" if reason.field == "new_counterparty" else "使用"
        return f"{verb}{'新' if value == 'yes' else '已知'}{thing}" + "交易" * (verb == "与")
    if reason.field == "action":
        return "罕见或新出现的行为" if value == "a rare or new value" else value
    name = _name(reason.field)
    if value == "none":
        return f"无{name}"
    return f"{name}{'' if value == 'too regular' else '为'}{_value(value)}"


def _name(field: str) -> str:
    """The name of a field or feature."""
    if field in _FIELDS:
        return _FIELDS[field]
    if field in NEW:
        return f"新{_THINGS[NEW[field]]}"
    for pattern, around in _MADE_OF:
        if found := re.fullmatch(pattern, field):
            return around.format(_name(found[1]))
    head, _, value = field.partition(" ")
    if value and head in _FIELDS | NEW:
        return f"{_name(head)}为{_value(value)}"
    return _feature(field)


def _feature(name: str) -> str:
    """A name as in `features`: its entity, then its window, then what is measured."""
    entity, *words = name.split("_")
    if entity not in _WORDS or not words:
        return name
    windows = [found for word in words if (found := re.fullmatch(_WINDOW, word))]
    within = "".join(f"近{found[1]}{_WINDOWS[found[2]]}" for found in windows)
    measured = [word for word in words if word not in {found[0] for found in windows}]
    return _WORDS[entity] + within + "".join(_WORDS.get(word, word) for word in measured)


def _value(text: str) -> str:
    """A value in words, a range or a number with its unit; others stay as they are."""
    if text in _VALUES:
        return _VALUES[text]
    for unit, measure in _MEASURES.items():
        bare = text.removesuffix(f" {unit}" if unit else "")
        if unit and bare == text:
            continue
        for pattern, around in _RANGES:
            if (found := re.fullmatch(pattern, bare)) and re.search(r"\d", found[1]):
                return around.format(*found.groups()) + measure
        if unit and re.fullmatch(_NUMBER, bare):
            return bare + measure
    # A range whose ends carry their unit each.
    ends = text.split(" to ")
    if len(ends) == 2 and all(re.match(r"-?\d", end) for end in ends):
        return "至".join(map(_value, ends))
    return text


def _rarity(unit: str, p_value: float) -> str:
    units = _UNITS[unit]
    if p_value < RAREST:
        return f"每{1 / RAREST:,.0f}个{units}中不到1个如此异常"
    if p_value > LIKELY:
        return f"{p_value:.0%}的{units}如此异常"
    return f"每{one_in(p_value)}个{units}中有1个如此异常"
