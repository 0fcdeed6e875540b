"""The behaviour model trained on units in memory, by the loop that a training process runs."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from habitus.domain.detectors.behaviour import BehaviourDetector
from habitus.domain.models import behaviour
from habitus.domain.models.batches import Batch, by_length, shuffled
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.models.training import Plan, fit
from habitus.domain.units import Units
from habitus.domain.vocabulary import Vocabulary
from habitus.edges.ring import LocalRing
from habitus.loading import load_settings
from habitus.model_settings import BehaviourSettings, TrainSettings

BUFFERED = 64  # batches that are shuffled together
HELD_OUT = 20_000  # validation units that tell what is normal


@dataclass(frozen=True)
class Learning:
    """How long and how fast the model learns, and what it is made of."""

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    behaviour: BehaviourSettings

    @classmethod
    def of(cls, train: TrainSettings) -> "Learning":
        """As settings have it."""
        many = train.epochs, train.patience, train.batch_size
        return cls(*many, train.learning_rate, train.behaviour)

    @classmethod
    def default(cls) -> "Learning":
        """As conf/base.yaml has it, without context: data without times have no features."""
        train = load_settings(None).train
        body = train.behaviour.model_copy(update={"context": ()})
        return replace(cls.of(train), behaviour=body)


def trained(
    training: Units, validation: Units, vocabulary: Vocabulary, seed: int, learning: Learning
) -> BehaviourDetector:
    """The behaviour model, its best weights by validation units."""
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    shape = BehaviourShape.of(vocabulary, learning.behaviour, training.context)
    size = learning.batch_size
    buffer = min(BUFFERED * size, len(training))

    def parts(epoch: int) -> Iterator[Units]:
        random = np.random.default_rng((seed, epoch))
        while True:
            order = random.permutation(len(training))
            yield from (
                training.take(order[start : start + buffer])
                for start in range(0, len(order), buffer)
            )

    def batches(epoch: int) -> Generator[Batch]:
        return shuffled(parts(epoch), size, buffer, shape, (seed, epoch))

    def judged() -> Iterator[Batch]:
        return (batch for _, batch in by_length(validation, size, shape))

    model = behaviour.build(shape, seed)
    steps = len(training) // size
    plan = Plan(seed, learning.epochs, steps, learning.patience, learning.learning_rate)
    fit(model, plan, batches, judged, LocalRing())
    some = np.random.default_rng(seed).permutation(len(validation))[:HELD_OUT]
    return detector_of(model, shape, vocabulary, validation.take(some))
