"""Where two networks differ, field by field, and where two runs of one network do: first difference and cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from math import prod
from typing import Any

import numpy as np

from randhet.fixed_point.diagnosis.cause import explain
from randhet.fixed_point.diagnosis.divergence import Divergence, first
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result


def differences(a: Any, b: Any, path: str = "network") -> Iterator[str]:
    """List the paths at which two values of the representation are not the same, none where they are equal."""
    if type(a) is not type(b):
        yield f"{path}: {type(a).__name__} against {type(b).__name__}"
    elif is_dataclass(a):
        for field in fields(a):
            yield from differences(getattr(a, field.name), getattr(b, field.name), f"{path}.{field.name}")
    elif isinstance(a, np.ndarray):
        if a.shape != b.shape or not np.array_equal(a, b):
            yield f"{path}: arrays of shape {a.shape} and {b.shape} differ"
    elif isinstance(a, tuple) and len(a) == len(b):
        for i, (own, other) in enumerate(zip(a, b)):
            yield from differences(own, other, f"{path}[{i}]")
    elif a != b:
        yield f"{path}: {a!r} against {b!r}"


def divergence(
    network: Network, images: np.ndarray, expected: Result, observed: Result, seed: int, first_image: int = 0
) -> Divergence | None:
    """Find the first difference of two runs that traced every layer, with its cause; None where they are equal.

    Shapes that differ are a difference. images (N, C, Y, X): what was run; seed, first_image: as the runs had them.
    """
    earliest = where([layer.name for layer in network.layers], expected, observed, first_image)
    return earliest and explained(network, images, expected, observed, earliest, seed, first_image)


def where(names: Sequence[str], expected: Result, observed: Result, first_image: int = 0) -> Divergence | None:
    """Find the first difference of two runs in these layers, in the network's order, without its cause."""
    for name in names:
        due, other = (result.traces[name].output.shape for result in (expected, observed))
        if due != other:
            return Divergence(first_image, 0, name, (), "shape", prod(due[2:]), prod(other[2:]))
    return first(expected.traces, observed.traces, names, first_image)


def explained(
    network: Network,
    images: np.ndarray,
    expected: Result,
    observed: Result,
    at: Divergence,
    seed: int,
    first_image: int,
) -> Divergence:
    """Add its cause to a first difference; the runs must have traced its layer and those that this reads."""
    cause = explain(network, images, expected.traces, observed.traces, at.layer, seed, first_image)
    return replace(at, cause=cause.kind, detail=cause.detail)


def assert_equal(
    network: Network, images: np.ndarray, expected: Result, observed: Result, seed: int, first_image: int = 0
) -> None:
    """Raise AssertionError that names the first difference of two runs and its cause, or the result that differs."""
    earliest = divergence(network, images, expected, observed, seed, first_image)
    if earliest is not None:
        raise AssertionError(str(earliest))
    for name in ("predictions", "sums"):
        if not np.array_equal(getattr(expected, name), getattr(observed, name)):
            raise AssertionError(f"{name} differ though every traced value is equal")
    for name, count in expected.spikes.items():
        if observed.spikes.get(name) != count:
            raise AssertionError(f"spikes of {name}: expected {count}, found {observed.spikes.get(name)}")
