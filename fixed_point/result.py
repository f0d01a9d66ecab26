"""What a run returns, the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trace:
    """One layer over a run: outputs (images, T, *shape), and membranes before the reset, where the layer has them."""

    output: Int
    membrane: Int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """Integers of a run.

    predictions (images,); sums (images, classes) after T steps; spikes: total spikes per spiking layer, by name;
    saturations: how often a state left 24 bits; operations: counts, where the backend counts them; traces by name.
    """

    predictions: Int
    sums: Int
    spikes: Mapping[str, int]
    saturations: int
    operations: Mapping[str, int] | None = None
    traces: Mapping[str, Trace] = field(default_factory=dict)
