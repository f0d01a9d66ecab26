"""Where two networks, or parts of them, differ: field by field, arrays value by value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def differences(a: Any, b: Any, path: str = "network") -> Iterator[str]:
    """The paths at which two values of the representation are not the same, none where they are equal."""
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__} against {type(b).__name__}"
    elif is_dataclass(a):
        for field in fields(a):
            yield from differences(getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}")
    elif isinstance(a, np.ndarray):
        if a.shape != b.shape or not np.array_equal(a, b):
            yield f"{path}: arrays of shape {a.shape} and {b.shape} differ"
    elif isinstance(a, tuple) and len(a) == len(b):
        for i, (one, other) in enumerate(zip(a, b)):
            yield from differences(one, other, f"{path}[{i}]")
    elif a != b:
        yield f"{path}: {a!r} against {b!r}"
