"""What a case is, the table of all cases, and short names that their networks are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point.network import (
    Constant,
    Dense,
    Drawn,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    Operation,
    Reset,
)

TOP = 2**23 - 1
"""Largest state."""


@dataclass(frozen=True, eq=False)
class Case:
    """Images (N, C, Y, X) through a network; the first has the logical number first_image."""

    name: str
    network: Network
    images: np.ndarray
    seed: int = 1
    first_image: int = 0


Maker = Callable[[], Case]
CASES: dict[str, Maker] = {}


Parts = tuple[Network, np.ndarray] | tuple[Network, np.ndarray, int, int]
"""Network and images, and where they matter the seed and the number of the first image."""


def case(make: Callable[[], Parts]) -> None:
    """Enter a maker under its function's name."""
    enter(make.__name__.strip("_").replace("_", "-"), make)


def enter(name: str, make: Callable[[], Parts]) -> None:
    """Enter a maker under a name."""
    CASES[name] = lambda: Case(name, *make())


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def byte(values: object) -> np.ndarray:
    return np.array(values, np.int8)


def column(*pixels: int) -> np.ndarray:
    """One image of one pixel row, (1, n, 1, 1)."""
    return np.array(pixels, np.uint8).reshape(1, -1, 1, 1)


def alone(neuron: Neuron, weight: np.ndarray, steps: int, bits: int = 8) -> Network:
    """An input and one dense layer."""
    layers = (
        Layer("input", Input((weight.shape[1], 1, 1), bits)),
        Layer("neuron", Dense(weight), (0,), neuron),
    )
    return Network(layers, steps)


def chain(first: Input, steps: int, *rest: tuple[Operation, Neuron | None]) -> Network:
    """Each layer reads the one before."""
    layers = [Layer("input", first)]
    layers += [Layer(f"l{i}", operation, (i,), neuron) for i, (operation, neuron) in enumerate(rest)]
    return Network(tuple(layers), steps)


def noise(seed: int, *shape: int, top: int = 127) -> np.ndarray:
    return np.random.default_rng(seed).integers(-top, top + 1, shape).astype(np.int8)


def pictures(seed: int, count: int, *shape: int, bits: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, (count, *shape)).astype(np.uint8)


def plain(channels: int, threshold: int, bias: int = 0, decay: int = 128, reset: Reset = "zero") -> Lif:
    levels = np.full(channels, threshold, np.int32), np.full(channels, bias, np.int32)
    return Lif(*levels, Constant(decay), reset=reset)


def random(channels: int, threshold: int, bias: int = 0, k: int = 8, f: int = 6, **drawn: object) -> Lif:
    levels = np.full(channels, threshold, np.int32), np.full(channels, bias, np.int32)
    return Lif(*levels, Drawn(**drawn), k, f)  # type: ignore[arg-type]
