"""Pieces of C text: names that came from a file, numbers, arrays, structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MAX_NAME = 60
"""Characters of a name that are shown; the rest is left out."""
WIDTH = 116


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array: its C name, element type and integers."""

    name: str
    kind: str
    values: np.ndarray

    @property
    def bytes(self) -> int:
        """Bytes it takes in read-only memory."""
        return self.values.size * np.dtype(self.kind.removesuffix("_t")).itemsize

    def text(self) -> str:
        """Return its definition, wrapped lines of integers."""
        body = wrapped([str(value) for value in self.values.ravel().tolist()])
        return f"static const {self.kind} {self.name}[{self.values.size}] = {{\n{body}\n}};\n"


def wrapped(items: list[str]) -> str:
    """Join items with commas, in indented lines of at most WIDTH characters."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line])


def comment(name: str) -> str:
    """Return a name as it may stand in a comment: letters, digits and _ . - as they are, other characters as _."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name[:MAX_NAME])


def string(text: str) -> str:
    """Return a C string literal of the UTF-8 bytes of a text, at most MAX_NAME characters: plain ones, others octal."""
    safe = set(range(32, 127)) - set(b'"\\?')
    return (
        '"' + "".join(chr(b) if b in safe else f"\\{b:03o}" for b in text[:MAX_NAME].encode("utf-8", "replace")) + '"'
    )


def structure(kind: str, name: str, fields: Mapping[str, object]) -> str:
    """Return the definition of a constant structure with named fields."""
    body = wrapped([f".{key} = {value}" for key, value in fields.items()])
    return f"static const struct randhet_{kind} {name} = {{\n{body}\n}};\n"
