"""The report of a small lake: the page on disk, and what the run shows at its end."""

import re
from datetime import date
from pathlib import Path
from typing import cast

import polars as pl
import pytest
from delta.tables import DeltaTable
from jobs.conftest import Lines, SmallLake, copied, run
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.errors import InputError
from habitus.jobs import queue
from habitus.jobs.frame import JobContext
from habitus.jobs.judging import flagging_model
from habitus.jobs.precedents import precedents
from habitus.jobs.shown import shown_flags
from habitus.jobs.telling import told
from habitus.tables import ANOMALIES

pytestmark = pytest.mark.jobs


def test_the_page_tells_of_the_strangest_users(chain: SmallLake, small_lake: Path) -> None:
    page = (small_lake / "reports" / "report.html").read_text()

    flags = pl.read_delta(str(small_lake / "anomalies")).filter(
        pl.col("model_id") == flagging_model(chain.contexts["score"])
    )
    cases = pl.read_delta(str(small_lake / "cases"))
    first = cases.sort(pl.col("ended_at").dt.date(), "p_value", descending=[True, False])
    of_first = flags.filter(pl.col("unit_id").is_in(first["unit_ids"][0].to_list()))
    strangest = of_first.sort("p_value", "score", descending=[False, True]).row(0, named=True)
    stories = page.split('<section class="story">')[1:]
    assert f'data-user="{strangest["user_id"]}"' in stories[0]
    assert len(stories) == cases["n_flags"].clip(upper_bound=3).sum()
    assert page.count('<details class="case card"') == len(cases)
    assert page.count('class="ring"') == cases.filter(pl.col("kind") == "ring").height
    assert page.count("The user's habit") == len(stories)
    for case in stories:
        reasons = re.findall(r": <b>.*?</b>", case)
        assert 0 < len(reasons) <= chain.settings.alerts.reasons
        assert '<ol class="events">' in case


def test_of_more_cases_and_flags_than_a_page_holds_the_last_and_strangest_are_on_it(
    chain: SmallLake, small_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = chain.contexts["report"]
    model_id = flagging_model(context)
    of_model = context.read(ANOMALIES).where(F.col("model_id") == model_id)
    flags = shown_flags(context, model_id, of_model)
    monkeypatch.setattr(queue, "_CASES", 2)
    monkeypatch.setattr(queue, "_FLAGS", 3)
    monkeypatch.setattr(queue, "_FLAGS_OF_CASE", 1)

    bounded = queue.queue(context, model_id, flags)

    shown = pl.read_delta(str(small_lake / "anomalies")).filter(
        pl.col("model_id") == model_id,
        pl.col("suppressed_by").is_null() & (pl.col("decision") != "allow"),
    )
    last_first = {"by": ["event_date", "p_value"], "descending": [True, False]}
    last = shown.sort(**last_first).head(3)
    assert [flag.p_value for flag in bounded.flags] == last["p_value"].to_list()
    cases = pl.read_delta(str(small_lake / "cases")).filter(pl.col("model_id") == model_id)
    assert bounded.cases_in_all == len(cases) > 2
    members = cases.explode("unit_ids").join(shown, left_on="unit_ids", right_on="unit_id")
    of_cases = members.group_by("case_id").agg(
        pl.col("event_date").max(), pl.col("p_value").min(), pl.len()
    )
    chosen = of_cases.sort(**last_first).head(2)
    assert [case.case_id for case in bounded.cases] == chosen["case_id"].to_list()
    assert [len(case.flags) for case in bounded.cases] == [1, 1]
    assert [case.flags[0].p_value for case in bounded.cases] == chosen["p_value"].to_list()


def test_a_unit_of_a_time_to_come_does_not_make_the_flags_long_past(
    spark: SparkSession, tmp_path: Path, chain: SmallLake, small_lake: Path
) -> None:
    settings = copied(chain, tmp_path)
    scores = DeltaTable.forPath(spark, f"{settings.lake.root}/scores")
    one = pl.read_delta(str(small_lake / "scores"))["unit_id"][0]
    scores.update(F.col("unit_id") == one, {"event_date": F.lit(date(2090, 1, 1))})

    run(spark, "report", settings)

    pages = [Path(lake, "reports", "report.html") for lake in (small_lake, settings.lake.root)]
    before, after = (len(page.read_text().split("data-user=")) for page in pages)
    assert after == before > 1


def test_the_page_counts_what_the_tables_hold(small_lake: Path) -> None:
    page = (small_lake / "reports" / "report.html").read_text()

    for table in ("events", "sessions", "scores"):
        rows = pl.scan_delta(str(small_lake / table)).select(pl.len()).collect().item()
        assert f"<code>{table}</code> {rows:,}" in page


def test_the_run_ends_with_the_strangest_the_comparison_and_where_to_look(
    chain: SmallLake,
) -> None:
    reporter = cast(Lines, chain.contexts["report"].reporter)
    shown = "\n".join(reporter.lines)

    for text in ("strangest sessions", "Recall at the daily budget", "Rows in and out"):
        assert text in shown
    assert f"{chain.settings.lake.root}/reports/report.html" in shown
    for detector in chain.settings.detectors:
        assert detector.replace("_", " ") in shown


def test_units_in_words_that_a_model_does_not_know_are_not_told_by_it(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    units = DeltaTable.forPath(spark, f"{settings.lake.root}/sequences")
    units.update(set={"vocabulary_id": F.lit("another")})
    context = JobContext("report", settings, spark, Lines())
    model_id, unit_ids = flagging_model(context), ["s-1"]

    with pytest.raises(InputError, match="rows of the vocabulary another"):
        told(context, model_id, unit_ids)
    assert precedents(context, model_id, unit_ids) == {}
