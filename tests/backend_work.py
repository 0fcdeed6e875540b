"""What the Keras models come to in the backend that this process has.

As a script, `python backend_work.py FILE`, it writes that to a file and says whether TensorFlow was
imported for it.
"""

import sys
from typing import get_args

import keras
import numpy as np
from builders import fine_tune_settings, model_settings, oddities, units, vocabulary

from habitus.domain.models import behaviour
from habitus.domain.models.batches import batch_of, pooled
from habitus.domain.models.classifier import Classifier, Examples
from habitus.domain.models.shape import Array, BehaviourShape
from habitus.setting_types import BodyName


def figures() -> dict[str, Array]:
    """What each model predicts after a step from weights that no backend drew."""
    found = {}
    for body in get_args(BodyName):
        for part, logits in enumerate(_behaviour(_shape(body))):
            found[f"{body} {part}"] = logits
    return found | {"classifier": _classifier(_shape("lstm"))}


def _shape(body: BodyName) -> BehaviourShape:
    words = vocabulary()
    return BehaviourShape.of(words, model_settings(body=body), units(50, 1, words).context)


def _drawn(model: keras.Model) -> None:
    random = np.random.default_rng(1)
    shapes = {name: value.shape for name, value in sorted(behaviour.weights_of(model).items())}
    weights = {name: random.normal(0, 0.3, size) for name, size in shapes.items()}
    behaviour.set_weights(model, {name: one.astype(np.float32) for name, one in weights.items()})


def _behaviour(shape: BehaviourShape) -> list[Array]:
    model = behaviour.build(shape, 1)
    _drawn(model)
    batch = batch_of(units(12, 2, vocabulary()), shape)
    losses = [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        for _ in shape.fields
    ]
    optimizer = keras.optimizers.Adam(0.01, global_clipnorm=behaviour.CLIP)
    # As in training, where TensorFlow does without XLA.
    model.compile(optimizer, losses, jit_compile=keras.backend.backend() != "tensorflow")
    given = [batch.tokens, batch.context]
    model.train_on_batch(given, [batch.tokens[:, :, i] for i in range(len(shape.fields))])
    return [np.asarray(one) for one in model.predict_on_batch(given)]


def _classifier(shape: BehaviourShape) -> Array:
    some = oddities(40, 3, vocabulary())  # of one length, so that little is compiled
    random = np.random.default_rng(4)
    numbers = random.normal(size=(len(some), 3)).astype(np.float32)
    truth = (numbers[:, 0] > 0).astype(np.float32)
    every = Examples(some, numbers, truth, np.ones(len(some), dtype=np.float32))
    settings = fine_tune_settings(
        epochs=6, batch_size=40, dropout=0.0, frozen=("context_dense",), body_learning_rate=0.001
    )
    weights = behaviour.weights_of(behaviour.build(shape, 1))
    net = Classifier(shape, numbers.shape[1], settings, weights)
    _drawn(net.model)
    given = [*pooled(batch_of(some, shape), some.lengths, shape), numbers]
    net.model.train_on_batch(given, truth[:, None], every.counts)
    logits = net.logits(every).astype(np.float32)
    net.train(every, every, 5)
    learned = net.logits(every)
    assert learned[truth > 0].mean() > learned[truth == 0].mean() + 1, "nothing was learned"
    return logits


if __name__ == "__main__":
    np.savez(sys.argv[1], **figures())
    print("TensorFlow" if "tensorflow" in sys.modules else keras.backend.backend())
