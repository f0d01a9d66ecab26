"""The integer network: the one intermediate representation between a trained model and everything that runs it.

A network is a tuple of layers in topological order; layer 0 is the input, the last layer is read out. A layer applies
one operation to the outputs of earlier layers and, for Conv and Dense, hands the sums to a neuron. All frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.generator import tau_table

Shape = tuple[int, ...]
Pair = tuple[int, int]
Array = NDArray[np.integer]
Sampling = Literal["step", "forward"]

FORMAT_VERSION = 1


# --- operations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Input:
    """Graded spikes of the image, the same at every step: unsigned integers of `bits` bits, or signed ones."""

    shape: Shape
    bits: int = 8
    signed: bool = False


@dataclass(frozen=True, eq=False)
class Conv:
    """a[o,y,x] = sum w[o,c,i,j] * s[c, y*stride + i*dilation - padding, ...], cross-correlation as in torch.

    weight (out, in/groups, ky, kx) int8 -127..127; pairs are (y, x).
    """

    weight: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Dense:
    """a[o] = sum w[o,i] * s[i]; weight (out, in) int8 -127..127, input flattened in (channel, y, x) order."""

    weight: Array


@dataclass(frozen=True, eq=False)
class Add:
    """Residual sum: the element-wise sum of two or more layers of one shape."""


@dataclass(frozen=True, eq=False)
class SumPool:
    """Sum over windows of `kernel` every `stride`, no padding; an average pool whose divisor sits in a later scale."""

    kernel: Pair
    stride: Pair


@dataclass(frozen=True, eq=False)
class Flatten:
    """(C, Y, X) to (C*Y*X,), channel slowest."""


Operation = Input | Conv | Dense | Add | SumPool | Flatten


# --- neurons ------------------------------------------------------------------------------------------------------
# threshold: (C,) integers 1..2^23-1; bias: (C,), or (C, Y, X) where it is a map; both in units of scale * 2^-f.


@dataclass(frozen=True, eq=False)
class RandomTau:
    """LIF whose decay A = table[draw] is drawn per neuron at each step ("step") or once per image ("forward").

    x = sat24((a << f) + b); m = sat24(x + ((A*(m - x)) >> k)); spike and reset to 0 where m > threshold.
    """

    threshold: Array
    bias: Array
    table: Array = field(default_factory=tau_table)
    k: int = 8
    f: int = 6
    sampling: Sampling = "step"
    sigma: float = 1.0
    neurons_per_core: int = 1024


@dataclass(frozen=True, eq=False)
class Lif:
    """The same LIF with one constant decay A for the layer (vanilla SNN: A = 2^(k-1))."""

    threshold: Array
    bias: Array
    decay: int = 128
    k: int = 8
    f: int = 6


@dataclass(frozen=True, eq=False)
class Het:
    """The same LIF with one constant decay per neuron: decay has the layer's shape, 0..2^k-1 (Het-SNN)."""

    threshold: Array
    bias: Array
    decay: Array
    k: int = 8
    f: int = 6


@dataclass(frozen=True, eq=False)
class Cuba:
    """Loihi's current-based LIF (`integer.cuba`): u wraps at 24 bit, v saturates, decays truncate toward zero.

    Spike and v = 0 where v > threshold; threshold and bias already shifted to membrane units. current_decay -1 (none)
    ..4095 (all of it), one less than the decay; voltage_decay 0 (none)..4096 (all of it).
    """

    threshold: Array
    bias: Array
    current_decay: int
    voltage_decay: int
    f: int = 6


@dataclass(frozen=True, eq=False)
class Accumulate:
    """The classifier: m += a + b over the steps, no spike, no leak, no shift; the prediction is the arg max."""

    bias: Array


Neuron = RandomTau | Lif | Het | Cuba | Accumulate
SpikingNeuron = RandomTau | Lif | Het | Cuba


# --- network ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layer:
    """One node: what it reads (indices of earlier layers), what it computes, which neuron turns sums into spikes.

    scale: float value of one weight unit, (C,) or (1,); one membrane unit is scale * 2^-f. None where no weights are.
    """

    name: str
    operation: Operation
    inputs: tuple[int, ...] = ()
    neuron: Neuron | None = None
    scale: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, the number of time steps T, the master seed (None: from the system's entropy), free-text metadata."""

    layers: tuple[Layer, ...]
    steps: int
    seed: int | None = None
    classes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
