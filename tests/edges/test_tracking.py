"""Training leaves runs that MLflow finds and curves that TensorBoard reads."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from habitus.config import TrackingSettings
from habitus.edges.tracking import curves, revise, track
from habitus.errors import SettingsError

pytestmark = pytest.mark.train

SETTINGS = TrackingSettings(uri=None, experiment="trials")


def runs(root: Path) -> dict[str, object]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(root / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("trials")
    return {run.info.status: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_holds_parameters_figures_tags_and_files(tmp_path: Path) -> None:
    with track(SETTINGS, str(tmp_path), "behaviour-1", {"version": "3"}, {"hidden": 64}) as run:
        for epoch in (1, 2):
            run.metrics({"loss": 1 / epoch}, epoch)
        run.file("card.md", "# A model")
    (found,) = runs(tmp_path).values()
    assert found.info.status == "FINISHED"  # type: ignore[attr-defined]
    assert found.data.params == {"hidden": "64"}  # type: ignore[attr-defined]
    assert found.data.metrics == {"loss": 0.5}  # type: ignore[attr-defined]
    assert found.data.tags["model_id"] == "behaviour-1"  # type: ignore[attr-defined]
    assert found.data.tags["version"] == "3"  # type: ignore[attr-defined]
    (card,) = tmp_path.rglob("card.md")
    assert card.read_text() == "# A model"


def test_a_file_is_written_anew_beside_the_run_that_trained_the_model(tmp_path: Path) -> None:
    revise(SETTINGS, str(tmp_path), "behaviour-1", "card.md", "# No run knows it")
    for model_id in ("behaviour-1", "behaviour-2"):
        with track(SETTINGS, str(tmp_path), model_id, {}, {}) as run:
            run.file("card.md", f"# {model_id}")

    revise(SETTINGS, str(tmp_path), "behaviour-1", "card.md", "# Compared")

    texts = {path.read_text() for path in tmp_path.rglob("card.md")}
    assert texts == {"# Compared", "# behaviour-2"}


def test_a_run_that_raises_is_marked_as_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), track(SETTINGS, str(tmp_path), "a", {}, {}):
        raise ZeroDivisionError
    assert list(runs(tmp_path)) == ["FAILED"]


def test_a_run_that_was_killed_is_marked_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from habitus.config import TrackingSettings\n"
        "from habitus.edges.tracking import track\n"
        "settings = TrackingSettings(uri=None, experiment='trials')\n"
        f"with track(settings, {str(tmp_path)!r}, 'a', {{}}, {{}}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert list(runs(tmp_path)) == ["RUNNING"]
    with track(SETTINGS, str(tmp_path), "a", {}, {}):
        pass
    assert set(runs(tmp_path)) == {"KILLED", "FINISHED"}


def test_a_remote_lake_without_a_tracking_uri_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"tracking\.uri: none, and the lake s3://"):
        track(SETTINGS, "s3://bucket/lake", "a", {}, {}).__enter__()


def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    history = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]
    (tmp_path / "events.out.tfevents.0.habitus").write_bytes(curves(history))
    found = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    found.Reload()
    values = [
        (event.step, float(make_ndarray(event.tensor_proto))) for event in found.Tensors("loss")
    ]
    assert values == [(1, 3.0), (2, 2.0)]
