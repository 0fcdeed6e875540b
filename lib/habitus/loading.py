"""Reading settings: `conf/base.yaml`, then `conf/<env>.yaml`, then `--set key=value`.

The result is frozen. An unknown key is refused with the nearest known name.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from habitus.config import Settings
from habitus.errors import SettingsError, nearest

Model = TypeVar("Model", bound=BaseModel)


def configuration_folder() -> Path:
    """The folder that holds `base.yaml`: $HABITUS_CONF, the checkout's, or the package's."""
    if folder := os.environ.get("HABITUS_CONF"):
        return Path(folder)
    package = Path(__file__).parent
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "base.yaml").exists() else package / "conf"


def load_settings(environment: str | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read the base settings, those of the environment, then `key=value` overrides.

    Raises:
        SettingsError: A file is missing, or a key or value does not fit.
    """
    folder = configuration_folder()
    layers = [folder / "base.yaml"]
    if environment is not None:
        layers.append(folder / f"{environment}.yaml")
    values: dict[str, Any] = {}
    for path in layers:
        values = _merged(values, read_yaml(path))
    for override in overrides:
        values = _merged(values, _nested(override))
    place = " < ".join([*(str(path) for path in layers), *(["--set"] if overrides else [])])
    return parse(Settings, values, place)


def value_at(settings: Settings, key: str, place: str) -> Any:
    """The value of one setting.

    Raises:
        SettingsError: There is no such setting; `place` is where it was named.
    """
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, BaseModel) or part not in type(found).model_fields:
            known = [name for name, _, _ in describe(settings)]
            raise SettingsError(place, f"unknown setting {key!r}", nearest(key, known))
        found = getattr(found, part)
    return found


def changed(settings: Settings, values: Mapping[str, Any], place: str) -> Settings:
    """The settings with other values of some, by key as for `--set`.

    Raises:
        SettingsError: A key or value does not fit; `place` is where they were given.
    """
    every = settings.model_dump(by_alias=True)
    for key, value in values.items():
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        every = _merged(every, nested)
    return parse(Settings, every, place)


def parse(model: type[Model], values: Mapping[str, Any], place: str) -> Model:
    """Build the model, turning the first thing that does not fit into a SettingsError."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A misspelt key is also a missing one; the spelling is what to mend.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        fault = faults[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = _known_names(model, fault["loc"][:-1])
            problem, mend = f"unknown setting {key!r}", nearest(str(fault["loc"][-1]), known)
        elif fault["type"] == "missing":
            problem, mend = f"setting {key!r} is missing", "Give it a value."
        elif isinstance(fault["input"], dict) and fault["type"] == "value_error":
            # Two settings that do not fit together say so themselves.
            problem, _, mend = str(fault["ctx"]["error"]).partition(". ")
        else:
            problem = f"setting {key!r} is {fault['input']!r}"
            mend = f"{fault['msg']}."
        raise SettingsError(place, problem, mend) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        names = [found.stem for found in path.parent.glob("*.yaml")]
        raise SettingsError(str(path), "no such file", nearest(path.stem, names)) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(str(path), f"not readable as YAML: {reason}", "Mend it.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(str(path), f"holds {values!r}", "It must hold keys and values.")
    return values


def _nested(override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise SettingsError("--set", f"{override!r} is no setting", "Write key=value.")
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError("--set", f"{text!r} is no YAML value", "Quote it.") from error
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _merged(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


def _known_names(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        if part not in model.model_fields:
            return []  # within a mapping whose keys anybody may choose
        inner = model.model_fields[part].annotation
        inner = next(iter(getattr(inner, "__args__", ())), inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def describe(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every setting below a section: its key, its value as YAML, and its meaning."""
    for name, field in type(section).model_fields.items():
        key, value = prefix + (field.alias or name), getattr(section, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{key}.")
        else:
            plain = section.model_dump(mode="json", include={name}, exclude_defaults=True)[name]
            text = yaml.safe_dump(plain, default_flow_style=True, width=1000)
            yield key, text.removesuffix("...\n").strip(), field.description or ""
