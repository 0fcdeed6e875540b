"""Rules decide on flags in order, and say what keeps a flag from being shown."""

from datetime import datetime, timedelta

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.alert_settings import AlertSettings, RuleSettings, SuppressSettings
from habitus.domain.alerts import choose, cut_by_budget, of_severity
from habitus.domain.policy import decided, muted, with_flags_before, with_suppression
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


def test_a_user_is_quiet_for_a_while_unless_it_gets_stranger(spark: SparkSession) -> None:
    rows = with_suppression(flags(spark), settings(cool_down=timedelta(hours=1))).collect()
    quiet = {row["unit_id"]: row["suppressed_by"] for row in rows if row["suppressed_by"]}
    assert quiet == {"u2": "cool-down of 1:00:00"}


def test_what_is_suppressed_leaves_its_place_to_another_and_is_kept_where_it_would_have_been(
    spark: SparkSession,
) -> None:
    suppress = (SuppressSettings(when="user_id in ('bot')", why="our own crawler"),)
    candidates = with_suppression(flags(spark), settings(suppress=suppress))
    chosen = {row["unit_id"]: row["suppressed_by"] for row in choose(candidates, 2).collect()}
    assert chosen == {"u3": None, "u1": None, "u6": "our own crawler"}
    counts = cut_by_budget(candidates, 2).first()
    assert counts is not None
    assert counts.asDict() | {"event_date": None} == {
        "event_date": None,
        "rare": 6,
        "cut": 3,
    }


def test_a_flag_whose_strongest_reason_is_muted_is_not_shown(spark: SparkSession) -> None:
    fields = spark.createDataFrame(
        [(["hour", "gap"],), (["gap", "hour"],), ([],)], "fields array<string>"
    )
    reasons = F.transform("fields", lambda field: F.struct(field.alias("field")))
    rows = fields.select(muted(reasons, settings(mute=("hour",))).alias("by")).collect()
    assert [row["by"] for row in rows] == ["muted: hour", None, None]


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
