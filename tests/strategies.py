"""Random integer networks for property-based tests: those of `hardware_tests.random_networks`, chosen by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from hardware_tests.random_networks import Run, make_images, make_network, make_run
from randhet.fixed_point.network import Network

T = TypeVar("T")
Draw = st.DrawFn


@dataclass(frozen=True)
class Drawing:
    """Choose with hypothesis, so that a failing network shrinks."""

    draw: Draw

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def of(self, options: Sequence[T]) -> T:
        return options[self.draw(st.integers(0, len(options) - 1))]


@st.composite
def networks(draw: Draw, wide: bool = True) -> Network:
    """Draw a small network of any operations and neurons; wide: of every kind there is."""
    return make_network(Drawing(draw), wide)


@st.composite
def cases(draw: Draw, wide: bool = True) -> tuple[Network, np.ndarray]:
    """Draw a network and 1 to 4 images for it."""
    network = make_network(Drawing(draw), wide)
    return network, make_images(Drawing(draw), network)


@st.composite
def runs(draw: Draw, wide: bool = True) -> Run:
    """Draw a network, images, a master seed and the number of the first image."""
    return make_run(Drawing(draw), wide)
