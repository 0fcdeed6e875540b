"""The source mapping: which columns of a source make an event, and what is valid."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from habitus.errors import SettingsError, nearest
from habitus.loading import parse, read_yaml
from habitus.setting_types import Duration, Frozen
from habitus.tables import EVENTS, LABELS

REQUIRED = ("user_id", "event_time", "action")
_GIVEN = tuple(name for name in EVENTS.names if name not in ("source", "ingested_at", "event_date"))
_LABEL_GIVEN = tuple(name for name in LABELS.names if name != "source")


class LabelMapping(Frozen):
    """Labels that stand in the events' own rows."""

    unit_kind: Literal["event", "session", "user"] = Field(
        description="What the label is about; a session is the source's, and marked by its events."
    )
    value: str = Field(description="Whether the row is anomalous.")
    kind: str = Field(default="null", description="Kind of anomaly.")
    known_after: Duration = Field(description="How long after the event the label is known.")


class LabelFileMapping(Frozen):
    """Labels that come in files of their own."""

    path: str = Field(default="", description="Folder or file, relative to the input.")
    format: str = Field(description="Anything Spark reads.")
    options: dict[str, str] = Field(default_factory=dict, description="Reader options.")
    columns: dict[str, str] = Field(description="Column of `labels`: Spark SQL expression.")


class LabelSourceMapping(Frozen):
    """A source that has labels and nothing else."""

    name: str = Field(description="Name of the source, kept in every label.")
    label_file: LabelFileMapping = Field(description="Its files.")


class SourceMapping(Frozen):
    """How a source's rows become events."""

    name: str = Field(description="Name of the source, kept in every row.")
    format: Literal["csv", "json", "parquet", "delta"] = Field(description="Format of the files.")
    path: str = Field(default="", description="Folder or file, relative to the input.")
    options: dict[str, str] = Field(default_factory=dict, description="Reader options.")
    columns_in: str | None = Field(
        default=None,
        alias="schema",
        description="The source's columns as Spark DDL, where files do not name them.",
    )
    columns: dict[str, str] = Field(
        description="Canonical column: Spark SQL expression over the source's columns."
    )
    valid: dict[str, str] = Field(
        default_factory=dict,
        description="Name of the reason: condition over canonical columns that must hold.",
    )
    label: LabelMapping | None = Field(default=None, description="Labels in the events' rows.")
    label_file: LabelFileMapping | None = Field(default=None, description="Labels in files.")


def load_mapping(path: str) -> SourceMapping:
    """Read and check a source mapping.

    Raises:
        SettingsError: The file is missing, or a key or column name is not known or missing.
    """
    mapping = parse(SourceMapping, read_yaml(Path(path)), path)
    _refuse_unknown(path, "columns", mapping.columns, _GIVEN, REQUIRED)
    if mapping.label_file:
        _refuse_label_columns(path, mapping.label_file)
    return mapping


def load_label_mapping(path: str) -> LabelSourceMapping:
    """Read and check the mapping of a source of labels.

    Raises:
        SettingsError: The file is missing, or a key or column name is not known or missing.
    """
    mapping = parse(LabelSourceMapping, read_yaml(Path(path)), path)
    _refuse_label_columns(path, mapping.label_file)
    return mapping


def _refuse_label_columns(path: str, mapping: LabelFileMapping) -> None:
    required = ("unit_kind", "unit_id", "label", "known_at")
    _refuse_unknown(path, "label_file.columns", mapping.columns, _LABEL_GIVEN, required)


def _refuse_unknown(
    path: str,
    section: str,
    columns: dict[str, str],
    known: tuple[str, ...],
    required: tuple[str, ...],
) -> None:
    for name in columns:
        if name not in known:
            raise SettingsError(path, f"{section} has no {name!r}", nearest(name, known))
    for name in required:
        if name not in columns:
            raise SettingsError(
                path, f"{section} has no {name!r}", "Add it, with an expression that gives it."
            )
