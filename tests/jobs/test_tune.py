"""A search for settings trains with each, says which did best, and leaves no model."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from jobs.conftest import Lines
from jobs.unit_lakes import context_of, lake_of, settings_in
from mlflow.tracking import MlflowClient
from pyspark.sql import SparkSession

from habitus.errors import SettingsError, TrainingError
from habitus.jobs import tune

pytestmark = pytest.mark.jobs

SEARCH = (
    "tune.trials=2",
    "tune.epochs=1",
    "tune.ranges={train.learning_rate: {low: 0.0001, high: 0.01, log: true}, "
    "train.behaviour.dropout: {low: 0.1, high: 0.1, log: false}, train.batch_size: null, "
    "train.behaviour.hidden: null, train.behaviour.embedding: null}",
)


def test_the_best_of_some_settings_is_named_and_every_trial_is_tracked(
    spark: SparkSession, tmp_path: Path
) -> None:
    context = lake_of(spark, tmp_path, 800, *SEARCH)
    left_by_a_killed_one = Path(context.artefacts.write_file("checkpoints/tune-1/state.npz", b""))
    os.utime(left_by_a_killed_one, (0, 0))
    tune.run(context)

    assert isinstance(context.reporter, Lines)
    told = [line for line in context.reporter.lines if line.startswith(("trial", "best"))]
    first, second, best = told
    assert first.startswith("trial 1 of 2:")
    assert first.endswith("train.learning_rate=0.01, train.behaviour.dropout=0.1")
    losses = [float(line.split(": ")[1].split()[0]) for line in (first, second)]
    assert best.startswith(f"best: trial {losses.index(min(losses)) + 1}, {min(losses):.4f}")
    client = MlflowClient((tmp_path / "mlruns").as_uri())
    runs = client.search_runs([client.get_experiment_by_name("habitus").experiment_id])
    tracked = sorted(run.data.metrics["best_validation_loss"] for run in runs)
    assert tracked == pytest.approx(sorted(losses), abs=1e-4)
    assert context.artefacts.current() == {}
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_search_none_of_whose_trials_can_be_trained_fails(
    spark: SparkSession, tmp_path: Path
) -> None:
    diverges = "tune.ranges={train.learning_rate: {low: 1.0e+30, high: 1.0e+30, log: true}}"
    context = lake_of(spark, tmp_path, 240, *SEARCH, "tune.trials=1", diverges)

    with pytest.raises(TrainingError):
        tune.run(context)

    assert isinstance(context.reporter, Lines)
    assert any(line.startswith("trial 1 of 1 failed, train.") for line in context.reporter.lines)


class Interrupted(Lines):
    """Somebody gives up once an epoch is over."""

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith("epoch 1 of"):
            raise KeyboardInterrupt


def test_a_search_that_fails_leaves_no_checkpoint(spark: SparkSession, tmp_path: Path) -> None:
    context = replace(lake_of(spark, tmp_path, 240, *SEARCH), reporter=Interrupted())

    with pytest.raises(KeyboardInterrupt):
        tune.run(context)

    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("train.learning_rat: {choices: [0.1]}", r"'train.learning_rat'.*'train.learning_rate'"),
        ("sequences.bins: {choices: [8, 16]}", r"'sequences\.bins' is not what a trial can try"),
    ],
)
def test_a_range_of_what_is_no_setting_or_none_of_a_trial_is_refused(
    wrong: str, said: str, spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=said):
        tune.run(context_of(spark, settings_in(tmp_path, f"tune.ranges={{{wrong}}}")))
