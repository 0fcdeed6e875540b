"""The time split: which units train, validate, calibrate and test."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from habitus.config import SplitSettings
from habitus.domain.totals import totals
from habitus.domain.vocabulary import Split
from habitus.errors import InputError, SettingsError
from habitus.setting_types import UnitKind


def unit_span(sessions: DataFrame, unit_kind: UnitKind) -> tuple[datetime, datetime]:
    """When the first and the last unit end, UTC.

    Raises:
        InputError: There are no sessions.
    """
    # An event is a unit that ends when it happens, so the first one ends as its session starts.
    first = "ended_at" if unit_kind == "session" else "started_at"
    span = totals(sessions, F.min(first).alias("first"), F.max("ended_at").alias("last"))
    if span["first"] is None:
        raise InputError("table sessions", "there are no rows", "Run ingest and sessionize first.")
    return span["first"], span["last"]


def resolve_split(settings: SplitSettings, first: datetime, last: datetime) -> Split:
    """Turn the settings into times.

    A share s means first + s (last - first). Calibration takes the end of the validation span.

    Args:
        settings: Times, or shares of the span.
        first: When the first unit ends.
        last: When the last unit ends.

    Raises:
        SettingsError: A part would end before it begins.
    """

    def resolve(value: datetime | float) -> datetime:
        return value if isinstance(value, datetime) else first + value * (last - first)

    train_from = first if settings.train_from is None else resolve(settings.train_from)
    train_until = resolve(settings.train_until)
    validation_until = resolve(settings.validation_until)
    if train_from >= train_until:
        raise SettingsError(
            "split.train_until",
            f"{settings.train_until} is {train_until.isoformat()}, not after split.train_from, "
            f"which is {train_from.isoformat()}",
            "Set it to a later time or a larger share.",
        )
    if train_until >= validation_until:
        raise SettingsError(
            "split.validation_until",
            f"{settings.validation_until} is {validation_until.isoformat()}, not after "
            f"split.train_until, which is {train_until.isoformat()}",
            "Set it to a later time or a larger share.",
        )
    calibration = settings.calibration_share * (validation_until - train_until)
    return Split(
        train_from=train_from,
        train_until=train_until,
        calibrate_from=validation_until - calibration,
        validation_until=validation_until,
    )


def rolled(split: Split, last: datetime, blocks: int) -> list[tuple[SplitSettings, datetime]]:
    """The split moved on, block by block of the test period, and where each block begins.

    What is learned from grows with it; validation stays as long as it is (Tashman 2000,
    "Out-of-sample tests of forecasting accuracy", rolling origin, recalibrated).

    Args:
        split: As resolved.
        last: When the last unit ends.
        blocks: Blocks of the test period, as long as each other.
    """
    validation = split.validation_until - split.train_until
    calibration = (split.validation_until - split.calibrate_from) / validation
    starts = [
        split.validation_until + (last - split.validation_until) * block / blocks
        for block in range(blocks)
    ]
    return [
        (
            SplitSettings(
                train_from=split.train_from,
                train_until=start - validation,
                validation_until=start,
                calibration_share=calibration,
            ),
            start,
        )
        for start in starts
    ]
