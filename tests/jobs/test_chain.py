"""The whole chain on a small simulated shop: what adds up, and what a second run changes."""

import re
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from delta.tables import DeltaTable
from jobs.conftest import SmallLake, run, run_chain, small_settings
from jobs.tables import contents, runs
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.alert_settings import CaseSettings, RuleSettings, SuppressSettings
from habitus.config import EnsembleSettings, Settings
from habitus.domain.vocabulary import RARE
from habitus.jobs import decide
from habitus.jobs.catalogue import CHAIN
from habitus.jobs.frame import JobContext, Silent
from habitus.jobs.reviewing import reviewed
from habitus.jobs.shown import shown_flags
from habitus.tables import ANOMALIES

pytestmark = pytest.mark.jobs


def copied(chain: SmallLake, folder: Path) -> Settings:
    """Settings of a copy of the lake, which a test may change."""
    shutil.copytree(chain.settings.lake.root, folder / "lake")
    return small_settings(folder)


def test_no_row_is_lost(chain: SmallLake) -> None:
    ingest = chain.contexts["ingest"]

    read = ingest.rows_in["source"]
    assert read == sum(
        ingest.rows_out[name] for name in ("events", "events_rejected", "duplicates")
    )
    assert min(ingest.rows_out.values()) > 0
    sessions = pl.read_delta(f"{chain.settings.lake.root}/sessions")
    assert sessions["n_events"].sum() == ingest.rows_out["events"]


def test_every_job_leaves_its_run(chain: SmallLake) -> None:
    rows = {row["job"]: row for row in runs(chain.settings.lake.root)}

    for job, context in chain.contexts.items():
        assert rows[job]["status"] == "done"
        assert rows[job]["ended_at"] > rows[job]["started_at"]
        assert dict(rows[job]["inputs"]) == context.inputs
        assert dict(rows[job]["rows_out"]) == context.rows_out


def test_every_unit_of_the_test_period_is_scored_by_every_detector(chain: SmallLake) -> None:
    root = chain.settings.lake.root
    scores, units = pl.read_delta(f"{root}/scores"), pl.read_delta(f"{root}/sequences")

    models = chain.contexts["score"].artefacts.current()
    vocabulary = chain.contexts["score"].artefacts.read_vocabulary(units["vocabulary_id"][0])
    tested = units.filter(pl.col("ended_at") >= vocabulary.split.validation_until)
    assert set(models) == set(chain.settings.detectors)
    for model_id in models.values():
        scored = scores.filter(pl.col("model_id") == model_id)
        assert sorted(scored["unit_id"]) == sorted(tested["unit_id"])
    unknown = tested["action"].list.count_matches(RARE).sum()
    counted = chain.contexts["score"].rows_in
    assert counted["events of unknown actions"] == unknown
    # Each unit is laid out once, and its end is a position too.
    padding = counted["positions of them that are padding"]
    positions = counted["positions of units scored by length"] - padding
    assert positions == tested["n_events"].sum() + tested["closed"].sum()
    # How much of it there is depends on how many units a task has to lay beside each other.
    assert padding > 0


def test_flags_keep_to_the_budget_and_say_why(chain: SmallLake) -> None:
    flags = pl.read_delta(f"{chain.settings.lake.root}/anomalies")

    alerts = chain.settings.alerts
    assert flags.height > 0
    assert flags.group_by("event_date").len()["len"].max() <= alerts.budget_per_day
    assert flags["p_value"].max() <= alerts.false_positive_rate
    for flag in flags.iter_rows(named=True):
        assert flag["summary"].endswith(".")
        assert [reason["rank"] for reason in flag["reasons"]] == list(
            range(1, len(flag["reasons"]) + 1)
        )
        for reason in flag["reasons"]:
            assert (reason["event_id"] is None) == (reason["event_index"] is None)
        assert flag["status"] == "open"


def test_what_the_budget_cut_is_a_row_of_each_day(chain: SmallLake) -> None:
    root, alerts = chain.settings.lake.root, chain.settings.alerts
    days = pl.read_delta(f"{root}/flag_days").sort("event_date")

    mine = pl.col("model_id") == days["model_id"][0]
    rare = (pl.col("p_value") <= alerts.false_positive_rate).sum()
    scores = pl.read_delta(f"{root}/scores").filter(mine).group_by("event_date")
    counts = scores.agg(units=pl.len(), rare=rare).sort("event_date")
    flags = pl.read_delta(f"{root}/anomalies").filter(mine)["event_date"].value_counts()
    flagged = counts.join(flags, "event_date", "left")["count"].fill_null(0)
    assert days["units"].to_list() == counts["units"].to_list()
    assert days["rare"].to_list() == counts["rare"].to_list()
    assert days["flagged"].to_list() == flagged.to_list()
    assert days["cut"].to_list() == (counts["rare"].cast(int) - flagged.cast(int)).to_list()
    assert days["cut"].sum() == chain.contexts["score"].rows_out["cut by budget"] > 0
    assert set(days["budget_per_day"]) == {alerts.budget_per_day}


def test_a_second_run_changes_nothing_nor_what_an_analyst_made_of_a_flag(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    anomalies = DeltaTable.forPath(spark, f"{settings.lake.root}/anomalies")
    anomalies.update(set={"status": F.lit("confirmed")})
    before = contents(settings.lake.root)

    second = run_chain(spark, settings, chain.raw)

    assert contents(settings.lake.root) == before
    assert second["ingest"].rows_out == {
        "events": 0,
        "events_rejected": 0,
        "labels": 0,
        "duplicates": chain.contexts["ingest"].rows_in["source"],
    }
    assert second["score"].rows_in["units to score"] == 0
    assert second["score"].rows_out["scores"] == 0
    assert second["score"].rows_out["anomalies"] == 0
    assert second["score"].rows_out["flag_days"] == 0


def test_only_what_is_new_or_changed_is_scored_and_what_is_gone_goes(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    known = pl.read_delta(f"{settings.lake.root}/scores")
    changed, gone, unscored = sorted(set(known["unit_id"]))[:3]
    units = DeltaTable.forPath(spark, f"{settings.lake.root}/sequences")
    units.delete(F.col("unit_id") == gone)
    another = {"amounts": F.transform("amounts", lambda a: a + 1), "fingerprint": F.lit(0)}
    units.update(F.col("unit_id") == changed, another)
    model_id = known["model_id"][0]
    scores = DeltaTable.forPath(spark, f"{settings.lake.root}/scores")
    scores.delete((F.col("unit_id") == unscored) & (F.col("model_id") == model_id))

    context = run(spark, "score", settings)

    assert context.rows_in["units to score"] == 2
    after = pl.read_delta(f"{settings.lake.root}/scores")
    assert len(after) == len(known) - len(settings.detectors)
    assert gone not in set(after["unit_id"])
    same = ["unit_id", "model_id", "score", "p_value", "fingerprint"]
    rest = pl.col("unit_id").is_in([gone, changed]).not_()
    assert set(after.filter(rest).select(same).rows()) == set(
        known.filter(rest).select(same).rows()
    )
    again = after.filter(pl.col("scored_at") == context.started_at)
    assert set(again["unit_id"]) == {changed, unscored}


def test_flags_that_share_a_device_are_one_case_whose_handling_stays_and_teaches(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    root = settings.lake.root
    flags = pl.read_delta(f"{root}/anomalies").sort("event_time")
    one, other = flags.unique("user_id", maintain_order=True)["unit_id"][:2]
    sessions = pl.read_delta(f"{root}/sequences").filter(pl.col("unit_id").is_in([one, other]))
    event_ids = sessions["event_ids"].explode().to_list()
    events = DeltaTable.forPath(spark, f"{root}/events")
    events.update(F.col("event_id").isin(event_ids), {"device_id": F.lit("shared")})
    settings = settings.model_copy(
        update={"cases": CaseSettings(window=timedelta(days=99), least_share=1.0)}
    )

    run(spark, "cases", settings)
    cases = pl.read_delta(f"{root}/cases")
    DeltaTable.forPath(spark, f"{root}/cases").update(set={"status": F.lit("confirmed")})
    again = run(spark, "cases", settings)

    assert sorted(cases["unit_ids"].explode()) == sorted(flags["unit_id"])
    assert cases["n_flags"].sum() == len(flags)
    ring = cases.filter(pl.col("unit_ids").list.contains(one)).row(0, named=True)
    assert other in ring["unit_ids"]
    assert ring["kind"] == "ring"
    assert {"kind": "device", "value": "shared", "users": 2, "flagged_users": 2} in ring["shared"]
    assert again.rows_out["cases"] == 0
    assert set(pl.read_delta(f"{root}/cases")["status"]) == {"confirmed"}

    # All cases are confirmed, but for one flag that was looked at by itself.
    alone = DeltaTable.forPath(spark, f"{root}/anomalies")
    alone.update(F.col("unit_id") == one, {"status": F.lit("dismissed")})
    first, second = run(spark, "feedback", settings), run(spark, "feedback", settings)
    labels = pl.read_delta(f"{root}/labels").filter(pl.col("source") == "analyst")
    assert dict(zip(labels["unit_id"], labels["label"], strict=True)) == {
        unit_id: unit_id != one for unit_id in flags["unit_id"]
    }
    assert (first.rows_out["labels"], second.rows_out["labels"]) == (len(flags), 0)
    # Its own verdict comes before that of its case, in labels and in the report.
    shown = shown_flags(second, flags["model_id"][0], second.read(ANOMALIES)).collect()
    assert {row["unit_id"]: row["verdict"] for row in shown} == {
        unit_id: "dismissed" if unit_id == one else "anomalous" for unit_id in flags["unit_id"]
    }
    found = reviewed(first, flags["model_id"][0])[-1]
    assert (found.flags, found.reviewed, found.confirmed) == (
        len(flags),
        len(flags),
        len(flags) - 1,
    )

    # A flag that came after the verdict on its case makes one of its own, still to be looked at.
    without = {"unit_ids": F.array_remove("unit_ids", other), "n_flags": F.col("n_flags") - 1}
    of_cases = DeltaTable.forPath(spark, f"{root}/cases")
    of_cases.update(F.array_contains("unit_ids", other), without)
    run(spark, "cases", settings)
    later = pl.read_delta(f"{root}/cases").filter(pl.col("unit_ids").list.contains(other))
    assert later.select("unit_ids", "status").rows() == [([other], "open")]


def test_rules_of_today_are_applied_to_the_flags_that_are_there(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    before = pl.read_delta(f"{settings.lake.root}/anomalies").sort("unit_id")
    user = before["user_id"][0]
    rules = {
        "rules": (
            RuleSettings(when="n_events >= 1 and flags_before = 0", decision="freeze", why="new"),
        ),
        "suppress": (SuppressSettings(when=f"user_id = '{user}'", why="a friend"),),
    }
    settings = settings.model_copy(update={"alerts": settings.alerts.model_copy(update=rules)})

    told = list(decide.preview(JobContext("decide", settings, spark, Silent())))
    run(spark, "decide", settings)
    after = pl.read_delta(f"{settings.lake.root}/anomalies").sort("unit_id")
    again = run(spark, "decide", settings)

    changed = (after["decision"] != before["decision"]) | after["suppressed_by"].is_not_null()
    assert told[0] == f"  of {len(before)} flags {changed.sum()} change"
    assert any("to freeze (new)" in line for line in told[1:])
    hidden = after.filter(pl.col("suppressed_by") == "a friend")
    assert set(hidden["user_id"]) == {user}
    first = after.group_by("user_id").agg(pl.col("decision").sort_by("event_time").first())
    assert set(first["decision"]) == {"freeze"}
    rest = ["unit_id", "score", "summary", "status", "run_id", "scored_at"]
    assert after.select(rest).equals(before.select(rest))
    assert again.rows_out["anomalies"] == 0


def test_a_model_named_in_the_settings_flags_and_a_challenger_scores_beside_it(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    settings = settings.model_copy(
        update={
            "seed": settings.seed + 1,
            "detectors": ("markov",),
            "alerts": settings.alerts.model_copy(update={"detector": "markov"}),
        }
    )
    old = chain.contexts["train"].artefacts.current()["markov"]
    new = run(spark, "train", settings).artefacts.current()["markov"]
    named = {"models": {"markov": old}, "challengers": (new,)}
    pinned = settings.model_copy(update={"score": settings.score.model_copy(update=named)})

    run(spark, "score", pinned)
    root = settings.lake.root
    scores = pl.read_delta(f"{root}/scores")
    of = {one: scores.filter(pl.col("model_id") == one).sort("unit_id") for one in (old, new)}
    assert old != new
    assert of[old]["unit_id"].equals(of[new]["unit_id"])
    flagging = set(pl.read_delta(f"{root}/anomalies")["model_id"])
    assert old in flagging
    assert new not in flagging

    # Without a name it is the newest again, and nothing is to be scored anew.
    assert run(spark, "score", settings).rows_in["units to score"] == 0
    assert new in set(pl.read_delta(f"{root}/anomalies")["model_id"])


def test_an_ensemble_scores_flags_and_is_compared_beside_its_members(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    choice = {
        "detectors": ("markov", "isolation_forest", "ensemble"),
        "alerts": settings.alerts.model_copy(update={"detector": "ensemble"}),
        "ensemble": EnsembleSettings(members=("markov", "isolation_forest")),
    }
    settings = settings.model_copy(update=choice)
    members = chain.contexts["train"].artefacts.current()

    for job in ("train", "score", "evaluate"):
        context = run(spark, job, settings)

    current = context.artefacts.current()
    assert all(current[name] == members[name] for name in settings.ensemble.members)
    mine = pl.col("model_id") == current["ensemble"]
    scores = pl.read_delta(f"{settings.lake.root}/scores")
    tested = scores.filter(pl.col("model_id") == current["markov"])["unit_id"]
    assert sorted(scores.filter(mine)["unit_id"]) == sorted(tested)
    flags = pl.read_delta(f"{settings.lake.root}/anomalies").filter(mine)
    assert flags.height > 0
    assert all(len(reasons) > 0 for reasons in flags["reasons"])
    evaluations = pl.read_delta(f"{settings.lake.root}/evaluations")
    assert set(evaluations.filter(mine)["detector"]) == {"ensemble"}
    # Of two members, one is left without the other: it ranks as that one does by itself.
    figures = {
        detector: dict(zip(of_all["measure"], of_all["value"], strict=True))
        for (detector,), of_all in evaluations.filter(kind="all").group_by("detector")
    }
    for member, other in (settings.ensemble.members, settings.ensemble.members[::-1]):
        less = figures[f"ensemble without {other}"]
        assert less["auc"] == pytest.approx(figures[member]["auc"], abs=0.01)


def test_event_units_go_the_whole_way_each_judged_within_its_segment(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    segments = """segments=[first.channel, "first.attributes['country']", user_count_7d > 0]"""
    split = ("split.train_until=0.4", "split.validation_until=0.85", "split.calibration_share=0.9")
    choice = ("unit=event", "sequences.history=8", "train.epochs=1", segments, *split)
    settings = small_settings(tmp_path, *choice)
    for table in ("events", "labels", "sessions"):
        shutil.copytree(f"{chain.settings.lake.root}/{table}", f"{settings.lake.root}/{table}")

    for job in (*CHAIN[CHAIN.index("features") :], "embed"):
        context = run(spark, job, settings)

    scores = pl.read_delta(f"{settings.lake.root}/scores")
    events = pl.read_delta(f"{settings.lake.root}/events")
    own = scores.join(events, left_on="unit_id", right_on="event_id")
    apart = own.filter(pl.col("segment") != "all")
    assert set(apart["channel"]) >= {"app", "web"}
    assert (apart["segment"].str.split(" / ").list.get(0) == apart["channel"]).all()
    card = context.artefacts.read(context.artefacts.current()["markov"])["card.md"].decode()
    assert re.search(
        r"p-values of their own: (app|web) \([\d,]+\).*; with fewer than 500 units", card
    )
    assert set(scores["unit_kind"]) == {"event"}
    assert set(scores["unit_id"]) <= set(events["event_id"])
    vectors = pl.read_delta(f"{settings.lake.root}/embeddings")
    assert sorted(vectors["unit_id"]) == sorted(events["event_id"])
    span = events["event_time"].max() - scores["event_time"].min()
    assert span > timedelta(days=1)
