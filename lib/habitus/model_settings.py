"""The settings of fitting: the shape of sequence models, how long they learn, what is tried."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from habitus.errors import nearest
from habitus.setting_types import BodyName, Duration, Frozen, PrecisionName, RateScalingName


class ConvolutionSettings(Frozen):
    """What the body `cnn_lstm` has before its LSTM."""

    layers: int = Field(ge=1, description="Convolutions, one after another.")
    width: int = Field(ge=2, description="Events that a convolution sees: the last ones.")


class TransformerSettings(Frozen):
    """What the body `transformer` is made of."""

    layers: int = Field(ge=1, description="Blocks of attention and a feed-forward part.")
    heads: int = Field(ge=1, description="Heads of an attention; `hidden` is a multiple of them.")


class BehaviourSettings(Frozen):
    """The shape of the behaviour language model."""

    body: BodyName = Field(
        description="What reads the events before: an LSTM, convolutions and an LSTM, or a causal "
        "Transformer, whose memory grows with the square of a unit's length."
    )
    cnn_lstm: ConvolutionSettings
    transformer: TransformerSettings
    embedding: int = Field(ge=1, description="Width of the embedding of each field.")
    tied_embeddings: bool = Field(
        description="Predict each field by its embedding, instead of by weights of their own."
    )
    hidden: int = Field(ge=1, description="Width of the body.")
    context: tuple[str, ...] = Field(
        description="Features of the user's habit that predictions depend on: names, or patterns "
        "like user_*_7d. Not those that an attack itself changes, or it would be foreseen."
    )
    dropout: float = Field(
        ge=0, lt=1, description="Dropout before the output heads, and within a Transformer."
    )
    counts: bool = Field(
        description="Whether sessions are also judged by how rare it is that one does a single "
        "thing so often, which is added to how rare its order is."
    )
    own_habit: bool = Field(
        description="Whether units are also judged by how much less likely they are of their user, "
        "as `context` tells, than of one of whom nothing is known. Scoring takes twice as long."
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        heads = self.transformer.heads
        if self.body == "transformer" and self.hidden % heads:
            raise ValueError(
                f"behaviour.hidden {self.hidden} is no multiple of transformer.heads {heads}. "
                f"Set hidden to {-(-self.hidden // heads) * heads}, or other heads."
            )
        return self

    @property
    def in_use(self) -> dict[str, Any]:
        """The settings that decide something: not those of the other bodies."""
        others = {"cnn_lstm", "transformer"} - {self.body}
        return self.model_dump(mode="json", exclude=others)


class FineTuneSettings(Frozen):
    """How the detector `fine_tuned` goes on from the behaviour model."""

    pretrained: bool = Field(
        description="Start from the behaviour model's weights; else from fresh ones, to compare."
    )
    frozen: tuple[str, ...] = Field(
        description="Layers of the body that stay as they are: names, or patterns like "
        "embedding_*; * for all of them."
    )
    learning_rate: float = Field(gt=0, description="Learning rate of the head.")
    body_learning_rate: float = Field(
        gt=0, description="Learning rate of the body, where it is pre-trained; else the head's."
    )
    epochs: int = Field(ge=1, description="Most epochs.")
    patience: int = Field(ge=1, description="Epochs without progress before a net stops.")
    batch_size: int = Field(ge=1, description="Units per step.")
    hidden: int = Field(ge=1, description="Width of the head's dense layer.")
    dropout: float = Field(ge=0, lt=1, description="Dropout after the head's dense layer.")


class EcodSettings(Frozen):
    """What the detector `ecod` looks at."""

    features: tuple[str, ...] = Field(
        min_length=1,
        description="The counts, amounts, times and features that it looks at: names, or patterns "
        "like user_amount_*; * for all. Each that says nothing hides a little of what others say.",
    )
    power: float = Field(
        ge=1,
        description="Of the norm by which their surprises are added up: 1 finds what shows a "
        "little in many, a larger one what shows in few.",
    )


class TrainSettings(Frozen):
    """How the models are fitted."""

    promote: bool = Field(
        description="Whether a new model scores from then on; if not, `habitus promote` has it "
        "score, and score.challengers may name it until then."
    )
    workers: int = Field(ge=1, description="Training processes; more than 1 go through Horovod.")
    start_timeout: Duration = Field(description="How long workers may take to start.")
    restarts: int = Field(
        ge=0, description="How often workers start again from the last epoch when one is lost."
    )
    epochs: int = Field(ge=1, description="Most epochs.")
    epoch_units: int = Field(
        ge=1,
        description="Most units of an epoch, each of which takes others, and of a validation, "
        "which takes the same each time.",
    )
    patience: int = Field(ge=1, description="Epochs without progress before training stops.")
    batch_size: int = Field(ge=1, description="Units per step and worker.")
    learning_rate: float = Field(
        gt=0,
        description="Highest learning rate of one worker, reached after a tenth of the steps; "
        "from there cosine decay to a tenth of it.",
    )
    learning_rate_scaling: RateScalingName = Field(
        description="How the learning rate follows the global batch, which grows with `workers`: "
        "by its square root, as fits Adam (Malladi et al. 2022, On the SDEs and scaling rules for "
        "adaptive gradient algorithms), in proportion to it, as fits SGD (Goyal et al. 2017, "
        "Accurate, large minibatch SGD, section 2.1), or not at all."
    )
    precision: PrecisionName = Field(
        description="What the behaviour model computes in while it learns; its weights are always "
        "float32. mixed_bfloat16 is for processors that multiply such numbers faster; float16, "
        "whose range is narrower, would need its loss scaled lest small gradients become 0."
    )
    minimum_units: int = Field(ge=1, description="Fewer training units than this are refused.")
    sample: int = Field(
        ge=1, description="Most units read by detectors that are fitted in one process."
    )
    select_features: bool = Field(
        description="Whether detectors that learn from labels are fitted again without the "
        "features that tell them nothing of validation units."
    )
    ecod: EcodSettings
    behaviour: BehaviourSettings
    fine_tune: FineTuneSettings

    @property
    def scaled_learning_rate(self) -> float:
        """The highest learning rate of so many workers."""
        powers = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}
        return float(self.learning_rate * self.workers ** powers[self.learning_rate_scaling])


class Span(Frozen):
    """Numbers that a setting may be."""

    low: float = Field(description="The lowest.")
    high: float = Field(description="The highest.")
    log: bool = Field(description="Whether they are drawn evenly by their logarithm.")

    def holds(self, value: object) -> bool:
        """Whether a value is one of them."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError("low must be at most high, and above 0 where log is true")
        return self


class Choices(Frozen):
    """Values that a setting may be."""

    choices: tuple[str | bool | int | float, ...] = Field(min_length=1, description="All of them.")

    def holds(self, value: object) -> bool:
        """Whether a value is one of them."""
        return value in self.choices


class TuneSettings(Frozen):
    """How settings of the behaviour model are searched for."""

    trials: int = Field(ge=1, description="How many settings are tried, today's first.")
    epochs: int = Field(ge=1, description="Most epochs of a trial.")
    ranges: dict[str, Span | Choices | None] = Field(
        description="What each of the settings named may be; none: it stays as it is."
    )

    @field_validator("ranges", mode="before")
    @classmethod
    def _of_one_kind(cls, value: object) -> object:
        """Settings that lie over others may leave a range with what both kinds have."""
        if not isinstance(value, dict):
            return value
        found: dict[str, object] = {}
        for name, one in value.items():
            found[name] = one
            if isinstance(one, dict):
                given = {key: of for key, of in one.items() if of is not None}
                known = [*Span.model_fields, *Choices.model_fields]
                if unknown := sorted(given.keys() - known):
                    raise ValueError(
                        f"tune.ranges.{name} has no {unknown[0]!r}. {nearest(unknown[0], known)}"
                    )
                others = ", ".join(sorted(given.keys() - {"choices"}))
                if "choices" in given and others:
                    raise ValueError(
                        f"tune.ranges.{name} has choices and {others}, and may have one or the "
                        "other. Set what it should not have to null."
                    )
                found[name] = given
        return found

    @property
    def searched(self) -> dict[str, Span | Choices]:
        """The ranges of the settings that do not stay as they are."""
        return {name: one for name, one in self.ranges.items() if one is not None}

    @model_validator(mode="after")
    def _something_to_search(self) -> Self:
        if not self.searched:
            raise ValueError("ranges leaves nothing to search. Give a range.")
        return self
