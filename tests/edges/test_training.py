"""What a training process keeps, and what it makes of a checkpoint that is none."""

import io
import json
from dataclasses import replace
from pathlib import Path

import builders
import numpy as np
import pytest
from sequence_files import WORDS
from training_task import task_in

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.models.training import Plan
from habitus.edges.ring import LocalRing
from habitus.edges.training import train_behaviour

pytestmark = pytest.mark.train

SHORT = Plan(seed=7, epochs=1, steps=3, patience=1, learning_rate=0.01)


def test_a_damaged_checkpoint_is_told_and_training_begins_anew(tmp_path: Path) -> None:
    task = replace(task_in(tmp_path), plan=SHORT)
    checkpoint = tmp_path / task.checkpoint / "state.npz"
    whole = train_behaviour(LocalRing(), lambda line: None, task)
    cut_off, of_something_else = checkpoint.read_bytes()[:-20], whole["weights.npz"]

    for content, problem in ((cut_off, "not readable: "), (of_something_else, "of another model")):
        checkpoint.write_bytes(content)
        told: list[str] = []
        again = train_behaviour(LocalRing(), told.append, task)

        note, *epochs = map(json.loads, told)
        words = f"cannot be used (checkpoints/behaviour-trial/state.npz: {problem}"
        assert words in note["note"]
        assert note["note"].endswith("; begins with epoch 1")
        assert [epoch["epoch"] for epoch in epochs] == [1]
        assert again["weights.npz"] == whole["weights.npz"]


def test_in_mixed_precision_a_model_learns_as_much_and_is_kept_in_float32(tmp_path: Path) -> None:
    losses: list[float] = []
    task = replace(task_in(tmp_path), precision="mixed_bfloat16")
    for one in (task, replace(task, precision="float32", model_id="behaviour-exact")):
        files = train_behaviour(
            LocalRing(), lambda line: losses.append(json.loads(line)["validation_loss"]), one
        )
        with np.load(io.BytesIO(files["weights.npz"])) as weights:
            assert {weights[name].dtype for name in weights.files} == {np.dtype(np.float32)}
        detector = BehaviourDetector.from_files(files, WORDS)
        assert np.isfinite(detector.score(builders.units(20, 1, WORDS))).all()
    mixed, exact = losses[:4], losses[4:]
    assert mixed != exact
    assert exact[3] < exact[0]
    np.testing.assert_allclose(mixed, exact, rtol=0.02)
