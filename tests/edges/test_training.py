"""A training process that was killed goes on as if nothing had happened."""

import io
import json
import signal
import subprocess
import sys
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


def train_and_die(folder: str, epoch: int) -> None:
    """Train, and be killed right after this epoch; run in a process of its own."""
    import os

    def report(line: str) -> None:
        if json.loads(line).get("epoch") == epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    train_behaviour(LocalRing(), report, task_in(Path(folder)))


def test_a_run_killed_after_an_epoch_comes_to_the_same_model(tmp_path: Path) -> None:
    here = Path(__file__)
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[1])!r}]\n"
        "from test_training import train_and_die\n"
        f"train_and_die({str(tmp_path / 'killed')!r}, 2)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    told: list[str] = []
    resumed = train_behaviour(LocalRing(), told.append, task_in(tmp_path / "killed"))
    assert json.loads(told[0]) == {"note": "goes on from its checkpoint after epoch 2"}
    assert [json.loads(line)["epoch"] for line in told[1:]] == [1, 2, 3, 4]
    whole = train_behaviour(LocalRing(), lambda line: None, task_in(tmp_path / "whole"))
    assert resumed.keys() == whole.keys()
    assert resumed["weights.npz"] == whole["weights.npz"]
    assert resumed["behaviour.json"] == whole["behaviour.json"]
    units = builders.units(20, 1, WORDS)
    scores = [BehaviourDetector.from_files(f, WORDS).score(units) for f in (resumed, whole)]
    np.testing.assert_array_equal(*scores)


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
