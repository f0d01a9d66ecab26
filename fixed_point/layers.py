"""The parts of a network: operations, neurons, and the layer that joins them. All frozen.

A neuron differs from another by data, not by class: where its decay comes from and what a spike does to its membrane
potential are fields of `Lif`. Every field of a neuron is declared once, with its range and unit, by `value` or
`choice`; `check` and the file format are derived from these declarations.
"""

# ruff: noqa: RUF009 (`value` and `choice` are `field` with a declaration)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from randhet.base.kinds import assert_never
from randhet.fixed_point.generator import tau_table
from randhet.fixed_point.integer import STATE_MAX

Shape = tuple[int, ...]
Pair = tuple[int, int]
Array = NDArray[np.integer]
Sampling = Literal["step", "forward"]
Reset = Literal["zero", "subtract"]
Read = Literal["sum", "last", "max"]

WEIGHT_MAX = 127
SUM_MAX = 2**31 - 1
MAX_DECAY_BITS = 12
MAX_FRACTION = 16


# --- declarations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    """What a field of a neuron may hold: integers low..high in `unit`, or one of `names`.

    high None: 2^k - 1, k the neuron's. per: the shapes an array may have, "layer" (), "channel" (C,), "neuron"
    (C, Y, X) or "draw" (256,); a scalar where empty.
    """

    low: int = 0
    high: int | None = 0
    unit: str = ""
    per: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def value(low: int, high: int | None, unit: str, *per: str, default: Any = MISSING, factory: Any = MISSING) -> Any:
    """Declare a field of integers low..high (None: 2^k - 1); an array of one of the shapes `per`, else a scalar."""
    return field(
        default=default, default_factory=factory, metadata={"declared": Declared(low, high, unit, per)}
    )  # fmt: skip


def choice(kind: Any, default: str) -> Any:
    """Declare a field that holds one of the names of a Literal."""
    return field(default=default, metadata={"declared": Declared(names=get_args(kind))})


def declared(component: Any) -> Iterator[tuple[str, Declared, Any]]:
    """(name, declaration, value) of every declared field of a neuron or a decay."""
    for entry in fields(component):
        if "declared" in entry.metadata:
            yield entry.name, entry.metadata["declared"], getattr(component, entry.name)


# --- operations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Input:
    """Graded spikes, unsigned integers of `bits` bits or signed ones: a still image, or one frame a step.

    shape (C, Y, X) or (C,) of one frame. sequence False: images (N, *shape), the same at every step. sequence True:
    recordings (N, T, *shape).
    """

    shape: Shape
    bits: int = 8
    signed: bool = False
    sequence: bool = False


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
    """a[o] = sum w[o,i] * s[i]; weight (out, in) int8 -127..127, input flattened in (channel, y, x) order.

    recurrent (out, out) int8: the layer also reads its own spikes of the step before, a[t] = W s[t] + U out[t-1], with
    out[-1] = 0. Both in units of the same scale.
    """

    weight: Array
    recurrent: Array | None = None


@dataclass(frozen=True, eq=False)
class Add:
    """Residual sum: the element-wise sum of two or more layers of one shape."""


@dataclass(frozen=True, eq=False)
class SumPool:
    """Sum over windows of `kernel` every `stride`, no padding; an average pool whose divisor sits in a later scale."""

    kernel: Pair
    stride: Pair


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Largest value of windows of `kernel` every `stride`; on spikes an OR. What is padded is never the largest."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class And:
    """Residual AND of two layers of spikes: min(a, b)."""


@dataclass(frozen=True, eq=False)
class Iand:
    """Residual IAND of two layers of spikes: (1 - a) * b, a the first that is read."""


@dataclass(frozen=True, eq=False)
class Concat:
    """The channels of two or more layers one after another; (y, x) of all are the same."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Put zeros between values: (C, Y, X) to (C, (Y-1)*stride + 1 + extra, ...), value y at y*stride, extra at the end.

    A transposed convolution is a convolution on values that were spread, with its kernel flipped.
    """

    stride: Pair
    extra: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class Flatten:
    """(C, Y, X) to (C*Y*X,), channel slowest."""


Operation = Input | Conv | Dense | Add | And | Iand | Concat | SumPool | MaxPool | Spread | Flatten
Weighted = Conv | Dense


# --- where a decay comes from -------------------------------------------------------------------------------------
# A is an integer of k bits; the decay factor of the membrane potential is tau = A / 2^k.


@dataclass(frozen=True, eq=False)
class Constant:
    """One decay A for the whole layer (vanilla SNN: A = 2^(k-1))."""

    mantissa: int = value(0, None, "2^-k", default=128)


@dataclass(frozen=True, eq=False)
class PerNeuron:
    """One decay A per neuron, of the layer's shape (Het-SNN)."""

    mantissa: Array = value(0, None, "2^-k", "neuron")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A = table[draw], drawn per neuron at every step ("step") or once per image ("forward").

    sigma is what the table was made from, for the record; neurons_per_core says which neurons share a register.
    """

    table: Array = value(0, None, "2^-k", "draw", factory=tau_table)
    sampling: Sampling = choice(Sampling, "step")
    sigma: float = 1.0
    neurons_per_core: int = value(1, 2**24, "neurons", default=1024)


Decay = Constant | PerNeuron | Drawn


# --- neurons ------------------------------------------------------------------------------------------------------

NO_FLOOR = -STATE_MAX
"""The lowest membrane potential there is: a floor here changes nothing."""


@dataclass(frozen=True, eq=False)
class Lif:
    """Leaky integrate-and-fire: x = sat24((a << f) + b); m = sat24(x + ((A*(m - x)) >> k)); spike where m > threshold.

    a is the synaptic sum, b the bias, x the current, m the membrane potential, A the decay of k bits, f the number of
    fractional bits. A spike sets m to 0 ("zero") or lowers it by the threshold ("subtract"): at once, or with
    reset_delay 1 at the next step, after the decay of the full m ("zero": m = 0 there whatever x is; "subtract":
    m = sat24(x + ((A*(m - x)) >> k) - threshold)). m is not allowed below `floor`; it is raised before it is compared.
    """

    threshold: Array = value(1, STATE_MAX, "scale * 2^-f", "channel")
    bias: Array = value(-STATE_MAX, STATE_MAX, "scale * 2^-f", "channel", "neuron")
    decay: Decay = field(default_factory=Constant)
    k: int = value(1, MAX_DECAY_BITS, "bits", default=8)
    f: int = value(0, MAX_FRACTION, "bits", default=6)
    reset: Reset = choice(Reset, "zero")
    reset_delay: int = value(0, 1, "steps", default=0)
    floor: Array = value(
        NO_FLOOR, 0, "scale * 2^-f", "layer", "channel", factory=lambda: np.array(NO_FLOOR, np.int32)
    )  # fmt: skip

    spikes: ClassVar[bool] = True
    sends_potential: ClassVar[bool] = False
    read: ClassVar[Read] = "sum"

    @property
    def dynamics(self) -> Lif:
        """What moves the membrane potential."""
        return self

    @property
    def floored(self) -> bool:
        """Whether the floor can change anything."""
        return bool((self.floor > NO_FLOOR).any())

    @property
    def drawn(self) -> Drawn | None:
        """Where the decay is drawn, how; None where it is fixed."""
        return self.decay if isinstance(self.decay, Drawn) else None

    @property
    def given(self) -> Array | int | None:
        """The decays A where they are fixed, one or one per neuron; None where they are drawn."""
        match self.decay:
            case Constant() | PerNeuron():
                return self.decay.mantissa
            case Drawn():
                return None
            case _:
                assert_never(self.decay)


@dataclass(frozen=True, eq=False)
class Cuba:
    """Loihi's current-based LIF (`integer.cuba`): u wraps at 24 bit, v saturates, decays truncate toward zero.

    Spike and v = 0 where v > threshold; threshold and bias already shifted to membrane units. current_decay -1 (none)
    ..4095 (all of it), one less than the decay; voltage_decay 0 (none)..4096 (all of it).
    """

    threshold: Array = value(1, STATE_MAX, "membrane units", "channel")
    bias: Array = value(-STATE_MAX, STATE_MAX, "membrane units", "channel", "neuron")
    current_decay: int = value(-1, 4095, "2^-12", default=4095)
    voltage_decay: int = value(0, 4096, "2^-12", default=0)
    f: int = value(0, MAX_FRACTION, "bits", default=6)

    spikes: ClassVar[bool] = True
    sends_potential: ClassVar[bool] = False
    read: ClassVar[Read] = "sum"

    @property
    def dynamics(self) -> Cuba:
        """What moves the membrane potential."""
        return self


@dataclass(frozen=True, eq=False)
class ReadOut:
    """The classifier's sums: m += a + b over the steps, no spike, no leak, no shift; the prediction is the arg max."""

    bias: Array = value(-SUM_MAX, SUM_MAX, "scale", "channel", "neuron")

    spikes: ClassVar[bool] = False
    sends_potential: ClassVar[bool] = False
    read: ClassVar[Read] = "sum"
    f: ClassVar[int] = 0
    dynamics: ClassVar[None] = None


Spiking = Lif | Cuba


@dataclass(frozen=True, eq=False)
class Leaky:
    """Leaky read-out: the membrane potential of `dynamics`, whose threshold, 2^23 - 1, is never passed.

    The layer sends m at every step. read: what the prediction is made from, the "sum" of m over the steps (their mean
    times T), the "last" one, or the largest ("max").
    """

    dynamics: Spiking
    read: Read = choice(Read, "last")

    spikes: ClassVar[bool] = False
    sends_potential: ClassVar[bool] = True

    @property
    def f(self) -> int:
        """Fractional bits of what is read."""
        return self.dynamics.f

    @property
    def bias(self) -> Array:
        """The bias of the dynamics."""
        return self.dynamics.bias


Neuron = Spiking | ReadOut | Leaky


def with_dynamics(neuron: Neuron | None, dynamics: Spiking) -> Neuron:
    """The neuron with other dynamics: these themselves, or a leaky read-out of them."""
    return replace(neuron, dynamics=dynamics) if isinstance(neuron, Leaky) else dynamics


def read_of(neuron: Neuron | None) -> Read:
    """What is read of the last layer's outputs over the steps: their sum unless a leaky read-out says otherwise."""
    return "sum" if neuron is None else neuron.read


# --- layer --------------------------------------------------------------------------------------------------------


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

    @property
    def weighted(self) -> Weighted | None:
        """The operation where it has weights, else None."""
        return self.operation if isinstance(self.operation, (Conv, Dense)) else None

    @property
    def sender(self) -> Neuron | None:
        """What makes of its sums what it sends: its neuron; of weights without one a read-out of zeros, the sums."""
        if self.neuron is None and self.weighted is not None:
            return ReadOut(np.zeros(len(self.weighted.weight), np.int32))
        return self.neuron

    @property
    def spikes(self) -> bool:
        """Whether the layer sends binary spikes of neurons of its own."""
        return self.spiking is not None

    @property
    def sends_potential(self) -> bool:
        """Whether it sends its membrane potential: a leaky read-out."""
        return self.neuron is not None and self.neuron.sends_potential

    @property
    def unit(self) -> NDArray[np.float64]:
        """Float value of one unit of its membrane potential, or of a classifier's sums: s_c 2^-f, (C,) or (1,)."""
        scale = np.ones(1) if self.scale is None else self.scale
        return np.asarray(scale if self.neuron is None else scale * 2.0**-self.neuron.f)

    @property
    def dynamics(self) -> Spiking | None:
        """What moves its membrane potential: the neuron where it spikes, that of a leaky read-out, else None."""
        return None if self.neuron is None else self.neuron.dynamics

    @property
    def spiking(self) -> Spiking | None:
        """The neuron where it spikes, else None."""
        return self.dynamics if self.neuron is not None and self.neuron.spikes else None

    @property
    def lif(self) -> Lif | None:
        """Its dynamics where they are a `Lif`, else None."""
        return self.dynamics if isinstance(self.dynamics, Lif) else None

    @property
    def cuba(self) -> Cuba | None:
        """Its dynamics where they are a `Cuba`, else None."""
        return self.dynamics if isinstance(self.dynamics, Cuba) else None

    @property
    def recurrent(self) -> Array | None:
        """The weights on its own spikes of the step before, else None."""
        return self.operation.recurrent if isinstance(self.operation, Dense) else None

    @property
    def drawn(self) -> Drawn | None:
        """How the layer's decays are drawn; None where they are not."""
        return self.lif.drawn if self.lif else None
