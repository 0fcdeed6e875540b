"""Units and shapes of behaviour models."""

from functools import cache
from typing import get_args

import builders
import pytest

from habitus.domain.models.shape import BehaviourShape
from habitus.domain.units import Units
from habitus.setting_types import BodyName, UnitKind

WORDS = builders.vocabulary()
every_body = pytest.mark.parametrize("body", get_args(BodyName))


@cache
def some_units() -> Units:
    return builders.units(256, 1, WORDS)


def shape_for(
    units: Units,
    kind: UnitKind = "session",
    dropout: float = 0.2,
    body: BodyName = "lstm",
    tied_embeddings: bool = False,
) -> BehaviourShape:
    settings = builders.model_settings(dropout=dropout, body=body, tied_embeddings=tied_embeddings)
    return BehaviourShape.of(builders.vocabulary(kind), settings, units.context)
