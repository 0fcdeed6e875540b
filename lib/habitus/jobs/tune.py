"""Which settings of the behaviour model foresee validation units best."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase

import yaml

from habitus.config import Settings
from habitus.domain.search import Value, search
from habitus.edges.tracking import track
from habitus.errors import SettingsError, TrainingError
from habitus.jobs.fitting import fitted
from habitus.jobs.frame import JobContext
from habitus.jobs.training_data import TrainingData
from habitus.loading import changed, value_at

_PLACE = "tune.ranges"
# What a trial learns with; all else, its units among it, is the same for every trial.
_SEARCHED = (
    "train.behaviour.*",
    "train.learning_rate",
    "train.learning_rate_scaling",
    "train.batch_size",
    "train.epoch_units",
    "train.precision",
)
_TRIAL = "tune-"  # how names of trials begin
# A trial that stored no epoch for so long was killed: it goes on nowhere.
_ABANDONED = timedelta(days=1)


def run(context: JobContext) -> None:
    """Train with some settings after others, for few epochs each, and say which did best."""
    settings = context.settings
    tune = settings.tune
    context.artefacts.delete_abandoned("checkpoints", _TRIAL, context.started_at - _ABANDONED)
    today = {key: value_at(settings, key, _PLACE) for key in tune.searched}
    for key in today:
        if not any(fnmatchcase(key, one) for one in _SEARCHED):
            problem = (
                f"{key!r} is not what a trial can try: it makes no other model of the same units"
            )
            mend = f"Name any of {', '.join(_SEARCHED)}."
            raise SettingsError(_PLACE, problem, mend)
    data = TrainingData(context)
    data.refuse_too_few()

    def loss_of(number: int, values: Mapping[str, Value]) -> float:
        name = f"{_TRIAL}{context.run_id[:12]}-{number}"
        said = ", ".join(f"{key}={_text(value)}" for key, value in values.items())
        try:
            tried = changed(settings, {**values, "train.epochs": tune.epochs}, _PLACE)
            loss = _trained(context, data, name, tried, values)
        except (SettingsError, TrainingError) as error:
            # That some settings cannot be trained with is something found out about them.
            context.reporter.say(f"trial {number} of {tune.trials} failed, {said}: {error}")
            if number == tune.trials and not found:
                raise
            return math.inf
        found.append(number)
        context.reporter.say(f"trial {number} of {tune.trials}: {loss:.4f} nats per event, {said}")
        return loss

    found: list[int] = []
    best, *_ = search(tune.searched, today, tune.trials, settings.seed, loss_of)
    context.rows_out["trials"] = tune.trials
    arguments = " ".join(f"--set {key}={_text(value)}" for key, value in best.values.items())
    context.reporter.say(f"best: trial {best.number}, {best.loss:.4f} nats per event: {arguments}")


def _trained(
    context: JobContext,
    data: TrainingData,
    name: str,
    settings: Settings,
    values: Mapping[str, Value],
) -> float:
    """The lowest validation loss of a training that leaves a run in MLflow, curves, no model."""
    tags = {"detector": "behaviour", "run_id": context.run_id, "fingerprint": data.fingerprint}
    trial = replace(context, settings=settings)
    try:
        with track(settings.tracking, context.lake.root, name, tags, values) as tracked:
            epochs = fitted(trial, data, "behaviour", name, {}, tracked).epochs
            loss = min(epoch["validation_loss"] for epoch in epochs)
            tracked.metrics({"best_validation_loss": loss})
            return loss
    finally:
        context.artefacts.delete(f"checkpoints/{name}")


def _text(value: Value) -> str:
    return yaml.safe_dump(value).removesuffix("...\n").strip()
