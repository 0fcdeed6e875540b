"""Where training is written down: MLflow's runs and TensorBoard's curves. Imports MLflow alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from habitus.config import TrackingSettings
from habitus.edges.artefacts import absolute
from habitus.errors import SettingsError


class TrackedRun:
    """One run of MLflow that is being written."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Write figures, of an epoch or of the whole."""
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def file(self, name: str, text: str) -> None:
        """Write a text file beside the run."""
        self._client.log_text(self._run_id, text, name)


@contextmanager
def track(
    settings: TrackingSettings,
    lake_root: str,
    model_id: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, object],
) -> Iterator[TrackedRun]:
    """Write an MLflow run while the model is trained; it ends finished, or failed on an error.

    Args:
        settings: Where to, and under which experiment.
        lake_root: Its folder `mlruns` is the store where no URI is set.
        model_id: Names the run.
        tags: What else to find it by.
        parameters: What the model was trained with.

    Raises:
        SettingsError: No URI is set, and the lake is no local folder.
    """
    client = _client(settings, lake_root)
    found = client.get_experiment_by_name(settings.experiment)
    experiment = found.experiment_id if found else client.create_experiment(settings.experiment)
    _close_abandoned(client, experiment, model_id)
    run = client.create_run(
        experiment, tags={"model_id": model_id, **tags}, run_name=model_id
    ).info.run_id
    for name, value in parameters.items():
        client.log_param(run, name, value)
    try:
        yield TrackedRun(client, run)
    except BaseException:
        client.set_terminated(run, status="FAILED")
        raise
    client.set_terminated(run)


def revise(settings: TrackingSettings, lake_root: str, model_id: str, name: str, text: str) -> None:
    """Write a text file anew beside the run that trained a model, where that is known.

    Raises:
        SettingsError: No URI is set, and the lake is no local folder.
    """
    client = _client(settings, lake_root)
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        return
    query = f"tags.model_id = '{model_id}' and attributes.status = 'FINISHED'"
    for run in client.search_runs([experiment.experiment_id], filter_string=query):
        client.log_text(run.info.run_id, text, name)


def _client(settings: TrackingSettings, lake_root: str) -> Any:
    # MLflow would call home, and refuses plain files unless asked for them by name.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = settings.uri or _local(lake_root)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _local(lake_root: str) -> str:
    root = absolute(lake_root).removeprefix("file://")
    if "://" in root:
        raise SettingsError(
            "tracking.uri",
            f"none, and the lake {lake_root} is no local folder that MLflow could keep runs in",
            "Give the URI of an MLflow server.",
        )
    return (Path(root) / "mlruns").as_uri()


def _close_abandoned(client: Any, experiment: str, model_id: str) -> None:
    """Mark what a killed training of this model left running."""
    query = f"tags.model_id = '{model_id}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], filter_string=query):
        client.set_terminated(run.info.run_id, status="KILLED")


def curves(history: Sequence[Mapping[str, float]]) -> bytes:
    """Training curves as an event file of TensorBoard.

    Args:
        history: Figures by name of each epoch, in order; `epoch` is the step.
    """
    import tensorflow as tf

    with TemporaryDirectory() as folder:
        with tf.summary.create_file_writer(folder).as_default():
            for figures in history:
                for name, value in figures.items():
                    if name != "epoch":
                        tf.summary.scalar(name, value, step=int(figures["epoch"]))
        (file,) = Path(folder).iterdir()
        return file.read_bytes()
