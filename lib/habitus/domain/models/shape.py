"""What the behaviour language model is made of: fields, sizes and the scale of its context."""

from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from habitus.domain.units import Floats, Units
from habitus.domain.vocabulary import Vocabulary
from habitus.errors import TrainingError
from habitus.model_settings import BehaviourSettings, ConvolutionSettings, TransformerSettings
from habitus.setting_types import BodyName

ACTION = "action"
ATTENDED = 256  # a unit's positions beyond which attention takes more memory than all the rest

Array = npt.NDArray[np.float32]


class ContextScale(BaseModel):
    """Mean and standard deviation of the context's features after a signed log1p.

    Args:
        mean: [C] per feature, over the units that have it.
        deviation: [C] likewise; 1 where a feature does not vary.
    """

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, context: Floats) -> "ContextScale":
        """Measure [N, C] raw features; NaN where a unit has no history."""
        present = np.isfinite(context)
        logs = np.where(present, np.sign(context) * np.log1p(np.abs(context)), 0.0)
        count = np.maximum(present.sum(axis=0), 1)
        mean = logs.sum(axis=0, dtype=np.float64) / count
        spread = np.where(present, logs - mean, 0.0)
        deviation = np.sqrt((spread**2).sum(axis=0) / count)
        return cls(
            mean=tuple(mean.tolist()),
            deviation=tuple(np.where(deviation > 1e-6, deviation, 1.0).tolist()),
        )


class BehaviourShape(BaseModel):
    """Everything about the model that is not a weight.

    Args:
        fields: Names of the fields, `action` first.
        sizes: Tokens of each field, padding included, in the same order.
        context: Names of the features that the model conditions on.
        columns: Where these are among the context features of the units.
        scale: Scale of these features.
        ends: Whether the end of a closed unit is predicted too, as the action `end`.
        body: What reads the events before.
        cnn_lstm: What it has before its LSTM, if it is that.
        transformer: What it is made of, if it is that.
        embedding: Width of a field's embedding; less for fields with fewer tokens.
        tied_embeddings: Whether a field's logits come from its embedding.
        hidden: Width of the body and of the layer between it and the other fields.
        dropout: Dropout before the output heads, and within a Transformer.
        counts: Whether units are also judged by how often they do a single thing; sessions only.
        own_habit: Whether units are also asked about as if nothing were known of their users.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[str, ...]
    sizes: tuple[int, ...]
    context: tuple[str, ...]
    columns: tuple[int, ...]
    scale: ContextScale
    ends: bool
    body: BodyName
    cnn_lstm: ConvolutionSettings
    transformer: TransformerSettings
    embedding: int
    tied_embeddings: bool
    hidden: int
    dropout: float
    counts: bool
    own_habit: bool

    @model_validator(mode="after")
    def _action_comes_first(self) -> "BehaviourShape":
        if not self.fields or self.fields[0] != ACTION or len(self.fields) != len(self.sizes):
            raise ValueError("the fields start with action and each has a size")
        return self

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, settings: BehaviourSettings, context: Floats
    ) -> "BehaviourShape":
        """The shape for this vocabulary, with the scale of a sample's raw context [N, C].

        Raises:
            TrainingError: Units are to be judged by their user's habit, and no feature tells it.
        """
        columns = [
            column
            for column, name in enumerate(vocabulary.context)
            if any(fnmatchcase(name, pattern) for pattern in settings.context)
        ]
        if settings.own_habit and not columns:
            named = ", ".join(settings.context) or "empty"
            problem = f"no feature for own_habit: context is {named}"
            mend = "Name features of the user in context, or set own_habit to false."
            raise TrainingError("train.behaviour", problem, mend)
        others = [name for name in vocabulary.field_names if name != ACTION]
        fields = (ACTION, *others)
        return cls(
            fields=fields,
            sizes=tuple(vocabulary.field(name).size for name in fields),
            context=tuple(vocabulary.context[column] for column in columns),
            columns=tuple(columns),
            scale=ContextScale.fit(context[:, columns]),
            ends=vocabulary.unit_kind == "session",
            body=settings.body,
            cnn_lstm=settings.cnn_lstm,
            transformer=settings.transformer,
            embedding=settings.embedding,
            tied_embeddings=settings.tied_embeddings,
            hidden=settings.hidden,
            dropout=settings.dropout,
            counts=settings.counts and vocabulary.unit_kind == "session",
            own_habit=settings.own_habit,
        )

    @property
    def end(self) -> int:
        """The token of the action that ends a unit."""
        return self.sizes[0]

    @property
    def predicted(self) -> tuple[int, ...]:
        """How many tokens each field is predicted among: the action also among the end."""
        return (self.end + 1, *self.sizes[1:])

    @property
    def embeddings(self) -> tuple[int, ...]:
        """Width of each field's embedding."""
        return tuple(min(self.embedding, size) for size in self.sizes)

    @property
    def heads(self) -> tuple[int, ...]:
        """How wide the head of each field is: its logits, or what they come from."""
        return self.embeddings if self.tied_embeddings else self.predicted

    @property
    def features(self) -> int:
        """How many features the model conditions on."""
        return len(self.columns)

    def lengths(self, units: Units) -> npt.NDArray[np.int64]:
        """[N] positions of each unit: its events, and its end where that is predicted."""
        return units.lengths + (units.closed if self.ends else 0)

    def load(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[N] how many positions take as much memory as a unit of each of [N] lengths."""
        if self.body == "transformer":
            return np.maximum(lengths, lengths**2 // ATTENDED)
        return lengths
