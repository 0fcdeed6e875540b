"""Rules decide on flags in order, and say what keeps a flag from being shown."""

from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.alert_settings import AlertSettings, RuleSettings, SuppressSettings
from habitus.domain.alerts import choose, of_severity, rare_by_day
from habitus.domain.policy import (
    Mutes,
    decided,
    with_flags_before,
    with_suppression,
    with_verdicts_before,
)
from habitus.errors import SettingsError
from habitus.loading import load_settings

pytestmark = pytest.mark.spark

START = datetime(2026, 1, 1, 12)
DEFAULTS = load_settings().alerts
# unit, user, minutes after START, p-value, amount
FLAGS = [
    ("u1", "ann", 0, 1e-3, 900.0),
    ("u2", "ann", 30, 1e-3, 10.0),
    ("u3", "ann", 50, 1e-5, 10.0),
    ("u4", "ann", 200, 5e-3, 10.0),
    ("u5", "bob", 10, 5e-3, 900.0),
    ("u6", "bot", 10, 1e-6, 10.0),
]


def flags(spark: SparkSession) -> DataFrame:
    rows = [
        (unit, user, START + timedelta(minutes=minutes), 1.0, p, amount)
        for unit, user, minutes, p, amount in FLAGS
    ]
    columns = "unit_id string, user_id string, event_time timestamp, score double, p_value double"
    frame = spark.createDataFrame(rows, f"{columns}, amount_sum double")
    return frame.withColumns(
        {"event_date": F.to_date("event_time"), "severity": of_severity("name")}
    )


def settings(**changes: object) -> AlertSettings:
    return DEFAULTS.model_copy(update=changes)


def test_the_first_rule_that_holds_decides_else_the_severity(spark: SparkSession) -> None:
    rules = (
        RuleSettings(when="amount_sum > 500 and p_value <= 1e-3", decision="freeze", why="large"),
        RuleSettings(when="user_id = 'ann'", decision="allow", why="known"),
    )
    rows = decided(flags(spark), settings(rules=rules)).collect()
    assert {row["unit_id"]: (row["decision"], row["decided_by"]) for row in rows} == {
        "u1": ("freeze", "large"),
        "u2": ("allow", "known"),
        "u3": ("allow", "known"),
        "u4": ("allow", "known"),
        "u5": ("watch", "severity low"),
        "u6": ("challenge", "severity critical"),
    }


def test_a_rule_sees_how_many_flags_of_the_user_began_earlier_shown_or_not(
    spark: SparkSession,
) -> None:
    every = flags(spark).withColumn("suppressed_by", F.when(F.col("unit_id") == "u1", "quiet"))
    new = every.where("unit_id not in ('u2', 'u5')")
    rows = with_flags_before(new, every.where("unit_id in ('u2', 'u5')")).collect()
    assert {row["unit_id"]: row["flags_before"] for row in rows} == {
        "u1": 0,
        "u3": 2,
        "u4": 3,
        "u6": 0,
    }
    at_once = every.withColumn("event_time", F.lit(START))
    rows = with_flags_before(at_once, every.where("false")).collect()
    assert {row["flags_before"] for row in rows} == {0}


def test_a_rule_sees_what_earlier_units_of_the_user_turned_out_to_be(spark: SparkSession) -> None:
    verdicts = {"u1": False, "u3": True, "u5": True}
    judged = flags(spark).where(F.col("unit_id").isin(*verdicts))
    label = F.create_map(*(F.lit(part) for pair in verdicts.items() for part in pair))
    rows = with_verdicts_before(flags(spark), judged.withColumn("label", label[F.col("unit_id")]))
    found = {
        row["unit_id"]: (row["confirmed_before"], row["dismissed_before"]) for row in rows.collect()
    }
    assert found == {
        "u1": (0, 0),
        "u2": (0, 1),
        "u3": (0, 1),
        "u4": (1, 1),
        "u5": (0, 0),
        "u6": (0, 0),
    }


def test_what_is_suppressed_leaves_its_place_to_another_and_is_kept_where_it_would_have_been(
    spark: SparkSession,
) -> None:
    suppress = (SuppressSettings(when="user_id in ('bot')", why="our own crawler"),)
    candidates = with_suppression(flags(spark), settings(suppress=suppress))
    chosen = {row["unit_id"]: row["suppressed_by"] for row in choose(candidates, 2).collect()}
    assert chosen == {"u3": None, "u1": None, "u6": "our own crawler"}
    counts = rare_by_day(candidates).first()
    assert counts is not None
    assert counts.asDict() | {"event_date": None} == {
        "event_date": None,
        "rare": 6,
        "suppressed": 1,
    }


def test_a_flag_whose_strongest_reason_is_muted_is_not_shown(spark: SparkSession) -> None:
    fields = spark.createDataFrame(
        [
            (1, ["hour", "gap"], True),
            (2, ["gap", "hour"], False),
            (3, ["gap"], True),
            (4, ["amount"], False),
            (5, [], False),
        ],
        "number int, fields array<string>, judged boolean",
    )
    reasons = F.transform("fields", lambda field: F.struct(field.alias("field")))
    mutes = Mutes.of(settings(mute=("hour",), mute_after=3), {"gap": 3, "amount": 2})
    rows = fields.select("number", mutes.by(reasons, F.col("judged")).alias("by")).collect()
    assert {row["number"]: row["by"] for row in rows} == {
        1: "muted: hour",
        2: "muted: gap, first reason of 3 dismissed flags, no confirmed one",
        3: None,
        4: None,
        5: None,
    }


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("amount_summ > 1", r"alerts.rules\[1\].when: 'amount_summ > 1' is no condition"),
        ("amount_sum", r"alerts.rules\[1\].when: 'amount_sum' is a double, no condition"),
        ("((", r"alerts.rules\[1\].when"),
    ],
)
def test_a_condition_that_is_none_is_named(spark: SparkSession, when: str, words: str) -> None:
    rules = (
        RuleSettings(when="true", decision="watch", why="all"),
        RuleSettings(when=when, decision="watch", why="wrong"),
    )
    with pytest.raises(SettingsError, match=words):
        decided(flags(spark), settings(rules=rules))
