"""TOML files of experiments: a table [model], which starts from a named model, and a table [training].

[model]
name = "sew-resnet19"
neuron = "randhet"

[training]
data = "cifar10"
eps = "4/255"
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from randhet.base.errors import FileError, RandhetError
from randhet.train.models import NAMED, ModelSettings
from randhet.train.settings import TrainSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = {"model": ModelSettings, "training": TrainSettings}
FROM_DATA = ("in_channels", "classes", "image_size")
"""Model settings that follow from the images."""


def options(kind: type) -> dict[str, Any]:
    """The settings of a dataclass that a user may choose, with their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.name not in FROM_DATA}


def toml(path: str | Path, what: str) -> dict[str, Any]:
    """The content of a TOML file; FileError, naming what it should be, where it is none."""
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise FileError(f"{what} {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: also no UTF-8, and numbers of thousands of digits
        raise FileError(f"{what} {path} is not TOML: {error}") from None


def read(path: str | Path) -> dict[str, dict[str, Any]]:
    """The tables of a configuration file with its values in the settings' types; FileError with what is wrong."""
    content = toml(path, "configuration")
    unknown = sorted(set(content) - set(TABLES))
    if unknown:
        raise FileError(f"configuration {path}: table {unknown[0]!r} is not one of {', '.join(TABLES)}")
    try:
        return {table: _typed(content.get(table, {}), table) for table in TABLES}
    except RandhetError as error:
        raise FileError(f"configuration {path}: {error}") from None


def _typed(values: Mapping[str, Any], table: str) -> dict[str, Any]:
    known = options(TABLES[table]) | ({"name": str} if table == "model" else {})
    for name in values:
        if name not in known:
            raise RandhetError(f"{table} has no setting {name!r}, it has {', '.join(known)}")
    return {name: typed(name, value, known[name]) for name, value in values.items()}


def typed(name: str, value: Any, hint: Any) -> Any:
    """A value from a file or the command line in the type of its setting; "4/255" and "32,64" are understood."""
    kind = plain_type(hint)
    try:
        if get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(typed(name, word, get_args(kind)[0]) for word in parts)
        return PARSE[kind](value)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise RandhetError(f"{name} is {value!r}, it must be {WORDS.get(kind, 'a list of numbers')}") from None


def plain_type(hint: Any) -> Any:
    """The type without None, a choice of names as str."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    return str if get_origin(hint) is Literal else hint


def number(value: Any) -> float:
    """A number, or a fraction such as "4/255"."""
    if isinstance(value, bool):
        raise TypeError
    return float(Fraction(value)) if isinstance(value, str) and "/" in value else float(value)


def whole(value: Any) -> int:
    """A whole number."""
    if isinstance(value, (bool, float)):
        raise TypeError
    return int(value)


def same(kind: type) -> Any:
    """What takes values of a type and no others."""

    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return check


PARSE: dict[Any, Any] = {int: whole, float: number, str: same(str), bool: same(bool)}
WORDS = {int: "a whole number", float: 'a number or a fraction such as "4/255"', str: "text", bool: "true or false"}


def settings(
    default: str, model: Mapping[str, Any], training: Mapping[str, Any]
) -> tuple[ModelSettings, TrainSettings]:
    """Both settings from chosen values; `name` in model is the model to start from, `default` where it is missing."""
    chosen = dict(model)
    start = named(chosen.pop("name", default))
    known = {field.name: getattr(start, field.name) for field in fields(start)}
    attack = {"attack_step": training["eps"]} if "eps" in training else {}
    return ModelSettings(**known | chosen), TrainSettings(**attack | dict(training))


def named(name: str) -> ModelSettings:
    """Settings of a named model; one sentence where there is none of that name."""
    if name not in NAMED:
        raise RandhetError(f"model {name!r} is not one of {', '.join(NAMED)}")
    return NAMED[name]
