"""Every setting: its type and what it means. The values stand in `conf/base.yaml`."""

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from habitus.alert_settings import AlertSettings, CaseSettings
from habitus.model_settings import TrainSettings, TuneSettings
from habitus.setting_types import (
    Address,
    BlocksOf,
    DetectorName,
    Frozen,
    MemberNames,
    Options,
    Share,
    Time,
    UnitKind,
)
from habitus.unit_settings import FeatureSettings, SequenceSettings, SessionSettings
from habitus.volume_settings import VolumeSettings


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


class UpdateSettings(Frozen):
    """How `sessions` and `features` follow what they are made from."""

    rebuild: bool = Field(
        description="Make all rows anew, also where only some are near what is new."
    )
    lost_history: Literal["rebuild", "refuse"] = Field(
        description="What to do when a table cannot tell what is new: it was overwritten, its rows "
        "were changed, or the files of that time were vacuumed."
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
        description="Detector: id of the model of it that scores, if not the promoted one."
    )
    challengers: tuple[str, ...] = Field(
        description="Ids of models that score beside those, to be compared; they flag nothing."
    )
    unknown_share: Share = Field(
        description="A larger share of events whose actions training did not know, or hardly, is "
        "told of."
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
        description="Histories that features are made of: entity, windows, measures, of, where."
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
