"""Training of what learns from labels: supervised models, fine-tuned ones and ensembles."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import builders
import numpy as np
import pytest
from delta.tables import DeltaTable
from jobs.unit_lakes import WORDS, context_of, lake_of, only, settings_in
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.special import expit

from habitus.domain.detectors.selected import SelectedDetector
from habitus.edges.models import load_model
from habitus.errors import TrainingError
from habitus.jobs import train
from habitus.jobs.frame import JobContext
from habitus.tables import LABELS

pytestmark = pytest.mark.jobs


def label(context: JobContext, numbers: Iterable[int], known_at: datetime) -> None:
    """Say that these units are anomalous."""
    rows = [
        {
            "unit_kind": "session",
            "unit_id": f"u{number}",
            "label": True,
            "kind": "card_testing",
            "known_at": known_at,
            "source": "analyst",
        }
        for number in numbers
    ]
    context.lake.append(LABELS, context.spark.createDataFrame(rows, LABELS.schema()))


def test_a_supervised_model_learns_from_what_is_known_by_the_end_of_validation(
    spark: SparkSession, tmp_path: Path
) -> None:
    learning = (*only("random_forest"), "train.sample=100")
    context = lake_of(spark, tmp_path, 800, *learning)
    known_by = WORDS.split.validation_until
    label(context, range(0, 30), known_by - timedelta(hours=1))
    label(context, range(100, 130), known_by + timedelta(hours=1))
    label(context, range(9_000, 9_002), known_by - timedelta(hours=1))
    train.run(context)
    assert context.rows_in["later labels"] == 30
    assert context.rows_in["unmatched labels"] == 2
    first = context.artefacts.current()["random_forest"]

    label(context, range(200, 205), known_by - timedelta(hours=1))
    again = context_of(spark, settings_in(tmp_path, *learning))
    train.run(again)

    second = again.artefacts.current()["random_forest"]
    assert first != second
    found = [json.loads(again.artefacts.read(one)["card.json"]) for one in (first, second)]
    assert [card["labels"]["anomalous"] for card in found] == [30, 35]
    page = again.artefacts.read(first)["card.md"].decode()
    assert "30 of those learned from are anomalous" in page
    assert "Not used: 30 labels that became known later, and 2 that name no unit." in page
    # 30 in 400 it is on average, however few of the normal ones are read.
    score = load_model(again.artefacts.root, first).detector.score
    assert 0.03 < expit(score(builders.units(300, 8, WORDS))).mean() < 0.2


def test_a_fine_tuned_model_goes_on_from_the_behaviour_model_whatever_the_order(
    spark: SparkSession, tmp_path: Path
) -> None:
    learning = (
        "detectors=[fine_tuned, behaviour]",
        "train.fine_tune={epochs: 2, hidden: 8, learning_rate: 0.02}",
    )
    context = lake_of(spark, tmp_path, 800, *learning)
    # The longest of the training units, so that there is something to learn.
    longest = np.argsort(-builders.units(800, 1, WORDS).lengths[:400], kind="stable")[:60]
    label(context, longest.tolist(), WORDS.split.validation_until - timedelta(hours=1))
    train.run(context)

    current = context.artefacts.current()
    card = json.loads(context.artefacts.read(current["fine_tuned"])["card.json"])
    assert card["settings"]["members"] == [current["behaviour"]]
    assert card["settings"]["train.fine_tune"]["hidden"] == 8
    assert card["labels"]["anomalous"] == 60
    score = load_model(context.artefacts.root, current["fine_tuned"]).detector.score
    assert 0.05 < expit(score(builders.units(300, 8, WORDS))).mean() < 0.4
    data = train.TrainingData(context)
    other = context_of(spark, settings_in(tmp_path, *learning, "train.learning_rate=0.1"))
    ids = [
        train._model_id(name, train._settings_of(name, other, data), data)
        for name in ("behaviour", "fine_tuned")
    ]
    assert set(ids).isdisjoint(current.values())


def test_features_that_tell_nothing_are_dropped_and_listed(
    spark: SparkSession, tmp_path: Path
) -> None:
    learning = (*only("random_forest"), "train.select_features=true")
    context = lake_of(spark, tmp_path, 800, *learning)
    # The first feature tells which units are anomalous, the second is the same of all.
    told, constant = WORDS.context
    units = DeltaTable.forPath(spark, f"{tmp_path}/sequences")
    units.update(set={"context": F.array(F.col("context")[0], F.lit(30).cast("float"))})
    counts = builders.units(800, 1, WORDS).context[:500, 0]
    label(context, np.flatnonzero(counts > 3).tolist(), WORDS.split.calibrate_from)
    train.run(context)

    model_id = context.artefacts.current()["random_forest"]
    card = json.loads(context.artefacts.read(model_id)["card.json"])
    assert [one["feature"] for one in card["importances"]] == [told, constant]
    assert card["dropped"] == [constant]
    page = context.artefacts.read(model_id)["card.md"].decode()
    assert all(f"| {name} |" in page for name in WORDS.context)
    assert isinstance(load_model(context.artefacts.root, model_id).detector, SelectedDetector)


def test_a_supervised_model_is_refused_without_labels(spark: SparkSession, tmp_path: Path) -> None:
    context = lake_of(spark, tmp_path, 800, *only("gradient_boosting"))

    with pytest.raises(TrainingError, match="0 of 400 training units are known to be anomalous"):
        train.run(context)

    assert context.artefacts.current() == {}


def test_an_ensemble_is_fitted_on_what_validation_units_score_whatever_the_order(
    spark: SparkSession, tmp_path: Path
) -> None:
    choice = (
        "detectors=[ensemble, isolation_forest, markov]",
        "alerts.detector=ensemble",
        "ensemble.members=[markov, isolation_forest]",
    )
    context = lake_of(spark, tmp_path, 800, *choice)
    known_by = WORDS.split.validation_until
    label(context, range(0, 30), known_by - timedelta(hours=1))
    label(context, range(400, 419), known_by - timedelta(hours=1))
    label(context, range(430, 460), known_by + timedelta(hours=1))
    train.run(context)
    first = context.artefacts.current()["ensemble"]
    label(context, range(440, 441), known_by - timedelta(hours=1))
    again = context_of(spark, settings_in(tmp_path, *choice))
    train.run(again)

    current = again.artefacts.current()
    second = current["ensemble"]
    assert first != second
    found = [json.loads(again.artefacts.read(one)["card.json"]) for one in (first, second)]
    assert "Equal weights of markov, isolation_forest: 19 valid" in found[0]["weights"]
    assert " 20 validation units are known to be anomalous" in found[1]["weights"]
    for card in found:
        assert card["labels"] is None
        assert card["settings"]["members"] == [current["markov"], current["isolation_forest"]]
        assert card["weights"] in [*context.reporter.lines, *again.reporter.lines]  # type: ignore[attr-defined]
    page = again.artefacts.read(second)["card.md"].decode()
    assert found[1]["weights"] in page
    assert "to decide what each member's score is worth." in page
    odd, usual = builders.oddities(30, 9, WORDS), builders.units(300, 8, WORDS)
    score = load_model(again.artefacts.root, first).detector.score
    assert score(odd).min() > np.quantile(score(usual), 0.95)


def test_an_ensemble_of_what_learned_from_labels_is_calibrated_without_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    choice = (
        "detectors=[markov, random_forest, ensemble]",
        "alerts.detector=ensemble",
        "ensemble.members=[markov, random_forest]",
    )
    context = lake_of(spark, tmp_path, 800, *choice)
    known_by = WORDS.split.validation_until
    label(context, range(0, 30), known_by - timedelta(hours=1))
    label(context, range(500, 505), known_by - timedelta(hours=1))
    train.run(context)

    card = json.loads(context.artefacts.read(context.artefacts.current()["ensemble"])["card.json"])
    assert card["calibration"]["units"] == 95
    assert card["labels"]["anomalous"] == 30
