"""Sections of settings: YAML files, ``--set`` overrides, and unknown keys named with the nearest known one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError, nearest

CONFIGS_DIR = Path("configs")


class Section(BaseModel):
    """Base of every section: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


def validated(
    settings: dict[str, Any], section: type[AnySection], origin: str, command_line: dict[str, Any] | None = None
) -> AnySection:
    """Return ``settings`` as a ``section``; a ConfigError says what does not fit, and where it came from."""
    try:
        return section.model_validate(settings)
    except ValidationError as error:
        errors = error.errors()
        first = next((each for each in errors if each["type"] in _UNKNOWN), errors[0])
        place = first["loc"]
        if command_line is not None and place:
            typed = _holds(command_line, place)
            origin = "the command line" if typed else origin.removesuffix(" and the command line")
        if first["type"] in _UNKNOWN:
            prefix = "".join(f"{part}." for part in place[:-1] if isinstance(part, str))
            known = _section_at(section, place[:-1]).model_fields
            close = nearest(place[-1], known)
            hint = f"did you mean {prefix}{close}?" if close else f"known keys here: {', '.join(known)}"
            raise ConfigError(f"{origin}: unknown key {prefix}{place[-1]}; {hint}") from error
        key = ".".join(map(str, place)) + (": " if place else "")
        # What a validator of a whole section says names its keys itself.
        found = "" if isinstance(first["input"], dict) else f" (found {first['input']!r})"
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
        raise ConfigError(f"{origin}: {key}{_EXPECTED.get(first['type'], said)}{found}") from error


#: What pydantic calls a key that a section does not have.
_UNKNOWN = ("extra_forbidden", "invalid_key")
#: What is said instead of pydantic's words for an error, where these speak of Python.
_EXPECTED = {
    "model_type": "expected a section with keys of its own, such as 'model: {width: 64}'",
    "tuple_type": "expected a list, such as [1, 5]",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-' only, a letter or a digit first",
}


def _section_at(section: type[BaseModel], place: tuple[str | int, ...]) -> type[BaseModel]:
    for part in place:
        if isinstance(part, str):
            annotation = section.model_fields[part].annotation
            options = get_args(annotation) or (annotation,)
            section = next(each for each in options if isinstance(each, type) and issubclass(each, BaseModel))
    return section


def _holds(settings: Any, keys: tuple[str | int, ...]) -> bool:  # noqa: ANN401 - a value of a configuration
    """Return whether ``settings`` say something at ``keys``, or at a place that holds them."""
    for key in keys:
        if not isinstance(settings, dict):
            return True
        if key not in settings:
            return False
        settings = settings[key]
    return True


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, empty where that is; ConfigError where it holds no mapping, or is none."""
    if path.is_dir():
        raise ConfigError(f"configuration {path} is a folder; expected a YAML file")
    if not path.is_file():
        known = ", ".join(sorted(str(known) for known in CONFIGS_DIR.glob("*.yaml"))) or "a.yaml"
        raise ConfigError(f"configuration {path} is missing; expected a YAML file such as {known}")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are not UTF-8, a date such as 2020-13-45
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        found = type(settings).__name__
        raise ConfigError(f"{path} holds a {found}, expected a mapping such as 'model: {{width: 64}}'")
    return settings


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted keys as nested mappings; ConfigError where a part of a key is a value, no section.

    >>> nested({"model.width": 32, "seed": 1})
    {'model': {'width': 32}, 'seed': 1}
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        _put(result, key, value, f"settings name {key!r}, but")
    return result


def apply_override(settings: dict[str, Any], override: str) -> None:
    """Write one ``section.key=value`` into nested ``settings``; ConfigError where it is not of that form."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r} is not of the form section.key=value")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value: {reason}") from error
    _put(settings, key, value, f"--set {override!r}:")


def _put(settings: dict[str, Any], key: str, value: Any, origin: str) -> None:  # noqa: ANN401 - a value of YAML
    *parents, leaf = key.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"{origin} {parent} is a value, not a section")
    settings[leaf] = value
