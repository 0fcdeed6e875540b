"""The whole chain on a small simulated shop: what adds up, and what a second run changes."""

import re
import shutil
from datetime import timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest
from delta.tables import DeltaTable
from jobs.conftest import SHOP, SMALL, SmallLake, copied, run, run_as_called, small_settings
from jobs.tables import contents, runs
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.cli.main import main
from habitus.domain.vocabulary import RARE
from habitus.jobs.catalogue import CHAIN
from habitus.jobs.plan import declared_tables

pytestmark = pytest.mark.jobs


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


def test_only_sessions_and_features_need_readers_that_know_deletion_vectors(
    chain: SmallLake,
) -> None:
    context = chain.contexts["report"]
    there = [
        name
        for name, table in declared_tables(chain.settings).items()
        if context.lake.exists(table)
    ]
    tables = [DeltaTable.forPath(context.spark, f"{context.lake.root}/{name}") for name in there]
    marked = {
        name
        for name, table in zip(there, tables, strict=True)
        if "deletionVectors" in table.detail().collect()[0]["tableFeatures"]
    }

    assert marked == {"sessions", "features"}


def test_each_training_worker_has_four_files_of_sequences(chain: SmallLake) -> None:
    written = deltalake.DeltaTable(f"{chain.settings.lake.root}/sequences").get_add_actions()

    assert len(written) == 4 * chain.settings.train.workers


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
    assert flags["reasons"].list.len().sum() > 0
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

    # All but the report, which writes no table.
    given = {"source": SHOP, "input": chain.raw}
    second = {job: run(spark, job, settings, **given) for job in CHAIN[: CHAIN.index("report")]}

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


def test_run_goes_on_from_a_job_to_the_report(
    tmp_path: Path, chain: SmallLake, capfd: pytest.CaptureFixture[str]
) -> None:
    root = Path(copied(chain, tmp_path).lake.root)
    shutil.rmtree(root / "reports")
    before = len(runs(root))
    settings = [f"--set={setting}" for setting in (*SMALL, f"lake.root={root}")]

    with pytest.raises(SystemExit) as ended:
        main(["run", "--from", "cases", "--source", SHOP, "--input", chain.raw, *settings])

    shown = capfd.readouterr().out
    assert not ended.value.code
    jobs = CHAIN[CHAIN.index("cases") :]
    headings = re.findall(r"^\[(\d)/(\d)\] (\w+): ", shown, re.MULTILINE)
    assert headings == [(str(n), str(len(jobs)), job) for n, job in enumerate(jobs, 1)]
    assert "Recall at the daily budget" in shown
    assert (root / "reports" / "report.html").exists()
    new = sorted(runs(root), key=lambda row: row["started_at"])[before:]
    assert [(row["job"], row["status"]) for row in new] == [(job, "done") for job in jobs]


def test_cards_show_how_their_models_compare(chain: SmallLake) -> None:
    artefacts = chain.contexts["evaluate"].artefacts
    for detector, model_id in artefacts.current().items():
        card = artefacts.read(model_id)["card.md"].decode()
        assert card.startswith(f"# {model_id}\n")
        before, _, compared = card.partition("\n## The detectors compared on the test period\n")
        assert "## Settings" in before
        assert "| all |" in compared
        assert detector in compared


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
        context = run_as_called(spark, job, settings)

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
