"""From `sequences` to models: fitted, calibrated, stored and made current."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol, Self, cast
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from habitus.config import DetectorName
from habitus.domain.calibration import FEWEST, Calibration
from habitus.domain.detectors import detector_class, load_detector
from habitus.domain.detectors.base import Detector
from habitus.domain.features import needs_labels
from habitus.domain.models.card import Card
from habitus.domain.parts import PARTS, contents, fingerprint, sample, with_part
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.tracking import TrackedRun, curves, track
from habitus.errors import InputError, SettingsError, TrainingError
from habitus.jobs.frame import JobContext
from habitus.tables import sequences

TRAINING, VALIDATION, CALIBRATION = PARTS
_UNITS = ("amounts", "gaps", "context", "scored_from", "closed")


class _Fitted(Detector, Protocol):
    """A detector that is fitted in one process."""

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int) -> Self: ...


def run(context: JobContext) -> None:
    """Fit and calibrate every detector that is not there yet for these settings and this data."""
    data = TrainingData(context)
    data.refuse_too_few()
    for name in context.settings.detectors:
        settings = _settings_of(name, context)
        model_id = _model_id(name, settings, data)
        if context.artefacts.exists(model_id):
            context.reporter.say(f"{model_id} is there already")
        else:
            _train(context, data, name, model_id, settings)
        if context.artefacts.current().get(name) != model_id:
            context.artefacts.set_current(name, model_id)
        # Only now: until the model is stored and current, a killed run goes on from here.
        context.artefacts.delete(f"checkpoints/{model_id}")


class TrainingData:
    """One version of the sequences: its vocabulary, the files of each part, and samples.

    Raises:
        InputError: The table has no row.
    """

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self.table = sequences(context.settings.sequences.fields)
        frame = context.read(self.table)
        self.version = context.inputs[self.table.name]
        known = frame.select("vocabulary_id").first()
        if known is None:
            raise InputError(
                context.lake.name(self.table), "there is no row", "Run `habitus features` first."
            )
        self.vocabulary = context.artefacts.read_vocabulary(known["vocabulary_id"])
        self._parted = with_part(frame, self.vocabulary.split)
        with context.reporter.step("look the sequences over"):
            held = contents(self._parted).collect()  # a row per file and part
            paths = {_base(path): path for path in context.lake.files(self.table, self.version)}
        self.fingerprint = fingerprint(held)
        self.files: dict[str, tuple[tuple[str, int], ...]] = {
            part: tuple(
                sorted((paths[_base(r["file"])], r["units"]) for r in held if r["part"] == part)
            )
            for part in PARTS
        }
        self.units = {part: sum(number for _, number in self.files[part]) for part in PARTS}
        context.rows_in |= {f"{part} units": number for part, number in self.units.items()}

    def refuse_too_few(self) -> None:
        """Stop before anything is trained on next to nothing."""
        least = self._context.settings.train.minimum_units
        place = self._context.lake.name(self.table)
        found = ", ".join(f"{number:,} {part}" for part, number in self.units.items())
        if self.units[TRAINING] < least:
            raise TrainingError(
                place,
                f"{self.units[TRAINING]:,} training units, fewer than train.minimum_units={least}"
                f" ({found})",
                "Ingest more, move split.train_until, or lower train.minimum_units.",
            )
        for part, needed in ((VALIDATION, 1), (CALIBRATION, FEWEST)):
            if self.units[part] < needed:
                raise TrainingError(
                    place,
                    f"{part} needs at least {needed} unit{'s' * (needed > 1)} ({found})",
                    "Move split.train_until, split.validation_until or split.calibration_share.",
                )

    @cached_property
    def training(self) -> Units:
        """A sample of the training units."""
        return self._sampled(TRAINING)[0]

    @cached_property
    def calibration(self) -> tuple[Units, pa.ChunkedArray]:
        """A sample of the calibration units, and the segment of each."""
        return self._sampled(CALIBRATION)

    def _sampled(self, part: str) -> tuple[Units, pa.ChunkedArray]:
        settings = self._context.settings
        fields = self.vocabulary.field_names
        chosen = sample(self._parted, part, self.units[part], settings.train.sample, settings.seed)
        try:
            columns = chosen.select(
                *fields, *_UNITS, F.expr(settings.segment).cast("string").alias("segment")
            )
        except AnalysisException as error:
            raise SettingsError(
                "segment",
                f"{settings.segment!r} is no expression over sequences",
                f"Use the columns {', '.join(self.table.names)}.",
            ) from error
        found = columns.toArrow()
        return Units.from_arrow(found, fields), found.column("segment")


def _settings_of(name: DetectorName, context: JobContext) -> dict[str, Any]:
    """The settings that decide what a detector learns; the others may change without effect."""
    settings = context.settings
    train = settings.train.model_dump(mode="json")
    if name == "behaviour":
        idle = {"start_timeout", "minimum_units"}
        learning = {key: value for key, value in train.items() if key not in idle}
    else:
        learning = {"sample": train["sample"]}
    return {"seed": settings.seed, "segment": settings.segment} | {
        f"train.{key}": value for key, value in sorted(learning.items())
    }


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
    with (
        context.reporter.step(f"train {model_id}"),
        track(context.settings.tracking, context.lake.root, model_id, tags, settings) as tracked,
    ):
        if name == "behaviour":
            files = _fit_behaviour(context, data, model_id, tracked, history)
        else:
            kind = cast(type[_Fitted], detector_class(name))
            fitted = kind.fit(data.training, data.vocabulary, context.settings.seed)
            files = fitted.to_files()
        calibration, figures = _calibrate(name, files, data)
        card = _card(context, data, name, model_id, settings, history, figures)
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
    name: str, files: Mapping[str, bytes], data: TrainingData
) -> tuple[Calibration, dict[str, float]]:
    """Calibrate the detector as scoring will load it."""
    units, segments = data.calibration
    scores = load_detector(name, files, data.vocabulary).score(units)
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
    name: str,
    model_id: str,
    settings: Mapping[str, Any],
    history: list[dict[str, float]],
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
        epochs=history,
        calibration=figures,
    )


def _base(path: str) -> str:
    """The name by which Spark's and delta-rs's spelling of a path agree; unique in a table."""
    return unquote(path).rpartition("/")[2]
