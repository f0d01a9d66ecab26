"""What a chip offers, read from `chips/*.toml`: every number with its unit, its source, and where it was checked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from randhet.base.errors import RandhetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent


class ChipError(RandhetError):
    """A chip that has no description, or a description that is wrong."""


@dataclass(frozen=True)
class Quantity:
    """One number of a chip. checked: where the number was seen, "" if it is only carried from its source."""

    value: float
    unit: str
    source: str
    checked: str = ""

    def __str__(self) -> str:
        verified = f"checked: {self.checked}" if self.checked else "not verified"
        return f"{self.value:g} {self.unit} ({self.source}; {verified})"


@dataclass(frozen=True)
class Chip:
    """A chip.

    programmable: neuron models are microcoded. resets: what a spike may do to a membrane potential. convolution:
    "kernel" stores a kernel once per core, "lists" one weight list per pattern of taps. memory_holds: "weights", or
    "weights and state". unknown: what no public source says.
    """

    name: str
    programmable: bool
    resets: tuple[str, ...]
    convolution: Literal["kernel", "lists"]
    memory_holds: Literal["weights", "weights and state"]
    board: str
    unknown: tuple[str, ...]
    quantities: Mapping[str, Quantity]

    def __getitem__(self, key: str) -> Quantity:
        if key not in self.quantities:
            raise ChipError(f"{self.name}: the description has no number called {key}")
        return self.quantities[key]

    def limit(self, key: str) -> int | None:
        """Return a number as a whole limit; None where nothing public says it."""
        return int(self.quantities[key].value) if key in self.quantities else None

    def need(self, key: str) -> int:
        """Return a whole number that every chip's description must have."""
        return int(self[key].value)


def names() -> list[str]:
    """List the chips that have a description, such as loihi1 and loihi2."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@lru_cache
def load(name: str) -> Chip:
    """Load the chip called `name`; ChipError where there is none or its file is wrong."""
    if name not in names():
        raise ChipError(f"no chip is called {name}, the chips are {', '.join(names())}")
    return parse(name, (FOLDER / f"{name}.toml").read_text())


def parse(name: str, text: str) -> Chip:
    """Read a chip from the text of its file; ChipError where it is wrong."""
    try:
        content: dict[str, Any] = tomllib.loads(text)
        numbers = {key: Quantity(**content.pop(key)) for key in list(content) if isinstance(content[key], dict)}
        unknown, resets = tuple(content.pop("unknown")), tuple(content.pop("resets"))
        chip = Chip(unknown=unknown, resets=resets, quantities=numbers, **content)
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise ChipError(f"the description of {name} is wrong: {error}") from None
    for key, number in numbers.items():
        if not (isinstance(number.value, (int, float)) and number.unit and number.source):
            raise ChipError(f"the description of {name} is wrong: {key} needs a number, a unit and a source")
    return chip
