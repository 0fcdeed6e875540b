from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import average_precision_score, roc_auc_score

from habitus.config import EvaluateSettings
from habitus.domain.ablation import without_members
from habitus.domain.detectors.combination import Combination
from habitus.domain.evaluation import (
    ALL,
    NORMAL,
    Evaluation,
    chosen,
    counts,
    evaluate,
    histograms,
    judged,
    kinds_of,
)

pytestmark = pytest.mark.spark

TEST_FROM = datetime(2026, 1, 10, tzinfo=UTC)
LATER = datetime(2026, 6, 1, tzinfo=UTC)
SETTINGS = EvaluateSettings(blocks=5, blocks_of="time", refit=False, bootstrap=30, confidence=0.9)
BUDGET = 5
DETECTORS = {"behaviour": "behaviour-1", "markov": "markov-1"}


@pytest.fixture(scope="module")
def units() -> pd.DataFrame:
    """600 units of 12 days; the first 2 days lie before the test period."""
    rng = np.random.default_rng(3)
    kind = rng.choice([None, "scraping", "card_testing"], size=600, p=[0.9, 0.06, 0.04])
    day = rng.integers(8, 20, size=600)
    rows = pd.DataFrame({"unit_id": [f"u{i:03d}" for i in range(600)], "kind": kind, "day": day})
    rows["user"] = rng.choice(["ann", "bob", "cem"], size=600)
    for name, strength in (("behaviour-1", 4), ("markov-1", 2)):
        rows[name] = rng.uniform(size=600) ** np.where(rows["kind"].notna(), strength, 1)
    return rows


@pytest.fixture(scope="module")
def judged_units(spark: SparkSession, units: pd.DataFrame) -> DataFrame:
    scores = [
        ("session", unit, user, model, date(2026, 1, day), float(p), -float(np.log(p)), None)
        for model in (*DETECTORS.values(), "behaviour-0")
        for unit, user, day, p in zip(
            units["unit_id"],
            units["user"],
            units["day"],
            units[model.replace("-0", "-1")],
            strict=True,
        )
        if unit != "u599" or model != "markov-1"
    ]
    ended = [("session", row.unit_id, datetime(2026, 1, row.day, 5)) for row in units.itertuples()]
    labels = [(row.unit_id, row.kind) for row in units.itertuples() if row.kind is not None]
    return judged(
        spark.createDataFrame(
            scores,
            "unit_kind string, unit_id string, user_id string, model_id string, event_date date, "
            "p_value double, score double, note string",
        ),
        spark.createDataFrame(ended, "unit_kind string, unit_id string, ended_at timestamp"),
        spark.createDataFrame(labels, "unit_id string, kind string"),
        DETECTORS.values(),
        TEST_FROM,
    ).cache()


def figures(judged_units: DataFrame, seed: int = 1) -> dict[tuple[str, str, str], Evaluation]:
    found = evaluate(
        histograms(judged_units, LATER, blocks=5).toPandas(),
        chosen(judged_units, BUDGET).toPandas(),
        DETECTORS,
        SETTINGS,
        seed,
    )
    return {(row.detector, row.kind, row.measure): row for row in found}


def test_the_models_are_compared_on_the_test_units_that_all_have_scored(
    judged_units: DataFrame, units: pd.DataFrame
) -> None:
    expected = set(units.loc[(units["day"] >= 10) & (units["unit_id"] != "u599"), "unit_id"])
    found = judged_units.select("model_id", "unit_id").toPandas()
    assert set(found["model_id"]) == set(DETECTORS.values())
    assert set(found["unit_id"]) == expected
    assert len(found) == 2 * len(expected)


def test_figures_from_bins_are_those_of_the_units(
    judged_units: DataFrame, units: pd.DataFrame
) -> None:
    found = figures(judged_units)
    units = units[(units["day"] >= 10) & (units["unit_id"] != "u599")]
    for detector, model in DETECTORS.items():
        for kind in ("scraping", "card_testing", ALL):
            anomalous = units["kind"].notna() if kind == ALL else units["kind"] == kind
            among = units[anomalous | units["kind"].isna()]
            label = anomalous[among.index]
            for measure, exact in (
                ("auc", roc_auc_score(label, -among[model])),
                ("average_precision", average_precision_score(label, -among[model])),
            ):
                row = found[detector, kind, measure]
                assert row.figure.value == pytest.approx(exact, abs=2e-3)
                assert row.figure.low <= row.figure.value <= row.figure.high
                assert (row.units, row.anomalous) == (len(among), label.sum())


def test_the_budget_takes_the_strangest_of_each_day_whatever_their_kind(
    judged_units: DataFrame, units: pd.DataFrame
) -> None:
    found = figures(judged_units)
    units = units[(units["day"] >= 10) & (units["unit_id"] != "u599")]
    for detector, model in DETECTORS.items():
        picked = units.sort_values(model).groupby("day").head(BUDGET)
        for kind in ("scraping", "card_testing"):
            hit, total = (picked["kind"] == kind).sum(), (units["kind"] == kind).sum()
            recall = found[detector, kind, "recall_at_budget"]
            precision = found[detector, kind, "precision_at_budget"]
            assert recall.figure.value == pytest.approx(hit / total)
            assert precision.figure.value == pytest.approx(hit / len(picked))
            assert recall.units == len(units)


def test_blocks_share_the_days_of_the_test_period(
    judged_units: DataFrame, units: pd.DataFrame
) -> None:
    rows = histograms(judged_units, LATER, blocks=5).toPandas()
    rows = rows[(rows["model_id"] == "markov-1") & rows["kind"].isin([ALL, NORMAL])]
    units = units[(units["day"] >= 10) & (units["unit_id"] != "u599")]
    block = (units["day"] - 10) * 5 // 10
    assert rows.groupby("block")["units"].sum().to_dict() == block.value_counts().to_dict()


def test_blocks_of_users_hold_all_units_of_a_user(
    judged_units: DataFrame, units: pd.DataFrame
) -> None:
    rows = histograms(judged_units, LATER, blocks=3, of="users").toPandas()
    rows = rows[(rows["model_id"] == "markov-1") & rows["kind"].isin([ALL, NORMAL])]
    units = units[(units["day"] >= 10) & (units["unit_id"] != "u599")]
    of_user = units.groupby("user").size()
    # With so few users every block is a sum of some of theirs.
    sums = {0} | {a + b for a in (0, *of_user) for b in (0, *of_user)} | {of_user.sum()}
    of_block = rows.groupby("block")["units"].sum()
    assert of_block.sum() == len(units)
    assert set(of_block) <= sums
    assert set(rows["block"]) <= {0, 1, 2}


def test_a_unit_of_a_time_to_come_leaves_the_blocks_of_time_as_they_are(
    judged_units: DataFrame,
) -> None:
    to_come = judged_units.limit(1).withColumn("event_date", F.lit(date(2038, 1, 19)))
    before = histograms(judged_units, LATER, blocks=5).toPandas()

    rows = histograms(judged_units.union(to_come), LATER, blocks=5).toPandas()

    counted, expected = (one.groupby("block")["units"].sum() for one in (rows, before))
    assert counted.index.tolist() == expected.index.tolist() == [0, 1, 2, 3, 4]
    assert (counted - expected).tolist()[:4] == [0, 0, 0, 0]
    # Its kinds, or the normal ones, and all.
    assert counted[4] > expected[4]


def test_the_same_seed_gives_the_same_figures(judged_units: DataFrame) -> None:
    assert figures(judged_units) == figures(judged_units)


def test_a_unit_of_two_kinds_counts_for_each_and_once_for_all(spark: SparkSession) -> None:
    units = spark.createDataFrame(
        [
            ("m", "ann", date(2026, 1, 1), ["a", "b"], 1e-30, 1.0),
            ("m", "ann", date(2026, 1, 1), [], 1.0, 0.0),
        ],
        "model_id string, user_id string, event_date date, kinds array<string>, p_value double, "
        "score double",
    ).selectExpr("*", "string(score) unit_id")
    rows = histograms(units, LATER, blocks=5).toPandas()
    assert kinds_of(rows) == [ALL, "a", "b"]
    for kind in kinds_of(rows):
        assert counts(rows, kind)[0] == 1, "a p-value below the last bin lies in it"
        assert counts(rows, kind).sum() == 1
    assert counts(rows, NORMAL)[-1] == 1


def test_without_anomalies_there_is_no_figure() -> None:
    rows = pd.DataFrame({"model_id": ["m"], "kind": [NORMAL], "bin": [3], "units": [9]})
    assert evaluate(rows, rows[["model_id", "kind", "units"]], {"d": "m"}, SETTINGS, 1) == []


def test_a_unit_that_no_model_can_score_is_the_most_usual_without_a_member_too(
    spark: SparkSession,
) -> None:
    # Like log-odds: all are below 0, the score of what cannot be scored.
    scores = np.random.default_rng(1).normal(-6, 1, size=(200, 2))
    nothing_known, once = np.zeros(200, dtype=bool), np.ones(200)
    combination = Combination.fit(("markov", "ecod"), scores, nothing_known, once)
    members = {"markov": "markov-1", "ecod": "ecod-1"}
    found = [("s1", model, 0.5, -6.0, None) for model in members.values()]
    found += [("s2", model, 1.0, 0.0, "no event to judge") for model in members.values()]
    rows = [("session", unit, "ann", *more, date(2026, 1, 15)) for unit, *more in found]
    known = judged(
        spark.createDataFrame(
            rows,
            "unit_kind string, unit_id string, user_id string, model_id string, p_value double, "
            "score double, note string, event_date date",
        ),
        spark.createDataFrame(
            [("session", unit, TEST_FROM) for unit in ("s1", "s2")],
            "unit_kind string, unit_id string, ended_at timestamp",
        ),
        spark.createDataFrame([], "unit_id string, kind string"),
        members.values(),
        TEST_FROM,
    )

    without = without_members(known, "ensemble-1", members, combination).collect()

    assert {row["model_id"] for row in without} == {
        f"ensemble-1 without {name}" for name in ("nothing", *members)
    }
    assert {row["p_value"] for row in without if row["unit_id"] == "s2"} == {1.0}
    assert max(row["p_value"] for row in without if row["unit_id"] == "s1") < 0.7
