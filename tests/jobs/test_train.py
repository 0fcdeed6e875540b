"""Training leaves one artefact per detector, settings and data, and refuses what it cannot use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import builders
import numpy as np
import pytest
from jobs.unit_lakes import TABLE, WORDS, context_of, lake_of, only, rows, settings_in
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from habitus.config import Settings
from habitus.domain.detectors.kmeans import KMeansDetector
from habitus.edges.models import load_model
from habitus.edges.ring import LocalRing
from habitus.edges.training import train_behaviour
from habitus.errors import ArtefactError, InputError, SettingsError, TrainingError
from habitus.jobs import train
from habitus.jobs.fitting import behaviour_task
from habitus.jobs.frame import JobContext
from habitus.jobs.training_data import TrainingData

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
    assert trained.rows_in["constant features"] == 0


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
    idle = settings_in(Path(trained.lake.root), "train.learning_rate_scaling=linear")
    assert ids(idle, without_test_units)["behaviour"] == now["behaviour"]


def test_sequences_written_anew_while_a_model_is_trained_change_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = lake_of(spark, tmp_path, 240)
    data = TrainingData(context)

    def write_others(line: str) -> None:
        context.lake.overwrite(TABLE, rows(spark, 80))

    def nothing(line: str) -> None:
        pass

    undisturbed, disturbed = (
        train_behaviour(LocalRing(), report, behaviour_task(context, data, name))
        for name, report in (("behaviour-1", nothing), ("behaviour-2", write_others))
    )

    assert context.lake.version(TABLE) == data.version + 2  # after each of two epochs
    assert disturbed["weights.npz"] == undisturbed["weights.npz"]


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


def test_two_workers_train_one_model(spark: SparkSession, tmp_path: Path) -> None:
    context = lake_of(spark, tmp_path, 800, "train.workers=2", "detectors=[behaviour]")
    train.run(context)
    lines: Any = context.reporter.lines  # type: ignore[attr-defined]
    assert any(line.startswith("epoch 2 of 2:") for line in lines)
    model_id = context.artefacts.current()["behaviour"]
    model = load_model(context.artefacts.root, model_id)
    assert len(model.detector.score(builders.units(10, 3, WORDS))) == 10
    card = json.loads(context.artefacts.read(model_id)["card.json"])
    # A tenth of the highest rate, which is that of one worker times the root of two.
    assert card["epochs"][-1]["learning_rate"] == pytest.approx(0.001 * 2**0.5)


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
