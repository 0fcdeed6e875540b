"""Every setting: its type and what it means. The values stand in `conf/base.yaml`."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from habitus.alert_settings import AlertSettings, CaseSettings
from habitus.model_settings import TrainSettings, TuneSettings
from habitus.setting_types import (
    Address,
    BlocksOf,
    DetectorName,
    Duration,
    EntityName,
    FieldName,
    Frozen,
    MeasureName,
    MemberNames,
    Options,
    Share,
    Time,
    UnitKind,
)
from habitus.volume_settings import VolumeSettings


def _with_action(value: tuple[str, ...]) -> tuple[str, ...]:
    if "action" not in value or len(set(value)) < len(value):
        raise ValueError("`action` must be among the fields, and no field twice")
    return value


class LakeSettings(Frozen):
    """Where the tables are."""

    root: str = Field(
        description="Folder or URI of the lake: its tables (unless a metastore names them), "
        "model artefacts, reports and MLflow runs."
    )
    catalog: str | None = Field(description="Metastore catalog; none for tables by path.")
    schema_name: str | None = Field(
        alias="schema", description="Metastore schema; none for tables by path."
    )
    compact_above: int = Field(
        gt=0, description="More files than this, if small, are written together after a merge."
    )

    @model_validator(mode="after")
    def _catalog_has_a_schema(self) -> Self:
        if self.catalog is not None and self.schema_name is None:
            raise ValueError(f"lake.catalog {self.catalog!r} has no schema. Set lake.schema too.")
        return self


class SparkSettings(Frozen):
    """The Spark session, where spark-submit has not already decided it."""

    master: str = Field(description="Spark master when not started by spark-submit.")
    driver_memory: str = Field(description="JVM heap of the driver when not spark-submitted.")
    shuffle_partitions: int = Field(
        ge=1, description="Partitions of a shuffle before adaptive execution merges small ones."
    )
    options: Options = Field(description="Further Spark options, by their full names.")


class SimulateSettings(Frozen):
    """The simulated shop."""

    output: str = Field(description="Folder that receives `events/` and `labels/`.")
    start: Time = Field(description="First day.")
    days: int = Field(ge=2, description="Days of traffic.")
    users: int = Field(ge=10, description="Honest shoppers.")
    items: int = Field(ge=10, description="Items in the catalogue.")
    sellers: int = Field(ge=2, description="Sellers, the counterparties of purchases.")
    sessions_per_user_per_day: float = Field(gt=0, description="Mean over shoppers and days.")
    promotion_days: tuple[int, ...] = Field(description="Days, counted from 0, with a promotion.")
    promotion_traffic: float = Field(
        ge=1, description="Traffic of the promotion's peak hours, as a multiple of the usual."
    )
    attack_share: float = Field(ge=0, le=0.5, description="Share of sessions that hold attacks.")
    stealth: Share = Field(description="How far attackers imitate shoppers: 0 not, 1 fully.")
    mess: Share = Field(
        description="Share of rows that are duplicated, late, incomplete, malformed or skewed."
    )

    @field_validator("promotion_days")
    @classmethod
    def _within_the_period(cls, value: tuple[int, ...], others: ValidationInfo) -> tuple[int, ...]:
        if not all(0 <= day < others.data.get("days", day + 1) for day in value):
            raise ValueError("promotions must fall on some of the days, counted from 0")
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


class UpdateSettings(Frozen):
    """How `sessions` and `features` follow what they are made from."""

    rebuild: bool = Field(
        description="Make all rows anew, also where only some are near what is new."
    )
    lost_history: Literal["rebuild", "refuse"] = Field(
        description="What to do when a table cannot tell what is new: it was overwritten, its rows "
        "were changed, or the files of that time were vacuumed."
    )


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


class SplitSettings(Frozen):
    """Which units train, which validate, which test: by time, never at random."""

    train_from: Time | Share | None = Field(
        description="A time, or a share of the time span; earlier units are only history. "
        "None: the first unit."
    )
    train_until: Time | Share = Field(description="A time, or a share of the time span.")
    validation_until: Time | Share = Field(description="A time, or a share of the time span.")
    calibration_share: Share = Field(
        description="Share of the validation span, its end, kept for calibration."
    )


class EnsembleSettings(Frozen):
    """The detector `ensemble`."""

    members: MemberNames = Field(
        description="Detectors that it combines; with `ensemble` among detectors, they must be too."
    )


class ScoreSettings(Frozen):
    """Which units are scored, and by which models."""

    from_time: Time | None = Field(alias="from", description="First time; none: after validation.")
    until: Time | None = Field(description="End time, not included; none: all there is.")
    models: dict[DetectorName, str] = Field(
        description="Detector: id of the model of it that scores, where that is not the newest."
    )
    challengers: tuple[str, ...] = Field(
        description="Ids of models that score beside those, to be compared; they flag nothing."
    )
    unknown_share: Share = Field(
        description="A larger share of events with actions that training did not know is told of."
    )

    @field_validator("models")
    @classmethod
    def _each_of_its_detector(cls, value: dict[DetectorName, str]) -> dict[DetectorName, str]:
        for name, model_id in value.items():
            if model_id.rpartition("-")[0] != name:
                raise ValueError(
                    f"{model_id!r} is no model of {name}: ids of those begin with {name}-"
                )
        return value


class EvaluateSettings(Frozen):
    """How detectors are compared."""

    blocks: int = Field(ge=2, description="Blocks that detectors are compared over.")
    blocks_of: BlocksOf = Field(
        description="What is cut into blocks: the test period's time, or its users."
    )
    refit: bool = Field(
        description="Also compare detectors that are trained for each block anew: on all before a "
        "block of time, or without a block's users. Takes as many trainings as there are blocks."
    )
    bootstrap: int = Field(ge=10, description="Resamples behind each interval.")
    confidence: float = Field(gt=0, lt=1, description="Coverage of each interval.")


class TrackingSettings(Frozen):
    """Where MLflow keeps its runs."""

    uri: Address = Field(description="MLflow tracking URI; none: a local store in the lake.")
    experiment: str = Field(description="Experiment that training runs are filed under.")


class Settings(Frozen):
    """Everything that can be set."""

    seed: int = Field(ge=0, description="Seed of everything random.")
    unit: UnitKind = Field(description="What is judged: sessions, or single events.")
    segments: tuple[str, ...] = Field(
        description="What a unit is compared with: SQL expressions over `sequences`, `first` (the "
        "unit's first event, with its attributes) and the features, that name its segment, then "
        "the segment within that one, and so on; the smallest with enough calibration units is "
        "taken. None: all units."
    )
    detectors: tuple[DetectorName, ...] = Field(
        min_length=1, description="Detectors to fit; the first flags, if alerts.detector is none."
    )
    lake: LakeSettings
    spark: SparkSettings
    simulate: SimulateSettings
    sessions: SessionSettings
    updates: UpdateSettings
    features: tuple[FeatureSettings, ...] = Field(
        description="Histories that features are made of; what each says stands below."
    )
    sequences: SequenceSettings
    split: SplitSettings
    train: TrainSettings
    tune: TuneSettings
    ensemble: EnsembleSettings
    score: ScoreSettings
    alerts: AlertSettings
    cases: CaseSettings
    evaluate: EvaluateSettings
    volumes: VolumeSettings
    tracking: TrackingSettings

    @property
    def flagging_detector(self) -> DetectorName:
        """The detector whose scores are flagged."""
        return self.alerts.detector or self.detectors[0]

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.flagging_detector not in self.detectors:
            raise ValueError(
                f"alerts.detector {self.alerts.detector!r} is not among detectors. "
                f"Name one of {', '.join(self.detectors)}."
            )
        alone = [name for name in self.ensemble.members if name not in self.detectors]
        if "ensemble" in self.detectors and alone:
            raise ValueError(
                f"ensemble.members names {', '.join(alone)}, not among detectors. "
                "Fit them too, or name others."
            )
        if "fine_tuned" in self.detectors and "behaviour" not in self.detectors:
            raise ValueError(
                "fine_tuned goes on from behaviour, which is not among detectors. Fit it too."
            )
        return self
