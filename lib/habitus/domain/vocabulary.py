"""What the tokens of a sequence mean.

A vocabulary is fitted on training units only, and says so: it carries the time split.
Tokens of a field: 0 is no token and never judged (after a unit's end, the gap before its first
event, the hour of its later ones), 1 is a missing value, 2 a value that training saw rarely or
never, and from 3 on the values themselves, the most frequent first (or bins, in order).
"""

import hashlib
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from habitus.setting_types import UnitKind

PADDING, MISSING, RARE, FIRST_VALUE = 0, 1, 2, 3


class Split(BaseModel):
    """The time split: training, validation, calibration and test follow each other.

    What is before training is history only.
    """

    model_config = ConfigDict(frozen=True)

    train_from: datetime
    train_until: datetime
    calibrate_from: datetime
    validation_until: datetime


class FieldVocabulary(BaseModel):
    """One field's tokens: named values, or bins by their lower bounds."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["values", "bins"]
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    unit: str = ""

    @property
    def size(self) -> int:
        """Number of tokens, padding included."""
        return FIRST_VALUE + (len(self.values) if self.kind == "values" else len(self.bounds) + 1)

    def describe(self, token: int) -> str:
        """The token in words."""
        if token < FIRST_VALUE:
            return {PADDING: "nothing", MISSING: "none", RARE: "a rare or new value"}[token]
        index = token - FIRST_VALUE
        if self.kind == "values":
            return self.values[index]
        low = self.bounds[index - 1] if index else None
        high = self.bounds[index] if index < len(self.bounds) else None
        if low is None:
            text = f"below {high:g}" if high is not None else "any"
        elif high is None:
            text = f"{low:g} or more"
        else:
            text = f"{low:g} to {high:g}"
        return f"{text} {self.unit}".rstrip()


class Vocabulary(BaseModel):
    """All fields' tokens, the names of the context's features, and the split they come from."""

    model_config = ConfigDict(frozen=True)

    unit_kind: UnitKind
    fields: tuple[FieldVocabulary, ...]
    context: tuple[str, ...]
    split: Split

    @property
    def vocabulary_id(self) -> str:
        """Fingerprint of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the token arrays."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> FieldVocabulary:
        """The field of this name."""
        return next(field for field in self.fields if field.name == name)
