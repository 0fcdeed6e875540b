"""From `sequences` to models: fitted, calibrated, stored and made current."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

import numpy as np

from habitus.config import Settings
from habitus.domain.calibration import Calibration
from habitus.domain.detectors import CLUSTERS, SUPERVISED, detector_class, load_detector
from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.ensemble import EnsembleDetector
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.features import needs_labels
from habitus.domain.models.card import Card
from habitus.domain.scoring import scores_of
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.tracking import TrackedRun, curves, track
from habitus.jobs.frame import JobContext
from habitus.jobs.training_data import TRAINING, VALIDATION, TrainingData
from habitus.setting_types import DetectorName

# To be raised when what a model's files hold, or how they are made, changes.
_FORMAT = 4


class _Fitted(Detector, Protocol):
    """A detector that is fitted in one process."""

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self: ...


class _Supervised(Detector, Protocol):
    """A detector that is fitted on labels."""

    @classmethod
    def fit(cls, labelled: Labelled, vocabulary: Vocabulary, seed: int) -> Self: ...


def run(context: JobContext) -> None:
    """Fit and calibrate every detector that is not there yet for these settings and this data."""
    data = TrainingData(context)
    data.refuse_too_few()
    # An ensemble is made of the others' models.
    for name in sorted(context.settings.detectors, key=lambda name: name == "ensemble"):
        settings = _settings_of(name, context, data)
        model_id = _model_id(name, settings, data)
        if context.artefacts.exists(model_id):
            context.reporter.say(f"{model_id} is there already")
        else:
            _train(context, data, name, model_id, settings)
        if context.artefacts.current().get(name) != model_id:
            context.artefacts.set_current(name, model_id)
        # Only now: until the model is stored and current, a killed run goes on from here.
        context.artefacts.delete(f"checkpoints/{model_id}")


def _settings_of(name: DetectorName, context: JobContext, data: TrainingData) -> dict[str, Any]:
    """What decides what a detector learns beside the units; other settings have no effect."""
    settings = context.settings
    train = settings.train.model_dump(mode="json")
    if name == "behaviour":
        idle = {"start_timeout", "minimum_units"}
        learning = {key: value for key, value in train.items() if key not in idle}
    else:
        learning = {"sample": train["sample"]}
    if name == "ensemble" or name in SUPERVISED:
        learning["labels"] = data.labels.fingerprint
    learning["format"] = _FORMAT
    found = {"seed": settings.seed, "segment": settings.segment} | {
        f"train.{key}": value for key, value in sorted(learning.items())
    }
    return found if name != "ensemble" else found | {"members": _members(context, data)}


def _members(context: JobContext, data: TrainingData) -> list[str]:
    """The models that an ensemble with these settings is made of."""
    names = context.settings.ensemble.members
    return [_model_id(name, _settings_of(name, context, data), data) for name in names]


def _is_supervised(name: DetectorName, settings: Settings) -> bool:
    """Whether a detector, or a member of it, learns from labels which units are anomalous."""
    return not SUPERVISED.isdisjoint(settings.ensemble.members if name == "ensemble" else [name])


def _model_id(name: str, settings: Mapping[str, Any], data: TrainingData) -> str:
    known = [settings, data.vocabulary.vocabulary_id, data.fingerprint]
    content = json.dumps(known, sort_keys=True).encode()
    return f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


def _train(
    context: JobContext,
    data: TrainingData,
    name: DetectorName,
    model_id: str,
    settings: Mapping[str, Any],
) -> None:
    tags = {
        "detector": name,
        "run_id": context.run_id,
        "table_version": str(data.version),
        "fingerprint": data.fingerprint,
    }
    history: list[dict[str, float]] = []
    weights = None
    with (
        context.reporter.step(f"train {model_id}"),
        track(context.settings.tracking, context.lake.root, model_id, tags, settings) as tracked,
    ):
        if name == "behaviour":
            files = _fit_behaviour(context, data, model_id, tracked, history)
        elif name == "ensemble":
            files, weights = _fit_ensemble(context, data)
        elif name in CLUSTERS:
            files = _fit_clusters(name, data, context.settings.seed)
        else:
            files = _fit_here(name, data, context.settings.seed)
        supervised = _is_supervised(name, context.settings)
        calibration, figures = _calibrate(name, files, data, supervised)
        card = _card(context, data, name, model_id, settings, history, figures, weights)
        context.artefacts.write(
            model_id,
            {
                **files,
                "vocabulary.json": data.vocabulary.model_dump_json(indent=1).encode(),
                "calibration.json": calibration.model_dump_json().encode(),
                "settings.json": context.settings.model_dump_json(by_alias=True, indent=1).encode(),
                "card.json": card.model_dump_json(indent=1).encode(),
                "card.md": card.to_markdown().encode(),
            },
        )
        tracked.metrics({f"calibration_{key}": value for key, value in figures.items()})
        tracked.file("card.md", card.to_markdown())


def _fit_here(name: DetectorName, data: TrainingData, seed: int) -> dict[str, bytes]:
    if name in SUPERVISED:
        supervised = cast(type[_Supervised], detector_class(name))
        return supervised.fit(data.labelled, data.vocabulary, seed).to_files()
    kind = cast(type[_Fitted], detector_class(name))
    return kind.fit(data.training, data.vocabulary, seed).to_files()


def _fit_ensemble(context: JobContext, data: TrainingData) -> tuple[dict[str, bytes], str]:
    """The files of the members that are stored by now, and how they were weighed."""
    names, model_ids = context.settings.ensemble.members, _members(context, data)
    members: dict[str, Detector] = {
        name: load_detector(name, context.artefacts.read(model_id), data.vocabulary)
        for name, model_id in zip(names, model_ids, strict=True)
    }
    fitted = EnsembleDetector.fit(members, data.validation, data.vocabulary)
    weights = fitted.combination.in_words()
    context.reporter.say(weights)
    return fitted.to_files(), weights


def _fit_clusters(name: DetectorName, data: TrainingData, seed: int) -> dict[str, bytes]:
    """Fit on a sample; if there are more units, find as many clusters among all of them."""
    from habitus.domain.detectors.kmeans import ClusterDetector
    from habitus.domain.detectors.mllib import centres_among

    kind = cast(type[ClusterDetector], detector_class(name))
    detector = kind.fit(data.training, data.vocabulary, seed)
    fields, units = data.vocabulary.field_names, data.units[TRAINING]
    if units > len(data.training):
        centres = centres_among(data.all_training, detector, fields, units, seed)
        detector = detector.with_centres(centres, data.training)
    return detector.to_files()


def _fit_behaviour(
    context: JobContext,
    data: TrainingData,
    model_id: str,
    tracked: TrackedRun,
    history: list[dict[str, float]],
) -> dict[str, bytes]:
    # TensorFlow takes seconds to import, and the other detectors do without.
    from habitus.domain.models.shape import BehaviourShape
    from habitus.domain.models.training import Plan
    from habitus.edges.feed import Source
    from habitus.edges.ring import launch
    from habitus.edges.training import Task, train_behaviour

    train, seed = context.settings.train, context.settings.seed
    split, fields = data.vocabulary.split, data.vocabulary.field_names
    units = min(data.units[TRAINING], train.epoch_units)
    steps = math.ceil(units / (train.batch_size * train.workers))
    task = Task(
        model_id=model_id,
        root=context.lake.root,
        vocabulary=data.vocabulary,
        shape=BehaviourShape.of(data.vocabulary, train.behaviour, data.training.context),
        plan=Plan(seed, train.epochs, steps, train.patience, train.learning_rate),
        batch_size=train.batch_size,
        validated=train.epoch_units,
        training=Source(data.files[TRAINING], fields, split.train_from, split.train_until),
        validation=Source(data.files[VALIDATION], fields, split.train_until, split.calibrate_from),
    )

    def report(line: str) -> None:
        epoch = json.loads(line)
        history.append(epoch)
        step = int(epoch["epoch"])
        tracked.metrics({key: value for key, value in epoch.items() if key != "epoch"}, step)
        context.artefacts.write_file(
            f"tensorboard/{model_id}/events.out.tfevents.0.habitus", curves(history)
        )
        context.reporter.say(
            f"epoch {step} of {train.epochs}: {epoch['loss']:.3f} nats per event, "
            f"{epoch['validation_loss']:.3f} on validation units"
        )

    return launch(train_behaviour, train.workers, train.start_timeout, context.spark, report, task)


def _calibrate(
    name: str, files: Mapping[str, bytes], data: TrainingData, supervised: bool
) -> tuple[Calibration, dict[str, float]]:
    """Calibrate the detector as scoring will load it."""
    units, segments = data.normal_calibration if supervised else data.calibration
    scores = scores_of(load_detector(name, files, data.vocabulary), units)
    calibration = Calibration.fit(scores, segments.to_numpy())
    figures = {
        "units": float(len(units)),
        "median": float(np.median(scores)),
        "percentile_99": float(np.quantile(scores, 0.99)),
    }
    return calibration, figures


def _card(
    context: JobContext,
    data: TrainingData,
    name: DetectorName,
    model_id: str,
    settings: Mapping[str, Any],
    history: list[dict[str, float]],
    figures: Mapping[str, float],
    weights: str | None,
) -> Card:
    return Card(
        model_id=model_id,
        detector=name,
        unit_kind=data.vocabulary.unit_kind,
        table=context.lake.name(data.table),
        version=data.version,
        fingerprint=data.fingerprint,
        vocabulary_id=data.vocabulary.vocabulary_id,
        units=data.units,
        risk_features=needs_labels(context.settings.features),
        split={key: value.isoformat() for key, value in data.vocabulary.split},
        settings=settings,
        epochs=history,
        calibration=figures,
        labels=data.labels if _is_supervised(name, context.settings) else None,
        weights=weights,
    )
