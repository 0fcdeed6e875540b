"""How each kind of detector is fitted, and what its card is to tell of that."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, cast

from habitus.domain.detectors import CLUSTERS, SUPERVISED, detector_class, load_detector
from habitus.domain.detectors.base import Detector
from habitus.domain.detectors.ensemble import EnsembleDetector
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.selection import Importance, selected
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.tracking import TrackedRun, curves
from habitus.jobs.frame import JobContext
from habitus.jobs.training_data import TRAINING, VALIDATION, TrainingData
from habitus.setting_types import DetectorName

if TYPE_CHECKING:
    from habitus.edges.training import Task

_IN_KERAS = frozenset({"behaviour", "autoencoder", "fine_tuned"})


class _OnUnits(Detector, Protocol):
    """A detector that is fitted in one process, perhaps with settings for that."""

    @classmethod
    def fit(cls, units: Units, vocabulary: Vocabulary, seed: int, *settings: object) -> Self: ...


class _OnLabels(Detector, Protocol):
    """A detector that is fitted on labels, perhaps going on from another with settings for that."""

    @classmethod
    def fit(
        cls, labelled: Labelled, vocabulary: Vocabulary, seed: int, *others: object
    ) -> Self: ...


@dataclass(frozen=True)
class Fitted:
    """What fitting came to.

    Args:
        files: The detector's.
        epochs: Losses of each epoch, where there are epochs.
        weights: How the members of an ensemble were weighed.
        importances: What each feature is worth, where features were selected.
        dropped: The features that were then left out.
    """

    files: dict[str, bytes]
    epochs: list[dict[str, float]] = field(default_factory=list)
    weights: str | None = None
    importances: tuple[Importance, ...] = ()
    dropped: tuple[str, ...] = ()


def fitted(
    context: JobContext,
    data: TrainingData,
    name: DetectorName,
    model_id: str,
    members: Mapping[str, str],
    tracked: TrackedRun,
) -> Fitted:
    """Fit a detector.

    Args:
        context: The job.
        data: What it learns from.
        name: Which detector.
        model_id: What it will be called.
        members: Model ids, by name, of those that it is made of or goes on from, stored by now.
        tracked: Is told of epochs as they come.
    """
    if name in _IN_KERAS:
        # TensorFlow takes seconds to import, and the other detectors do without.
        from habitus.edges.gpu import use_one_gpu

        use_one_gpu()
    if name == "behaviour":
        return _behaviour(context, data, model_id, tracked)
    if name == "ensemble":
        return _ensemble(context, data, members)
    if name in CLUSTERS:
        return _clusters(name, data, context.settings.seed)
    if name in SUPERVISED:
        return _supervised(context, name, data, members)
    seed, ecod = context.settings.seed, context.settings.train.ecod
    kind = cast(type[_OnUnits], detector_class(name))
    more = (ecod,) if name == "ecod" else ()
    return Fitted(kind.fit(data.training, data.vocabulary, seed, *more).to_files())


def _supervised(
    context: JobContext, name: DetectorName, data: TrainingData, members: Mapping[str, str]
) -> Fitted:
    train, seed = context.settings.train, context.settings.seed
    kind = detector_class(name)
    if name == "fine_tuned":
        from habitus.edges.training import repeatable

        repeatable()
    others = (*_loaded(context, data, members).values(), train.fine_tune) if members else ()

    def fit(labelled: Labelled) -> Detector:
        return cast(type[_OnLabels], kind).fit(labelled, data.vocabulary, seed, *others)

    if not train.select_features:
        return Fitted(fit(data.labelled).to_files())
    detector, importances, dropped = selected(
        fit, data.labelled, data.validation, data.vocabulary, seed
    )
    context.reporter.say(f"features dropped: {', '.join(dropped) or 'none'}")
    return Fitted(detector.to_files(), importances=importances, dropped=dropped)


def _ensemble(context: JobContext, data: TrainingData, members: Mapping[str, str]) -> Fitted:
    ensemble = EnsembleDetector.fit(
        _loaded(context, data, members), data.validation, data.vocabulary
    )
    weights = ensemble.combination.in_words()
    context.reporter.say(weights)
    return Fitted(ensemble.to_files(), weights=weights)


def _loaded(
    context: JobContext, data: TrainingData, members: Mapping[str, str]
) -> dict[str, Detector]:
    return {
        name: load_detector(name, context.artefacts.read(model_id), data.vocabulary)
        for name, model_id in members.items()
    }


def _clusters(name: DetectorName, data: TrainingData, seed: int) -> Fitted:
    """Fit on a sample; if there are more units, find as many clusters among all of them."""
    from habitus.domain.detectors.kmeans import ClusterDetector
    from habitus.domain.detectors.mllib import centres_among

    kind = cast(type[ClusterDetector], detector_class(name))
    detector = kind.fit(data.training, data.vocabulary, seed)
    fields, units = data.vocabulary.field_names, data.units[TRAINING]
    if units > len(data.training):
        centres = centres_among(data.all_training, detector, fields, units, seed)
        detector = detector.with_centres(centres, data.training)
    return Fitted(detector.to_files())


def _behaviour(
    context: JobContext, data: TrainingData, model_id: str, tracked: TrackedRun
) -> Fitted:
    from habitus.edges.ring import Processes, launch
    from habitus.edges.training import train_behaviour

    train = context.settings.train
    history: list[dict[str, float]] = []

    def report(line: str) -> None:
        epoch = json.loads(line)
        if "note" in epoch:
            context.reporter.say(epoch["note"])
            return
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

    def on_restart(why: str) -> None:
        # The work reports the epochs before the break again.
        history.clear()
        context.reporter.say(why)

    processes = Processes(train.workers, train.start_timeout, train.restarts)
    task = behaviour_task(context, data, model_id)
    files = launch(train_behaviour, processes, context.spark, report, on_restart, task)
    return Fitted(files, epochs=history)


def behaviour_task(context: JobContext, data: TrainingData, model_id: str) -> "Task":
    """What every process that trains the behaviour model is told."""
    from habitus.domain.models.shape import BehaviourShape
    from habitus.domain.models.training import Plan
    from habitus.edges.feed import Source
    from habitus.edges.training import Task

    train = context.settings.train
    split, fields = data.vocabulary.split, data.vocabulary.field_names
    units = min(data.units[TRAINING], train.epoch_units)
    steps = math.ceil(units / (train.batch_size * train.workers))
    return Task(
        model_id=model_id,
        root=context.lake.root,
        vocabulary=data.vocabulary,
        shape=BehaviourShape.of(data.vocabulary, train.behaviour, data.training.context),
        plan=Plan(
            context.settings.seed,
            train.epochs,
            steps,
            train.patience,
            train.scaled_learning_rate,
        ),
        precision=train.precision,
        batch_size=train.batch_size,
        validated=train.epoch_units,
        training=Source(data.files[TRAINING], fields, split.train_from, split.train_until),
        validation=Source(data.files[VALIDATION], fields, split.train_until, split.calibrate_from),
    )
