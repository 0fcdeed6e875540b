"""From `sequences` to models: fitted, calibrated, stored and, unless told not to, made current."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from habitus.config import Settings
from habitus.domain.calibration import Calibration
from habitus.domain.detectors import SUPERVISED, load_detector
from habitus.domain.features import needs_labels
from habitus.domain.models.card import Card
from habitus.domain.scoring import scores_of
from habitus.edges.tracking import track
from habitus.jobs.fitting import Fitted, fitted
from habitus.jobs.frame import JobContext
from habitus.jobs.promote import promote_newest
from habitus.jobs.training_data import TrainingData
from habitus.setting_types import DetectorName

# To be raised when what a model's files hold, or how they are made, changes.
_FORMAT = 13


def run(context: JobContext) -> None:
    """Fit and calibrate every detector that is not there yet for these settings and this data."""
    data = TrainingData(context)
    data.refuse_too_few()
    for name in sorted(context.settings.detectors, key=_after_those_it_is_made_of):
        settings = _settings_of(name, context, data)
        model_id = _model_id(name, settings, data)
        if context.artefacts.exists(model_id):
            context.reporter.say(f"{model_id} is there already")
        else:
            _train(context, data, name, model_id, settings)
        if context.settings.train.promote:
            promote_newest(context, name, model_id)
        # Only now: until the model is stored and current, a killed run goes on from here.
        context.artefacts.delete(f"checkpoints/{model_id}")


def _after_those_it_is_made_of(name: DetectorName) -> int:
    return {"fine_tuned": 1, "ensemble": 2}.get(name, 0)


def _settings_of(name: DetectorName, context: JobContext, data: TrainingData) -> dict[str, Any]:
    """What decides what a detector learns beside the units; other settings have no effect."""
    settings = context.settings
    train = settings.train.model_dump(mode="json")
    if name == "behaviour":
        idle = {
            "promote",
            "start_timeout",
            "restarts",
            "minimum_units",
            "select_features",
            "fine_tune",
            "ecod",
        }
        if settings.train.workers == 1:
            idle.add("learning_rate_scaling")
        learning = {key: value for key, value in train.items() if key not in idle}
        learning["behaviour"] = settings.train.behaviour.in_use
    else:
        learning = {"sample": train["sample"]}
    if name == "ensemble" or name in SUPERVISED:
        learning["labels"] = data.labels.fingerprint
    if name in SUPERVISED:
        learning["select_features"] = train["select_features"]
    if name == "ecod":
        learning["ecod"] = train["ecod"]
    if name == "fine_tuned":
        learning["fine_tune"] = train["fine_tune"]
    learning["format"] = _FORMAT
    found = {"seed": settings.seed, "segments": list(settings.segments)} | {
        f"train.{key}": value for key, value in sorted(learning.items())
    }
    members = list(_members(name, context, data).values())
    return found | {"members": members} if members else found


def _members(name: DetectorName, context: JobContext, data: TrainingData) -> dict[str, str]:
    """The models that one with these settings is made of or goes on from, by detector."""
    names: tuple[DetectorName, ...] = ()
    if name == "ensemble":
        names = context.settings.ensemble.members
    elif name == "fine_tuned":
        names = ("behaviour",)
    return {name: _model_id(name, _settings_of(name, context, data), data) for name in names}


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
    with (
        context.reporter.step(f"train {model_id}"),
        track(context.settings.tracking, context.lake.root, model_id, tags, settings) as tracked,
    ):
        members = _members(name, context, data)
        found = fitted(context, data, name, model_id, members, tracked)
        supervised = _is_supervised(name, context.settings)
        calibration, figures = _calibrate(name, found.files, data, supervised)
        if context.settings.segments:
            context.reporter.say(calibration.in_words())
        card = _card(context, data, name, model_id, settings, found, calibration, figures)
        context.artefacts.write(
            model_id,
            {
                **found.files,
                "vocabulary.json": data.vocabulary.model_dump_json(indent=1).encode(),
                "calibration.json": calibration.model_dump_json().encode(),
                "settings.json": context.settings.model_dump_json(by_alias=True, indent=1).encode(),
                "card.json": card.model_dump_json(indent=1).encode(),
                "card.md": card.to_markdown().encode(),
            },
        )
        tracked.metrics({f"calibration_{key}": value for key, value in figures.items()})
        tracked.file("card.md", card.to_markdown())


def _calibrate(
    name: str, files: Mapping[str, bytes], data: TrainingData, supervised: bool
) -> tuple[Calibration, dict[str, float]]:
    """Calibrate the detector as scoring will load it."""
    units, segments = data.normal_calibration if supervised else data.calibration
    scores = scores_of(load_detector(name, files, data.vocabulary), units)
    calibration = Calibration.fit(scores, segments)
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
    found: Fitted,
    calibration: Calibration,
    figures: Mapping[str, float],
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
        epochs=found.epochs,
        calibration=figures,
        segments=calibration.in_words() if context.settings.segments else None,
        labels=data.labels if _is_supervised(name, context.settings) else None,
        weights=found.weights,
        importances=found.importances,
        dropped=found.dropped,
        constant=data.constant,
    )
