"""The behaviour model's body fine-tuned on labels."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import fine_tune_settings, model_settings, oddities, together, units, vocabulary

from habitus.domain.detectors.fine_tuned import FineTunedDetector
from habitus.domain.detectors.labelled import Labelled
from habitus.domain.detectors.summary import summarise
from habitus.domain.models import behaviour
from habitus.domain.models.onnx_export import detector_of
from habitus.domain.models.shape import BehaviourShape
from habitus.domain.units import Units
from habitus.errors import ArtefactError
from habitus.setting_types import UnitKind

pytestmark = pytest.mark.train


@cache
def fitted(kind: UnitKind) -> FineTunedDetector:
    """Where it is the order of events that sets anomalous units apart: they begin with the end."""
    words = vocabulary(kind)
    every = together(units(200, 6, words), backwards(units(60, 7, words)))
    known = Labelled(every, np.arange(260) >= 200, np.ones(260), np.arange(260) // 4)
    some = units(50, 1, words)
    shape = BehaviourShape.of(words, model_settings(), some.context)
    body = detector_of(behaviour.build(shape, 7), shape, words, some)
    return FineTunedDetector.fit(
        known, words, 7, body, fine_tune_settings(epochs=5, learning_rate=0.02)
    )


def backwards(some: Units) -> Units:
    """The same events of each unit in the other order."""
    order = some.offsets[:-1][some.unit_of_event] + some.offsets[1:][some.unit_of_event]
    order = order - 1 - np.arange(some.offsets[-1])
    tokens = {name: values[order] for name, values in some.tokens.items()}
    return replace(some, tokens=tokens, amounts=some.amounts[order], gaps=some.gaps[order])


def test_the_order_of_events_is_learned_and_events_are_reasons() -> None:
    words = vocabulary()
    usual, odd = units(100, 8, words), backwards(units(20, 9, words))
    detector = fitted("session")

    assert np.median(detector.score(odd)) > np.quantile(detector.score(usual), 0.95)
    reasons = detector.explain(odd, 5)
    assert any(one.event_index is not None for unit in reasons for one in unit)
    for unit, length in zip(reasons, odd.lengths, strict=True):
        for one in unit:
            assert one.event_index is None or (
                0 <= one.event_index < length and one.field in words.field_names
            )


def test_a_number_is_worth_what_is_lost_when_it_is_as_usual() -> None:
    detector, odd = fitted("session"), oddities(1, 10, vocabulary())
    matrix, features = summarise(odd, vocabulary())
    usual = matrix.copy()
    names = [feature.name for feature in features]
    column = names.index("number of pay")
    usual[0, column] = detector._about.usual.medians[column]

    units_of, rows = detector._with_usual_numbers(odd, matrix, features)

    expected = detector._log_odds(odd, usual)
    np.testing.assert_allclose(detector._log_odds(units_of, rows)[column], expected, atol=1e-5)
    # What the body reads too is not known to it either.
    read = names.index("user_count_1_day")
    assert np.isnan(units_of.context[read, 0])
    assert np.isnan(units_of.context).sum() == 2


def test_nets_of_other_numbers_are_refused() -> None:
    files = fitted("session").to_files()
    about = json.loads(files["fine_tuned.json"])
    about["means"] = about["means"][1:]
    files["fine_tuned.json"] = json.dumps(about).encode()

    with pytest.raises(ArtefactError, match=r"net-0\.onnx: a net of 336 numbers, not of 335"):
        FineTunedDetector.from_files(files, vocabulary())
