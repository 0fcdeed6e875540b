"""Scoring units that no other job has made, on a lake that has little else."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import Lines, run
from jobs.unit_lakes import (
    TABLE,
    context_of,
    flags_in,
    give_status,
    lake_of,
    rows,
    settings_in,
    with_alerts,
    write_units,
)
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from sequence_files import START

from habitus.alert_settings import RuleSettings
from habitus.config import Settings
from habitus.domain.scoring import NOTES
from habitus.domain.vocabulary import RARE
from habitus.jobs import train
from habitus.jobs.frame import JobContext

pytestmark = pytest.mark.jobs

UNITS, TESTED = 800, 200
_, ALL_UNKNOWN, _ = NOTES
CHOICE = ("detectors=[markov, isolation_forest]", "alerts.detector=markov")


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> JobContext:
    """A lake whose units of the last two of eight days are to be scored."""
    folder: Path = tmp_path_factory.mktemp("lake")
    context = lake_of(spark, folder, UNITS, *CHOICE)
    train.run(context)
    return context


def test_events_of_actions_that_training_did_not_know_are_counted_once_and_told_of(
    spark: SparkSession, trained: JobContext
) -> None:
    unknown = F.transform("action", lambda token: F.lit(RARE))
    is_last = F.substring("unit_id", 2, 9).cast("int") >= UNITS - TESTED // 4
    action = F.when(is_last, unknown).otherwise(F.col("action"))
    changed = rows(spark, UNITS).withColumn("action", action)
    trained.lake.overwrite(TABLE, changed)
    strange = changed.where(is_last).agg(F.sum("n_events")).first()
    assert strange is not None

    first, second = run(spark, "score", trained.settings), run(spark, "score", trained.settings)

    # Two models score each unit.
    assert first.rows_in["units to score"] == TESTED
    assert first.rows_in["events of unknown actions"] == strange[0]
    assert isinstance(first.reporter, Lines)
    assert isinstance(second.reporter, Lines)
    told = "of the events to score have an action that training did not know"
    assert any(told in line for line in first.reporter.lines)
    assert second.rows_in["units to score"] == second.rows_in["events of unknown actions"] == 0
    # Neither model can score them, and both say so.
    scores = pl.read_delta(f"{trained.lake.root}/scores")
    noted = scores.filter(pl.col("note") == ALL_UNKNOWN)
    assert noted.height == 2 * (TESTED // 4) == scores["note"].count()
    assert noted.select("score", "p_value").unique().rows() == [(0, 1)]
    assert first.rows_out[f"scores that mean nothing: {ALL_UNKNOWN}"] == noted.height
    assert f"{noted.height} of the new scores mean nothing: {ALL_UNKNOWN}" in first.reporter.lines
    assert not any("mean nothing" in name for name in second.rows_out)
    assert not any(told in line for line in second.reporter.lines)


ONE_DETECTOR = ("detectors=[markov]", "alerts.detector=markov")


@pytest.fixture(scope="module")
def unscored(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, trained: JobContext
) -> Path:
    """A lake with the trained models, all units, and nothing scored yet."""
    folder: Path = tmp_path_factory.mktemp("unscored")
    for name in ("models", "vocabularies"):
        shutil.copytree(f"{trained.lake.root}/{name}", folder / name)
    write_units(spark, settings_in(folder, *ONE_DETECTOR), UNITS)
    return folder


def fresh_lake(unscored: Path, folder: Path, **alerts: object) -> Settings:
    """Settings of a copy of that lake."""
    shutil.copytree(unscored, folder / "lake")
    return with_alerts(settings_in(folder / "lake", *ONE_DETECTOR), **alerts)


def until_day_7(settings: Settings) -> Settings:
    first_day = settings.score.model_copy(update={"until": START + timedelta(days=7)})
    return settings.model_copy(update={"score": first_day})


@pytest.fixture
def metastore(spark: SparkSession, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Settings of a lake whose tables a metastore names."""
    spark.sql(f"CREATE SCHEMA scored LOCATION '{tmp_path}'")
    yield "lake.catalog=spark_catalog", "lake.schema=scored"
    spark.sql("DROP SCHEMA scored CASCADE")


def test_a_rule_sees_the_users_earlier_flags_whichever_run_found_them(
    spark: SparkSession, tmp_path: Path, trained: JobContext, metastore: tuple[str, str]
) -> None:
    again = RuleSettings(when="flags_before >= 1", decision="restrict", why="again")
    often = {"rules": (again,), "false_positive_rate": 0.5, "budget_per_day": TESTED}
    for name in ("models", "vocabularies"):
        shutil.copytree(f"{trained.lake.root}/{name}", tmp_path / name)
    settings = with_alerts(settings_in(tmp_path, *ONE_DETECTOR, *metastore), **often)
    write_units(spark, settings, UNITS)

    run(spark, "score", until_day_7(settings))
    run(spark, "score", settings)

    assert spark.table("scored.scores").count() == TESTED
    flags = flags_in(settings)
    assert flags["run_id"].n_unique() == 2
    of_users = flags.group_by("user_id").agg("decided_by", "run_id")
    assert of_users["run_id"].list.n_unique().max() == 2
    for first, *later in of_users["decided_by"].to_list():
        assert first.startswith("severity")
        assert set(later) <= {"again"}
    assert run(spark, "decide", settings).rows_out["anomalies"] == 0


def test_what_reviews_mute_leaves_its_place_and_rules_see_reasons_and_reviews(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    often = {"false_positive_rate": 0.5, "budget_per_day": 12}
    settings = fresh_lake(unscored, tmp_path, **often)
    run(spark, "score", until_day_7(settings))
    first = flags_in(settings)
    (field, count) = first["field"].value_counts(sort=True).row(0)
    others = sorted(set(first["field"]) - {field})
    looked_at = first.filter(pl.col("field") == field)
    give_status(spark, settings, "dismissed", looked_at["unit_id"].to_list())
    rules = (
        RuleSettings(when="dismissed_before >= 1", decision="allow", why="it was nothing"),
        RuleSettings(when=f"first_reason = '{others[0]}'", decision="freeze", why="by its reason"),
    )
    settings = with_alerts(settings, mute_after=count, rules=rules)

    run(spark, "score", settings)
    flags = flags_in(settings)
    again, replayed = run(spark, "score", settings), run(spark, "decide", settings)

    said = f"muted: {field}, first reason of {count} dismissed flags, no confirmed one"
    of_field = flags.filter(pl.col("field") == field)
    judged = pl.col("unit_id").is_in(looked_at["unit_id"].to_list())
    muted = of_field.filter(~judged)
    assert muted.height > 0
    assert set(muted["suppressed_by"]) == {said}
    # What was looked at already stays shown.
    assert of_field.filter(judged)["suppressed_by"].null_count() == looked_at.height
    assert flags["suppressed_by"].drop_nulls().unique().to_list() == [said]
    days = pl.read_delta(f"{settings.lake.root}/flag_days").sort("event_date")
    full = days.filter(pl.col("rare") >= 40)
    assert full.height > 0
    assert set(full["flagged"]) == {12}
    assert (
        full["suppressed"].sum()
        >= muted.filter(pl.col("event_date").is_in(full["event_date"].to_list())).height
    )
    for flag in flags.iter_rows(named=True):
        before = looked_at.filter(pl.col("event_time") < flag["event_time"])
        if flag["user_id"] in set(before["user_id"]):
            assert flag["decision"] == "allow"
        elif flag["field"] == others[0]:
            assert flag["decision"] == "freeze"
        else:
            assert flag["decided_by"].startswith("severity")
    assert "it was nothing" in set(flags["decided_by"])
    assert again.rows_out["anomalies"] == again.rows_out["flag_days"] == 0
    assert replayed.rows_out["anomalies"] == 0


def test_only_a_flag_that_is_shown_keeps_others_of_its_user_quiet(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    # A user has a unit every twelve hours.
    often = {"false_positive_rate": 0.5, "budget_per_day": 15, "cool_down": timedelta(hours=30)}
    settings = fresh_lake(unscored, tmp_path, **often)

    run(spark, "score", settings)
    replayed = run(spark, "decide", settings)

    order = {"by": ["p_value", "score", "unit_id"], "descending": [False, True, False]}
    flags = flags_in(settings).sort(**order).with_row_index("place")
    assert set(flags["suppressed_by"]) == {None, "cool-down of 1 day, 6:00:00"}
    shown = flags.filter(pl.col("suppressed_by").is_null())
    for flag in flags.iter_rows(named=True):
        begins = flag["event_time"]
        shortly_before = (begins - timedelta(hours=30), begins)
        keeps_quiet = shown.filter(
            pl.col("user_id") == flag["user_id"],
            pl.col("place") < flag["place"],
            pl.col("event_time").is_between(*shortly_before, closed="left"),
        )
        assert (keeps_quiet.height > 0) == (flag["suppressed_by"] is not None)
    days = pl.read_delta(f"{settings.lake.root}/flag_days")
    assert set(days.filter(pl.col("cut") > 0)["flagged"]) == {15}
    assert replayed.rows_out["anomalies"] == 0


def test_a_flag_that_an_earlier_run_shows_keeps_those_of_a_later_one_quiet(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    often = {"false_positive_rate": 0.5, "budget_per_day": TESTED, "cool_down": timedelta(hours=30)}
    settings = fresh_lake(unscored, tmp_path, **often)
    first_day = until_day_7(settings)
    second_day = settings.score.model_copy(update={"from_time": first_day.score.until})

    run(spark, "score", first_day)
    run(spark, "score", settings.model_copy(update={"score": second_day}))

    flags = flags_in(settings)
    assert flags["run_id"].n_unique() == 2
    shown = flags.filter(pl.col("suppressed_by").is_null())
    before = pl.col("event_time") < first_day.score.until
    kept_quiet = flags.filter(~before, pl.col("suppressed_by").is_not_null())
    # A user has a unit every twelve hours: some are kept quiet by what the first run shows alone.
    late = set(shown.filter(~before)["user_id"])
    assert len(set(kept_quiet["user_id"]) - late) > 0
    assert run(spark, "decide", settings).rows_out["anomalies"] == 0


def test_the_flags_of_a_day_do_not_depend_on_how_often_it_was_scored(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    often = {"false_positive_rate": 0.5, "budget_per_day": 6}
    once, twice = (fresh_lake(unscored, tmp_path / name, **often) for name in ("1", "2"))
    noon = twice.score.model_copy(update={"until": START + timedelta(days=6, hours=12)})

    run(spark, "score", once)
    run(spark, "score", twice.model_copy(update={"score": noon}))
    early = flags_in(twice)
    run(spark, "score", twice)

    flags = flags_in(twice)
    shown = flags.filter(pl.col("suppressed_by").is_null())
    assert shown["unit_id"].to_list() == flags_in(once)["unit_id"].to_list()
    displaced = flags.filter(pl.col("suppressed_by").is_not_null())
    assert displaced.height > 0
    assert set(displaced["unit_id"]) < set(early["unit_id"])
    assert set(displaced["suppressed_by"]) == {
        "scored again: it is not among the strangest any more"
    }
    days = [pl.read_delta(f"{one.lake.root}/flag_days").sort("event_date") for one in (once, twice)]
    counted = ["event_date", "units", "rare", "suppressed", "flagged", "cut"]
    assert days[0].select(counted).equals(days[1].select(counted))
    assert run(spark, "decide", twice).rows_out["anomalies"] == 0


def test_what_is_muted_leaves_its_place_however_many_are(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    settings = fresh_lake(unscored, tmp_path, false_positive_rate=0.5, budget_per_day=TESTED)
    run(spark, "score", settings)
    every = flags_in(settings).sort("p_value")
    rarest_reason = every.group_by("field").len().sort("len", "field")["field"][0]
    others = sorted(set(every["field"]) - {rarest_reason})

    run(spark, "score", with_alerts(settings, mute=others, budget_per_day=1))

    shown = flags_in(settings).filter(pl.col("suppressed_by").is_null())
    assert set(shown["field"]) == {rarest_reason}
    days = every.filter(pl.col("field") == rarest_reason)["event_date"].n_unique()
    assert shown.height == days


def test_a_flag_goes_when_its_unit_is_scored_anew_and_strange_no_more(
    spark: SparkSession, tmp_path: Path, unscored: Path
) -> None:
    settings = fresh_lake(unscored, tmp_path, budget_per_day=4, false_positive_rate=0.2)
    run(spark, "score", settings)
    before = flags_in(settings)
    calmed, looked_at, gone, *_ = before["unit_id"].to_list()
    give_status(spark, settings, "confirmed", [looked_at])
    scores = pl.read_delta(f"{settings.lake.root}/scores")
    dull = scores.sort("p_value")["unit_id"][-1]
    units, ours = rows(spark, UNITS), ["unit_id", "user_id", "started_at", "ended_at", "event_date"]
    changes = F.col("unit_id").isin(calmed, looked_at)
    as_dull = units.where(F.col("unit_id") == dull).drop(*ours, "fingerprint")
    changed = units.where(changes).select(*ours).crossJoin(as_dull)
    rest = units.where(~changes & (F.col("unit_id") != gone))
    context_of(spark, settings).lake.overwrite(
        TABLE, rest.unionByName(changed.withColumn("fingerprint", F.lit(0).cast("bigint")))
    )

    run(spark, "score", settings)
    after = flags_in(settings)
    again, replayed = run(spark, "score", settings), run(spark, "decide", settings)

    said = dict(zip(after["unit_id"], after["suppressed_by"], strict=True))
    assert said[calmed] == "scored again: it is not among the strangest any more"
    assert said[gone] == "scored again: its unit is no more"
    assert said[looked_at] is None
    old = pl.col("unit_id").is_in([calmed, gone, looked_at])
    kept = ["unit_id", "p_value", "run_id", "scored_at"]
    assert after.filter(old).select(kept).equals(before.filter(old).select(kept))
    # Others take the places that became free.
    shown = after.filter(pl.col("suppressed_by").is_null() & ~old)
    assert shown.height >= before.height - 1
    assert again.rows_out["anomalies"] == replayed.rows_out["anomalies"] == 0
