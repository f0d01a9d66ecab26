"""Help texts that list names take them from the tables that do the work: `{backends}` in a text is such a list.

A table is imported only when help is shown, so that `randhet --help` loads none of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from typer.core import TyperCommand


def keys(module: str, name: str) -> Callable[[], Iterable[str]]:
    """The names in a table of a module."""
    return lambda: getattr(import_module(f"randhet.{module}"), name)


def attacks() -> list[str]:
    """Families of attacks, with N where a number of steps may stand."""
    families = import_module("randhet.train.attacks.names").FAMILIES
    return [name if family.steps == 0 else f"{name}N" for name, family in families.items()]


def options(module: str, name: str) -> Callable[[], Iterable[str]]:
    """The names in a table, as they are written on the command line."""
    return lambda: (key.replace("_", "-") for key in keys(module, name)())


def data() -> list[str]:
    """Named data: what is embedded, then what torchvision reads."""
    sources = import_module("randhet.train.data.sources")
    return [*sources.NAMED, *sources.VISION]


def segments() -> list[str]:
    """Which neurons may be random: all, or those of one segment."""
    return ["all", *keys("train.models", "SEGMENTS")()]


LISTS: dict[str, Callable[[], Iterable[str]]] = {
    "attacks": attacks,
    "backends": keys("fixed_point.backends", "BACKENDS"),
    "chips": lambda: import_module("randhet.fixed_point.chips.chip").names(),
    "combine": keys("fixed_point.ensemble", "COMBINE"),
    "connections": keys("train.models", "CONNECT"),
    "contenders": keys("benchmarks.contenders", "CONTENDERS"),
    "data": data,
    "models": keys("train.models", "NAMED"),
    "neurons": keys("train.models", "NEURONS"),
    "baselines": keys("train.models", "BASELINES"),
    "objectives": keys("train.objectives", "OBJECTIVES"),
    "passes": options("export.passes.quantise", "PASSES"),
    "precisions": lambda: import_module("randhet.train.settings").NAMES["precision"],
    "resets": keys("train.neurons", "RESETS"),
    "scales": keys("train.scales", "SCALES"),
    "segments": segments,
    "sizes": keys("benchmarks.networks", "SIZES"),
    "surrogates": keys("train.attacks.choice", "NAMES"),
    "tools": keys("export.nir.steps", "TOOLS"),
    "trained": keys("train.models", "TRAINED"),
}
"""Words in braces, and where the names come from."""


def filled(text: str | None) -> str | None:
    """A help text with every `{word}` replaced by its names; KeyError where there is no such list."""
    return text and re.sub(r"\{(\w+)\}", lambda match: ", ".join(LISTS[match[1]]()), text)


def fill(command: Any) -> None:
    """Fill in the help texts of a command and of its options."""
    command.help = filled(command.help)
    for parameter in command.params:
        if hasattr(parameter, "help"):
            parameter.help = filled(parameter.help)


class Listed(TyperCommand):
    """A command whose help texts are filled in when help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page, names from their tables."""
        fill(self)
        super().format_help(ctx, formatter)
