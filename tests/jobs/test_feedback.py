"""Labels from files and tables, and what they make of flags."""

import re
from pathlib import Path

import polars as pl
import pytest
from jobs.conftest import Lines, SmallLake, copied, run
from jobs.unit_lakes import (
    TABLE,
    context_of,
    flags_in,
    flags_of,
    give_status,
    lake_of,
    rows,
    settings_in,
    with_alerts,
)
from jobs.viewed_rows import case_row
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from habitus.errors import InputError, SettingsError
from habitus.jobs.reviewing import judged_flags, mutes, reviewed
from habitus.tables import ANOMALIES, CASES

pytestmark = pytest.mark.jobs

MAPPING = """\
name: bank
label_file:
  format: {format}
  options: {{header: "true"}}
  columns:
    unit_kind: kind
    unit_id: id
    label: cast(fraud as boolean)
    known_at: to_timestamp(ts)
"""
FILE = """\
kind,id,fraud,ts
session,u0,true,2026-01-20
session,u1,false,2026-01-20
session,u1,false,2026-01-20
event,of u2,true,2026-01-20
session,u3,true,2222-01-01
user,user4,true,2026-01-20
visit,u5,true,2026-01-20
session,,true,2026-01-20
"""


def test_labels_of_a_file_or_table_are_counted_and_say_what_flags_turned_out_to_be(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = lake_of(spark, tmp_path / "lake", 8)
    ids = F.array(F.concat(F.lit("of "), "unit_id"), F.lit("e"))
    units = rows(spark, 8).withColumn("event_ids", ids)
    context.lake.overwrite(TABLE, units)
    field = F.when(F.col("unit_id") == "u1", "gap").otherwise("hour")
    reasons = F.transform("reasons", lambda reason: reason.withField("field", field))
    flags = flags_of(units.where("unit_id < 'u6'")).withColumn("reasons", reasons)
    context.lake.append(ANOMALIES, flags)
    alerts = context.settings.alerts.model_copy(update={"mute_after": 1})
    settings = context.settings.model_copy(update={"alerts": alerts})
    (tmp_path / "bank.csv").write_text(FILE)
    given = pl.read_csv(tmp_path / "bank.csv").to_dicts()
    table = str(tmp_path / "bank")
    spark.createDataFrame(given, "kind string, id string, fraud boolean, ts string").write.format(
        "delta"
    ).save(table)
    for name in ("csv", "delta"):
        (tmp_path / f"{name}.yaml").write_text(MAPPING.format(format=name))

    first, second = (
        run(spark, "feedback", settings, source=str(tmp_path / f"{name}.yaml"), input=path)
        for name, path in (("csv", f"{tmp_path}/bank.csv"), ("delta", table))
    )

    assert first.rows_in["source"] == second.rows_in["source"] == 8
    assert first.rows_out == {"labels": 5, "events_rejected": 2, "duplicates": 1}
    assert isinstance(first.reporter, Lines)
    assert "8 rows read = 5 labels + 2 rejected + 1 duplicates" in first.reporter.lines
    # The table says the same, but its rejected rows are written another way.
    assert second.rows_out["labels"] == 0
    labels = pl.read_delta(f"{context.lake.root}/labels")
    assert set(labels["source"]) == {"bank"}
    # What is not known yet, and what is said of a user, is no verdict on a flag.
    found = reviewed(second, "m-1")[-1]
    assert (found.flags, found.reviewed, found.confirmed) == (6, 3, 2)
    # The hour was the first reason of a confirmed flag.
    muting = mutes(second, judged_flags(second))
    said = "muted: gap, first reason of 1 dismissed flags, no confirmed one"
    assert muting.unless_judged == {"gap": said}


def test_statuses_that_are_no_verdict_are_counted_and_perhaps_meant_otherwise(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = context_of(spark, settings_in(tmp_path))
    written = ["Confirmed", "Confirmed", " DISMISSED", "confirm", "Open", "open", "dismissed"]
    written += [*["in review"] * 2, *(f"see ticket {number}" for number in range(31))]
    status = F.element_at(F.lit(written), F.substring("unit_id", 2, 9).cast("int") + 1)
    flags = flags_of(rows(spark, 40)).withColumn("status", status)
    context.lake.append(ANOMALIES, flags)
    cases = [case_row("c0", ["u0"], "Confirmed"), case_row("c1", ["u8"], "in review")]
    context.lake.append(CASES, spark.createDataFrame(cases, CASES.schema()))

    told = run(spark, "feedback", context.settings)

    assert told.rows_out == {"labels": 1}
    assert isinstance(told.reporter, Lines)
    *meant, others = told.reporter.lines[-5:]
    assert meant == [
        "2 flags and 1 case with the status 'Confirmed', which is no verdict; "
        "did you mean 'confirmed'?",
        "1 flag with the status ' DISMISSED', which is no verdict; did you mean 'dismissed'?",
        "1 flag with the status 'Open', which is no verdict; did you mean 'open'?",
        "1 flag with the status 'confirm', which is no verdict; did you mean 'confirmed'?",
    ]
    assert others.startswith("other statuses: 'in review' of 2 flags and 1 case, 'see ticket 0' of")
    assert others.count("see ticket") == 15
    assert others.endswith(" of 1 flag, and more")


def test_a_source_of_labels_needs_its_files(spark: SparkSession, tmp_path: Path) -> None:
    context = lake_of(spark, tmp_path, 8)
    with pytest.raises(SettingsError, match="--source and --input are not both given"):
        run(spark, "feedback", context.settings, source="bank.yaml")


def test_labels_are_brought_in_before_the_detector_that_is_to_flag_is_trained(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = lake_of(spark, tmp_path, 8)
    at = context.started_at
    context.artefacts.promote("markov", "markov-1", job="train", run_id="r", at=at)
    assert context.settings.flagging_detector != "markov"
    context.lake.append(
        ANOMALIES, flags_of(rows(spark, 8)).withColumn("status", F.lit("confirmed"))
    )

    assert run(spark, "feedback", context.settings).rows_out == {"labels": 8}


def test_the_rows_of_a_label_file_that_are_no_labels_are_kept_beside_those_of_events(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "events.csv").write_text("id,ts,customer\ne1,2026-01-01,u1\ne2,2026-01-01,\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.csv").write_text(FILE)
    columns = "event_id: id, event_time: to_timestamp(ts), user_id: customer, action: \"'view'\""
    events = f"format: csv\npath: events.csv\noptions: {{header: 'true'}}\ncolumns: {{{columns}}}\n"
    labels = MAPPING.format(format="csv").replace("options", "path: labels\n  options")
    (tmp_path / "bank.yaml").write_text(labels + events)
    given = {"source": str(tmp_path / "bank.yaml"), "input": str(tmp_path)}
    settings = settings_in(tmp_path / "lake")

    first, again = (run(spark, "ingest", settings, **given) for _ in range(2))

    assert first.rows_out == {"events_rejected": 3, "events": 1, "labels": 5, "duplicates": 0}
    assert again.rows_out == {"events_rejected": 0, "events": 0, "labels": 0, "duplicates": 2}
    assert isinstance(again.reporter, Lines)
    said = "2 rows of the label files are no labels; `events_rejected` says why"
    assert said in again.reporter.lines
    rejected = pl.read_delta(f"{tmp_path}/lake/events_rejected")
    assert rejected.filter(pl.col("raw").str.contains("visit"))["reasons"].to_list() == [
        ["unit_kind_is_known"]
    ]

    # Label files that cannot be read are found before anything is written.
    (tmp_path / "events.csv").write_text("id,ts,customer\ne9,2026-01-01,u1\n")
    (tmp_path / "labels" / "b.csv").write_text("id,kind,fraud,ts\nu7,session,true,2026-01-20\n")
    with pytest.raises(InputError, match="the header of another file, has"):
        run(spark, "ingest", settings, **given)
    assert pl.read_delta(f"{tmp_path}/lake/events")["event_id"].to_list() == ["e1"]


def test_label_files_of_other_columns_are_refused_and_rows_of_other_lengths_rejected(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "bank.yaml").write_text(MAPPING.format(format="csv"))
    given = {"source": str(tmp_path / "bank.yaml"), "input": str(tmp_path / "labels")}
    settings = settings_in(tmp_path / "lake")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.csv").write_text(f"{FILE}session,u6,true,2026-01-20,late\n")

    known = run(spark, "feedback", settings, **given)
    (tmp_path / "labels" / "b.csv").write_text("id,kind,fraud,ts\nu7,session,true,2026-01-20\n")
    with pytest.raises(InputError, match="the header of another file, has") as caught:
        run(spark, "feedback", settings, **given)

    assert known.rows_out["events_rejected"] == 3
    reasons = pl.read_delta(f"{tmp_path}/lake/events_rejected")["reasons"].to_list()
    assert ["malformed_record"] in reasons
    assert caught.value.place.endswith((".csv", ".csv."))
    assert "u7" not in pl.read_delta(f"{tmp_path}/lake/labels")["unit_id"]


def test_flags_go_as_far_as_reviews_show_the_precision_that_is_wanted(
    spark: SparkSession, tmp_path: Path, chain: SmallLake
) -> None:
    settings = copied(chain, tmp_path)
    looked_at = flags_in(settings)
    strange = pl.col("p_value") < 10**-1.25  # where a part of those that are judged together ends
    for status, part in (("confirmed", strange), ("dismissed", ~strange)):
        give_status(spark, settings, status, looked_at.filter(part)["unit_id"].to_list())

    often = with_alerts(settings, false_positive_rate=0.3, budget_per_day=50)
    shown = run(spark, "score", with_alerts(often, precision=0.5))
    flags = flags_in(settings)
    unshown = run(spark, "score", with_alerts(often, precision=0.99))

    assert isinstance(shown.reporter, Lines)
    assert isinstance(unshown.reporter, Lines)
    (told,) = re.findall(r"a precision of 0.5 up to p = (.*)", "\n".join(shown.reporter.lines))
    # What was looked at stays, and of what was not nothing is as strange.
    assert set(flags["unit_id"]) == set(looked_at["unit_id"])
    assert looked_at["p_value"].min() < float(told) < looked_at["p_value"].max()
    # As long as reviews show nothing, they hold nothing back.
    said = "reviews do not show a precision of 0.99 at any p-value: they decide nothing yet"
    assert said in unshown.reporter.lines
    assert len(flags_in(settings)) > len(flags)
