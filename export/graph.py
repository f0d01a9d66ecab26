"""The float graph between a torch model and the integer network: what the trace finds and the passes reshape."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.fixed_point.network import Read, Reset

Array = NDArray[np.float64]
Pair = tuple[int, int]


class ExportError(RandhetError):
    """A model that cannot be exported; says which part and why."""


@dataclass(frozen=True, eq=False)
class FloatInput:
    """The image, pixels in 0..1; after folding the normalisation, bytes 0..255. sequence: one such frame a step."""

    shape: tuple[int, ...]
    sequence: bool = False


@dataclass(frozen=True, eq=False)
class Normalisation:
    """(x - mean) / std per channel."""

    mean: Array
    std: Array


@dataclass(frozen=True, eq=False)
class FloatConv:
    """weight (out, in/groups, ky, kx); bias (out,) or a map (out, y, x)."""

    weight: Array
    bias: Array
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class FloatDense:
    """weight (out, in), bias (out,); recurrent (out, out): weights on the spikes, one step before, of its neurons."""

    weight: Array
    bias: Array
    recurrent: Array | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """gain * x + shift per channel: batch norm in evaluation mode."""

    gain: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Encoding:
    """The same value at each of T steps; of a sequence, its frames."""

    steps: int
    sequence: bool = False


@dataclass(frozen=True, eq=False)
class FloatNeuron:
    """One of the kinds randhet (with sampling, sigma), vanilla or het (with decay, a number or one per neuron).

    m = decay*m + (1 - decay)*x, spike where m > threshold; reset: a spike sets m to 0 or subtracts the threshold.
    Foreign networks bring two more: integrate, m = m + x; cuba, u = synapse*u + x, m = decay*m + u. drive: what x is
    multiplied by, u of cuba, None as above. reset_delay 1: a spike resets at the next step, after its decay.
    inclusive: m = threshold spikes. read: a leaky read-out, which never spikes and sends m; "sum" stands for the mean
    over the steps. floor: m is raised to it before it is compared, one number or one per channel. recurrent (out, out):
    weights on its own spikes of the step before, which with recurrent_bias (out,) are added to x; until a pass gives
    both to the dense layer that it reads.
    """

    kind: str
    threshold: float
    sampling: str = "step"
    sigma: float = 1.0
    decay: Array = field(default_factory=lambda: np.array(0.5))
    synapse: float = 0.0
    reset: Reset = "zero"
    drive: float | None = None
    reset_delay: int = 0
    inclusive: bool = False
    read: Read | None = None
    floor: Array | None = None
    recurrent: Array | None = None
    recurrent_bias: Array | None = None

    @property
    def unusual(self) -> str:
        """What the neurons of the paper's networks do not do, in words; "" where there is nothing."""
        parts = {
            f"currents multiplied by {self.drive}": self.drive is not None,
            "a reset one step late": self.reset_delay,
            "spikes at the threshold itself": self.inclusive,
            "a membrane potential that is read": self.read is not None,
            "a lowest membrane potential": self.floor is not None,
            "spikes that return to it": self.recurrent is not None,
        }
        return " and ".join(part for part, present in parts.items() if present)

    @property
    def beyond_nir(self) -> str:
        """What NIR cannot represent of it, in words; "" where there is nothing."""
        parts = {
            "a reset one step late": self.reset_delay,
            "spikes at the threshold itself": self.inclusive,
            "a lowest membrane potential": self.floor is not None,
            "a current of CUBA neurons with a factor": self.kind == "cuba" and self.drive is not None,
            "a time constant of a neuron that keeps everything": self.kind == "het" and (self.decay >= 1).any(),
        }
        return " and ".join(part for part, present in parts.items() if present)


@dataclass(frozen=True, eq=False)
class FloatAdd:
    """Residual sum."""


@dataclass(frozen=True, eq=False)
class FloatAnd:
    """Residual AND of spikes: a * b."""


@dataclass(frozen=True, eq=False)
class FloatIand:
    """Residual IAND of spikes: (1 - a) * b, a the first that it reads."""


@dataclass(frozen=True, eq=False)
class FloatConcat:
    """The channels of all that is read, one after another."""


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Mean over windows; kernel None is the whole image."""

    kernel: Pair | None = None
    stride: Pair | None = None


@dataclass(frozen=True, eq=False)
class FloatMaxPool:
    """Largest value of windows; what is padded is never the largest."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class FloatSpread:
    """Zeros between values, as `fixed_point.layers.Spread`; the convolution of a transposed one reads it."""

    stride: Pair
    extra: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class FloatFlatten:
    """(C, Y, X) to (C*Y*X,)."""


@dataclass(frozen=True, eq=False)
class TimeMean:
    """Mean over the T steps."""


@dataclass(frozen=True, eq=False)
class TimeRead:
    """The last of the T steps, or the largest value of all: of the membrane potentials of a leaky read-out."""

    read: Read


FloatOperation = (
    FloatInput
    | Normalisation
    | FloatConv
    | FloatDense
    | Affine
    | Encoding
    | FloatNeuron
    | FloatAdd
    | FloatAnd
    | FloatIand
    | FloatConcat
    | AveragePool
    | FloatMaxPool
    | FloatSpread
    | FloatFlatten
    | TimeMean
    | TimeRead
)


@dataclass(frozen=True, eq=False)
class FloatNode:
    """One node: its name (the module's), its operation, the names of the nodes it reads."""

    name: str
    operation: FloatOperation
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """Nodes in topological order; the last one is the output."""

    nodes: tuple[FloatNode, ...]

    def node(self, name: str) -> FloatNode:
        """The node of this name; LookupError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LookupError(f"no node is named {name}")

    def readers(self, name: str) -> list[FloatNode]:
        """The nodes that read this one."""
        return [node for node in self.nodes if name in node.inputs]

    def changed(self, name: str, operation: FloatOperation) -> FloatGraph:
        """The graph with one operation replaced."""
        return FloatGraph(
            tuple(replace(node, operation=operation) if node.name == name else node for node in self.nodes)
        )

    def without(self, name: str) -> FloatGraph:
        """The graph with a node of one input taken out; its readers read what it read."""
        (source,) = self.node(name).inputs
        return FloatGraph(
            tuple(
                replace(node, inputs=tuple(source if read == name else read for read in node.inputs))
                for node in self.nodes
                if node.name != name
            )
        )
