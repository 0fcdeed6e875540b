"""The body of the behaviour model with a head that learns from labels."""

from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
from builders import fine_tune_settings, model_settings, oddities, together, units, vocabulary

from habitus.domain.models import behaviour
from habitus.domain.models.classifier import Classifier, Examples
from habitus.domain.models.onnx_classifier import export
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.units import Units
from habitus.errors import SettingsError, TrainingError
from habitus.setting_types import BodyName, UnitKind

pytestmark = pytest.mark.train

NUMBERS = 3


def shape_of(kind: UnitKind = "session", body: BodyName = "lstm") -> BehaviourShape:
    words = vocabulary(kind)
    return BehaviourShape.of(words, model_settings(body=body), units(50, 1, words).context)


def examples(some: Units, odd: int = 0) -> Examples:
    """Units the last of which are odd, with numbers that tell nothing."""
    count = len(some)
    truth = np.arange(count) >= count - odd
    numbers = np.random.default_rng(1).normal(size=(count, NUMBERS)).astype(np.float32)
    return Examples(some, numbers, truth.astype(np.float32), np.ones(count, dtype=np.float32))


def weights(shape: BehaviourShape, seed: int = 7) -> dict[str, np.ndarray]:
    return behaviour.weights_of(behaviour.build(shape, seed))


def trained(some: Examples, **changes: object) -> Classifier:
    shape = shape_of()
    settings = fine_tune_settings(**({"epochs": 1} | changes))
    one = Classifier(shape, NUMBERS, settings, weights(shape))
    one.train(some, some, 3)
    return one


@cache
def some_examples() -> Examples:
    words = vocabulary()
    return examples(together(units(60, 2, words), oddities(20, 3, words)), odd=20)


@pytest.mark.parametrize(
    ("body", "kind"), [("lstm", "event"), *((body, "session") for body in get_args(BodyName))]
)
def test_what_is_exported_says_what_was_trained_and_hangs_on_the_last_event(
    body: BodyName, kind: UnitKind
) -> None:
    shape = shape_of(kind, body)
    some = examples(units(20, 5, vocabulary(kind)))
    net = Classifier(shape, NUMBERS, fine_tune_settings(), weights(shape))

    assert export(net, some)  # refuses what differs
    tokens = {name: values.copy() for name, values in some.units.tokens.items()}
    last = some.units.offsets[1:] - 1
    tokens["category"][last] = 1 + tokens["category"][last] % 4
    other = replace(some, units=replace(some.units, tokens=tokens))
    assert (np.abs(net.logits(some) - net.logits(other)) > 1e-6).all()


def test_training_begins_with_the_weights_of_the_behaviour_model_if_it_is_to() -> None:
    shape = shape_of()
    found = weights(shape, seed=99)
    starts = {
        pretrained: behaviour.weights_of(
            Classifier(shape, NUMBERS, fine_tune_settings(pretrained=pretrained), found).model
        )
        for pretrained in (True, False)
    }

    assert np.array_equal(starts[True]["lstm/kernel"], found["lstm/kernel"])
    assert not np.array_equal(starts[False]["lstm/kernel"], found["lstm/kernel"])


def test_frozen_layers_stay_as_they_are_and_others_do_not() -> None:
    before = weights(shape_of())
    after = behaviour.weights_of(trained(some_examples(), frozen=("embedding_*",)).model)

    changed = {name for name in after if name in before and (after[name] != before[name]).any()}
    assert {name.split("/")[0] for name in changed} == {"lstm", "context_dense"}


def test_with_all_layers_frozen_the_head_learns() -> None:
    some = some_examples()
    found = trained(some, frozen=("*",), epochs=5, patience=5, learning_rate=0.02)

    after = behaviour.weights_of(found.model)
    assert all(
        (after[name] == of).all() for name, of in weights(shape_of()).items() if name in after
    )
    logits = found.logits(some)
    assert logits[some.truth > 0].mean() > logits[some.truth == 0].mean() + 1


def test_a_loss_that_is_no_number_ends_training_at_its_batch() -> None:
    with pytest.raises(
        TrainingError, match=r"epoch 1, batch \d+ of fine_tuned \(\d+ units, seed 3"
    ):
        trained(some_examples(), learning_rate=1e38)


def test_a_pattern_that_names_no_layer_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'gru' names no layer of the body. Its layers: embed"):
        trained(some_examples(), frozen=("gru",))


def test_a_net_that_was_trained_before_comes_to_the_same_weights() -> None:
    some = some_examples()
    once = trained(some)
    again = trained(some)
    again.train(some, some, 4)
    again.train(some, some, 3)

    for one, two in zip(once.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_kept_is_a_moving_average_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    some = some_examples()
    net = Classifier(shape_of(), NUMBERS, fine_tune_settings(epochs=1), weights(shape_of()))
    learn, steps = net.model.train_on_batch, []

    def one_step(*given: object) -> float:
        loss: float = learn(*given)
        steps.append(net.model.get_weights())
        return loss

    monkeypatch.setattr(net.model, "train_on_batch", one_step)
    net.train(some, some, 3)

    average = steps[0]
    for step in steps[1:]:
        average = [0.99 * one + 0.01 * two for one, two in zip(average, step, strict=True)]
    assert len(steps) > 20
    for one, two in zip(net.model.get_weights(), average, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
