"""The settings of what units are: sessions, their features and their sequences."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from habitus.setting_types import Duration, EntityName, FieldName, Frozen, MeasureName


def _with_action(value: tuple[str, ...]) -> tuple[str, ...]:
    if "action" not in value or len(set(value)) < len(value):
        raise ValueError("`action` must be among the fields, and no field twice")
    return value


class SessionSettings(Frozen):
    """What a session is."""

    gap: Duration = Field(description="A longer pause than this starts a new session.")
    by: Literal["gap", "hint", "both"] = Field(
        description="Split at gaps, at the source's own session id, or at either."
    )
    max_events: int = Field(ge=2, description="Events after which a session is closed.")
    max_duration: Duration = Field(description="Duration that no session is longer than.")

    @model_validator(mode="after")
    def _no_session_is_shorter_than_a_pause(self) -> Self:
        if self.max_duration < max(self.gap, timedelta(seconds=1)):
            raise ValueError("max_duration must be at least as long as gap, and a second")
        return self


class FeatureSettings(Frozen):
    """One entity's history: every measure over every window becomes one feature."""

    entity: EntityName | tuple[EntityName, EntityName] = Field(
        description="Whose history is summarised; of two, that of the pair."
    )
    windows: tuple[Duration, ...] = Field(min_length=1, description="How far back to look.")
    measures: tuple[MeasureName, ...] = Field(
        min_length=1,
        description="Of the entity's events: count; sum, mean, median and max of the amount; peak, "
        "max / median; how many "
        "distinct values `of` has, and their entropy; share of the events that `where` describes; "
        "since_last, the seconds since the last; new, whether there was none; zscore of the unit's "
        "amount among those before, its ratio to their mean, what multiple of their median it is. "
        "Of the labels known by then: risk, the share that says anomalous; anomalies, how many do, "
        "anomalous_mean, the mean amount of these; since_anomaly, since_first_anomaly, seconds "
        "since.",
    )
    of: EntityName | Literal["action", "category", "outcome", "channel"] | None = Field(
        default=None, description="What `distinct` and `entropy` are of."
    )
    where: dict[Literal["action", "category", "outcome", "channel"], str] = Field(
        default={}, description="Count only events with these values, e.g. {outcome: failure}."
    )

    @property
    def entities(self) -> tuple[EntityName, ...]:
        """The entity, or the two of a pair."""
        return (self.entity,) if isinstance(self.entity, str) else self.entity

    @model_validator(mode="after")
    def _measures_have_what_they_need(self) -> Self:
        if len(set(self.entities)) < len(self.entities):
            raise ValueError(f"a pair of {self.entities[0]} and itself. Name two entities.")
        of_values = {"distinct", "entropy"} & set(self.measures)
        if of_values and self.of is None:
            raise ValueError(f"{min(of_values)} of what is not said. Add e.g. `of: device`.")
        if self.of is not None and (not of_values or self.of in self.entities):
            raise ValueError(
                f"`of: {self.of}` needs the measure distinct or entropy, and another entity."
            )
        if "share" in self.measures and not self.where:
            raise ValueError("share of what is not said. Add e.g. `where: {outcome: failure}`.")
        return self


class SequenceSettings(Frozen):
    """How events become tokens."""

    fields: Annotated[tuple[FieldName, ...], AfterValidator(_with_action)] = Field(
        description="What is encoded of each event; `action` must be among them."
    )
    vocabulary_size: int = Field(
        ge=4, description="Values kept per field, the most frequent first."
    )
    rare_below: int = Field(
        ge=1, description="Values seen less often than this in training count as rare."
    )
    bins: int = Field(ge=2, description="Quantile bins of a numeric field.")
    history: int = Field(
        ge=1,
        description="Events that an event unit is judged by, itself included; and those before a "
        "cut that a part of a session begins with.",
    )
