"""Types of settings: sections, names to choose from, and durations, times and shares in words."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import pandas as pd
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)


class Frozen(BaseModel):
    """A settings section: immutable, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _duration(value: object) -> object:
    return pd.Timedelta(value).to_pytimedelta() if isinstance(value, str) else value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration must be longer than nothing")
    return value


def _in_words(value: timedelta) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")):
        if value.total_seconds() % unit == 0:
            return f"{int(value.total_seconds() // unit)} {name}"
    return str(value)


def _no_number(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("a time is written like 2026-01-31 or 2026-01-31T12:00:00")
    return value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_positive),
    PlainSerializer(_in_words, when_used="always"),
]
Time = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(_utc)]
Share = Annotated[float, Field(ge=0, le=1)]

# Of an option's name, as Spark itself has it in spark.redaction.regex; and what is told instead.
_SECRET = re.compile(r"(?i)secret|password|token|access[.]?key|credential")
_REDACTED = "(redacted)"


def _without_secrets(options: Mapping[str, str]) -> dict[str, str]:
    return {name: _REDACTED if _SECRET.search(name) else text for name, text in options.items()}


def _without_user(address: str | None) -> str | None:
    return address and re.sub("//[^/@]*@", f"//{_REDACTED}@", address)


# Both are written into tables, models and on screen as JSON, where no secret has a place.
Options = Annotated[dict[str, str], PlainSerializer(_without_secrets, when_used="json")]
Address = Annotated[str | None, PlainSerializer(_without_user, when_used="json")]

UnitKind = Literal["session", "event"]
FieldName = Literal[
    "action",
    "category",
    "outcome",
    "channel",
    "gap",
    "amount",
    "hour",
    "new_device",
    "new_network",
    "new_counterparty",
]
EntityName = Literal["user", "counterparty", "device", "network", "item"]
MeasureName = Literal[
    "count",
    "sum",
    "mean",
    "max",
    "median",
    "peak",
    "distinct",
    "entropy",
    "share",
    "since_last",
    "new",
    "zscore",
    "ratio",
    "multiple",
    "risk",
    "anomalies",
    "anomalous_mean",
    "since_anomaly",
    "since_first_anomaly",
]
BlocksOf = Literal["time", "users"]
Language = Literal["en", "zh"]
PrecisionName = Literal["float32", "mixed_bfloat16"]
RateScalingName = Literal["none", "sqrt", "linear"]
BodyName = Literal["lstm", "cnn_lstm", "transformer"]
DecisionName = Literal["allow", "watch", "challenge", "restrict", "freeze", "block"]
DetectorName = Literal[
    "behaviour",
    "markov",
    "conduct",
    "isolation_forest",
    "autoencoder",
    "count_distance",
    "ecod",
    "kmeans",
    "bisecting_kmeans",
    "gradient_boosting",
    "random_forest",
    "logistic_regression",
    "linear_svm",
    "fine_tuned",
    "ensemble",
]


def _several_others(value: tuple[str, ...]) -> tuple[str, ...]:
    if "ensemble" in value or len(set(value)) < len(value):
        raise ValueError("members are other detectors than the ensemble, none of them twice")
    return value


MemberNames = Annotated[
    tuple[DetectorName, ...], Field(min_length=2), AfterValidator(_several_others)
]
