"""The settings of `habitus volumes`: what is counted, and when it is a shift."""

from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, model_validator

from habitus.setting_types import Frozen


def _with_one(value: tuple[int, ...]) -> tuple[int, ...]:
    if 1 not in value or min(value) < 1:
        raise ValueError("1 must be among the lengths, and none below it")
    return value


def _known_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("no such time zone; write a name like Europe/Berlin or UTC")
    return value


class VolumeSettings(Frozen):
    """How much happens per segment, and when that is a shift."""

    period: Literal["hour", "day"] = Field(description="What volumes are counted by.")
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        description="Whose days and weeks the volumes follow, e.g. Europe/Berlin; periods begin "
        "and end in UTC."
    )
    segments: dict[str, str | None] = Field(
        description="Kind of segment: SQL expression over `events` naming an event's segment. "
        "None leaves a kind out."
    )
    measures: dict[str, str | None] = Field(
        description="What is judged per event, beside the number of events: name: SQL expression "
        "over `events`, summed; a condition is counted. None leaves a measure out."
    )
    minimum_periods: int = Field(
        ge=2,
        description="A segment with events in fewer training periods is counted among others; a "
        "measure that is not 0 in so many is not judged.",
    )
    most_segments: int = Field(ge=1, description="Most segments of a kind with a model each.")
    orders: tuple[tuple[int, int, int], ...] = Field(
        description="ARIMA orders tried for what the season does not explain."
    )
    windows: Annotated[tuple[int, ...], AfterValidator(_with_one)] = Field(
        description="Lengths in periods of the shifts looked for; 1 must be among them."
    )
    false_positive_rate: float = Field(
        gt=0, lt=1, description="Share of a segment's usual periods that may be flagged."
    )

    @property
    def judged(self) -> dict[str, str]:
        """The measures beside the number of events that are not left out."""
        return {name: sql for name, sql in self.measures.items() if sql is not None}

    @model_validator(mode="after")
    def _something_to_judge(self) -> Self:
        if not any(self.segments.values()):
            raise ValueError("volumes.segments names no segment. Add e.g. seller: counterparty_id.")
        taken = {"events", "elsewhere", "segment_kind", "segment", "period_start"}
        if taken & set(self.measures):
            raise ValueError(
                f"a measure cannot be named {min(taken & set(self.measures))}. Rename it."
            )
        return self
