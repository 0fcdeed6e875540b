"""Training leaves one artefact per detector, settings and data, and refuses what it cannot use."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import builders
import numpy as np
import pytest
from jobs.unit_lakes import TABLE, WORDS, context_of, lake_of, rows, settings_in
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.special import expit

from habitus.config import Settings
from habitus.domain.detectors.kmeans import KMeansDetector
from habitus.domain.detectors.selected import SelectedDetector
from habitus.edges.models import load_model
from habitus.errors import ArtefactError, InputError, SettingsError, TrainingError
from habitus.jobs import train
from habitus.jobs.frame import JobContext
from habitus.tables import LABELS

pytestmark = pytest.mark.jobs

DETECTORS = (
    "behaviour",
    "markov",
    "isolation_forest",
    "ecod",
    "kmeans",
    "bisecting_kmeans",
    "autoencoder",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> JobContext:
    folder = tmp_path_factory.mktemp("lake")
    context = lake_of(spark, folder, 800, f"detectors=[{', '.join(DETECTORS)}]")
    train.run(context)
    return context


def test_each_detector_has_a_current_model_that_finds_oddities(trained: JobContext) -> None:
    current = trained.artefacts.current()
    assert set(current) == set(DETECTORS)
    usual, odd = builders.units(300, 8, WORDS), builders.oddities(30, 9, WORDS)
    for model_id in current.values():
        model = load_model(trained.artefacts.root, model_id)
        nobody = np.empty((300, 0), dtype=object)
        p_values, _ = model.calibration.p_values(model.detector.score(usual), nobody)
        p_odd, _ = model.calibration.p_values(model.detector.score(odd), nobody[:30])
        assert 0.35 < np.median(p_values) < 0.65
        assert np.median(p_odd) < 0.05


def test_the_artefact_says_what_it_learned_from(trained: JobContext) -> None:
    model_id = trained.artefacts.current()["behaviour"]
    files = trained.artefacts.read(model_id)
    card = json.loads(files["card.json"])
    assert card["units"] == {"training": 400, "validation": 100, "calibration": 100}
    assert card["version"] == trained.inputs["sequences"]
    assert [epoch["epoch"] for epoch in card["epochs"]] == [1, 2]
    text = files["card.md"].decode()
    assert f"# {model_id}" in text
    assert "400 sessions that ended from 2026-01-01" in text
    assert "| best" in text
    assert json.loads(files["settings.json"])["train"]["epochs"] == 2
    assert trained.rows_in["training units"] == 400


def test_training_leaves_curves_and_runs_and_no_checkpoint(trained: JobContext) -> None:
    root = Path(trained.lake.root)
    model_id = trained.artefacts.current()["behaviour"]
    assert list((root / "tensorboard" / model_id).glob("events.out.tfevents.*"))
    assert len(list(root.glob("mlruns/*/*/tags/model_id"))) == len(DETECTORS)
    assert not list(root.glob("checkpoints/*"))
    lines = trained.reporter.lines  # type: ignore[attr-defined]
    assert any(line.startswith("epoch 2 of 2:") for line in lines)


def test_a_second_run_changes_nothing_even_after_the_table_was_written_anew(
    spark: SparkSession, trained: JobContext
) -> None:
    before = contents(Path(trained.lake.root) / "models")
    again = context_of(spark, trained.settings)
    again.lake.overwrite(TABLE, rows(spark, 800).repartition(7, "user_id"))
    train.run(again)
    assert contents(Path(trained.lake.root) / "models") == before
    lines = again.reporter.lines  # type: ignore[attr-defined]
    assert sum("is there already" in line for line in lines) == len(DETECTORS)


def test_later_units_leave_the_models_as_they_are_and_other_settings_do_not(
    spark: SparkSession, trained: JobContext
) -> None:
    def ids(settings: Settings, change: Callable[[DataFrame], DataFrame]) -> dict[str, str]:
        context = context_of(spark, settings)
        context.lake.overwrite(TABLE, change(rows(spark, 800)))
        data = train.TrainingData(context)
        return {
            name: train._model_id(name, train._settings_of(name, context, data), data)
            for name in context.settings.detectors
        }

    def without_test_units(frame: DataFrame) -> DataFrame:
        return frame.where(F.col("ended_at") < F.lit(WORDS.split.validation_until))

    def without_one_training_unit(frame: DataFrame) -> DataFrame:
        return frame.where("unit_id != 'u3'")

    now = trained.artefacts.current()
    assert ids(trained.settings, without_test_units) == now
    assert not set(ids(trained.settings, without_one_training_unit).values()) & set(now.values())
    faster = settings_in(
        Path(trained.lake.root), "train.learning_rate=0.1", "train.start_timeout=9 s"
    )
    changed = ids(faster, without_test_units)
    assert changed["behaviour"] != now["behaviour"]
    assert changed["markov"] == now["markov"]


Mend = Callable[[DataFrame], DataFrame]


@pytest.mark.parametrize(
    ("overrides", "change", "error", "words"),
    [
        (
            ("train.minimum_units=121",),
            lambda f: f,
            TrainingError,
            r"120 training units, fewer than",
        ),
        (
            ("train.minimum_units=1",),
            lambda f: f.where("ended_at < '2026-01-05'"),
            TrainingError,
            r"validation needs at least 1 unit \(120 training, 0 validation, 0 calibration\)",
        ),
        ((), lambda f: f.limit(0), InputError, r"no row\. Run `habitus features`"),
        (
            ("train.minimum_units=1", "segments=['true', 'nonsense(']"),
            lambda f: f,
            SettingsError,
            r"segments\[1\]: 'nonsense\(' is no expression",
        ),
        (
            (),
            lambda f: f.withColumn("vocabulary_id", F.lit("gone")),
            ArtefactError,
            r"vocabularies/gone.json: no such file",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_training(
    spark: SparkSession,
    tmp_path: Path,
    overrides: tuple[str, ...],
    change: Mend,
    error: type[Exception],
    words: str,
) -> None:
    context = context_of(spark, settings_in(tmp_path, *overrides))
    context.artefacts.write_vocabulary(WORDS)
    context.lake.overwrite(TABLE, change(rows(spark, 240)))
    with pytest.raises(error, match=words):
        train.run(context)
    assert not contents(tmp_path / "models")


def test_more_workers_than_slots_are_refused_in_words(spark: SparkSession, tmp_path: Path) -> None:
    context = lake_of(spark, tmp_path, 400, "train.workers=3", "detectors=[behaviour]")
    with pytest.raises(TrainingError, match=r"train\.workers=3: Spark can run 2 tasks at once"):
        train.run(context)
    assert not context.artefacts.current()


def test_two_workers_train_one_model(spark: SparkSession, tmp_path: Path) -> None:
    context = lake_of(spark, tmp_path, 800, "train.workers=2", "detectors=[behaviour]")
    train.run(context)
    lines: Any = context.reporter.lines  # type: ignore[attr-defined]
    assert any(line.startswith("epoch 2 of 2:") for line in lines)
    model = load_model(context.artefacts.root, context.artefacts.current()["behaviour"])
    assert len(model.detector.score(builders.units(10, 3, WORDS))) == 10


def only(detector: str) -> tuple[str, str]:
    return f"detectors=[{detector}]", f"alerts.detector={detector}"


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
    train.run(context)
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
    known_by = WORDS.split.validation_until - timedelta(hours=1)
    label(context, range(0, 30), known_by)
    label(context, range(420, 450), known_by)
    train.run(context)

    model_id = context.artefacts.current()["random_forest"]
    card = json.loads(context.artefacts.read(model_id)["card.json"])
    assert {one["feature"] for one in card["importances"]} == set(WORDS.context)
    # The labels were drawn without looking at any feature.
    needed = {one["feature"] for one in card["importances"] if one["lost"] > one["error"]}
    assert set(card["dropped"]) in ({*WORDS.context} - needed, set())
    page = context.artefacts.read(model_id)["card.md"].decode()
    assert all(f"| {name} |" in page for name in WORDS.context)
    model = load_model(context.artefacts.root, model_id)
    assert isinstance(model.detector, SelectedDetector) == bool(card["dropped"])


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


def test_clusters_are_found_among_all_units_where_a_sample_has_not_all(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = lake_of(spark, tmp_path, 800, *only("kmeans"), "train.sample=100")

    train.run(context)

    model = load_model(context.artefacts.root, context.artefacts.current()["kmeans"])
    found = cast(KMeansDetector, model.detector).clusters
    sampled = KMeansDetector.fit(train.TrainingData(context).training, WORDS, context.settings.seed)
    assert len(found) == len(sampled.clusters)
    assert found.centres != sampled.clusters.centres
    scores = model.detector.score(builders.oddities(30, 9, WORDS))
    p_values, _ = model.calibration.p_values(scores, np.empty((30, 0), dtype=object))
    assert np.median(p_values) < 0.05
