"""Read NetX files that lava-dl wrote: chains of input, conv, flatten and dense layers with CUBA neurons.

Such a file says neither how many steps an image is shown nor, always, what the input is; who reads it does. The network
equals lava-dl 0.6.0's `netx.hdf5.Network` on Lava's fixed-point models: same spikes, same voltages, from a state of
zero. A last layer that only integrates becomes a read-out of its voltages at the last step (`integrators`); delays
become layers of their own (`delays`). What the integer network cannot express (other neurons, weights beyond a synapse)
and what lava-dl itself does not run on Lava (pools, averages) is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from randhet.base.errors import FileError
from randhet.base.hdf5 import verify
from randhet.fixed_point.facts import SPIKE, Range, ranges
from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import (
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Layer,
    Network,
    Operation,
    Shape,
)
from randhet.fixed_point.shape import output_shape
from randhet.netx import delays
from randhet.netx.integrators import read_out
from randhet.netx.node import Node, group, layer_groups
from randhet.netx.read import loaded, network_of

STATE_SHIFT = 6
"""Lava shifts synaptic sums, thresholds and bias mantissas by 6 bits into membrane units."""
MANTISSA_MIN, MANTISSA_MAX = -(2**15), 2**15 - 1
"""Lava keeps bias mantissas as int16."""
INTEGRATOR = (0, 4096, 2**17)
"""iDecay, vDecay and vThMant of a dense layer without a neuron."""
INPUT_WEIGHT = 64
"""What lava-dl multiplies input values by where an input layer with neurons does not say."""
GREY_LEVELS = 256
CURRENTS = "currents"
"""Entry of the metadata: the current that each grey level becomes, as JSON."""


@dataclass(frozen=True)
class Shown:
    """What the file does not say: T; bits of an input value (1: spikes) and whether it is signed; the input's shape.

    The shape (channel, y, x) is needed only where the file has no input layer. levels is needed where the neurons of an
    input layer want weight * value + bias: the values of black and white (`currents` turns pixels into what the input
    then takes, and bits and signed follow), or "currents" where the input already is these currents. sequence: the
    input is recordings of T frames, not images that are shown for T steps.
    """

    steps: int
    bits: int = 1
    signed: bool = False
    shape: Shape | None = None
    levels: tuple[float, float] | Literal["currents"] | None = None
    sequence: bool = False


def load_network(path: str | Path, shown: Shown | None = None) -> Network:
    """The network in a file of this project, or in one of lava-dl together with what `shown` says about it."""

    def found(root: Node) -> Network:
        if "format" in root.group.attrs or not root.has("layer/0/type"):
            return network_of(root)
        if shown is None:
            raise FileError(
                f"{path} is a network of lava-dl, which does not say for how many steps (--steps) an image is shown"
            )
        return _foreign(root, shown)

    return loaded(path, found)


def is_own(path: str | Path) -> bool:
    """Whether an HDF5 file says that this project wrote it; FileError where it is missing or damaged."""
    verify(path, packed=False)
    with h5py.File(path, "r") as file:
        return "format" in file.attrs


def read_foreign(path: str | Path, shown: Shown) -> Network:
    """The network in a file of lava-dl; FileError where it is damaged or cannot be expressed."""
    return loaded(path, lambda root: _foreign(root, shown))


def currents(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Turn pixels uint8 into what the network's input takes: input currents where it was read with `Shown.levels`.

    FileError where the table that the network carries for this is damaged.
    """
    text = network.metadata.get(CURRENTS)
    if text is None:
        return pixels
    try:
        table = np.array(json.loads(text))
    except (ValueError, RecursionError):
        table = np.empty(0)
    if table.shape != (GREY_LEVELS,) or table.dtype.kind != "i" or np.abs(table).max() > STATE_MAX:
        raise FileError(f"the network's table of input currents is damaged, it must be {GREY_LEVELS} whole numbers")
    return table.astype(np.int32)[pixels]


@dataclass
class Chain:
    """The layers so far, and the table from grey levels to input currents."""

    shown: Shown
    layers: list[Layer]
    shapes: list[Shape]
    table: Int | None = None

    def add(self, name: str, operation: Operation, neuron: Cuba | None = None) -> None:
        """Append a layer that reads the last one."""
        inputs = (len(self.layers) - 1,) if self.layers else ()
        self.layers.append(Layer(name, operation, inputs, neuron))
        self.shapes.append(output_shape(operation, tuple(self.shapes[-1:])))


def _foreign(root: Node, shown: Shown) -> Network:
    nodes = layer_groups(root)
    chain = Chain(shown, [], [])
    for i, node in enumerate(nodes):
        kind = node.text("type")
        if kind in NOT_IN_STOCK:
            raise node.fail("type", f"is {kind!r}, which lava-dl itself does not run on Lava: {NOT_IN_STOCK[kind]}")
        if kind not in LAYERS:
            raise node.fail("type", f"is {kind!r}, known in files of lava-dl are {', '.join(LAYERS)}")
        if i == 0 and kind != "input":
            chain.add("input", Input(_input_shape(node, shown), shown.bits, shown.signed, shown.sequence))
        LAYERS[kind](chain, node, f"{kind}{i}")
        _compare(node, kind, chain)
    metadata = {"source": "lava-dl"}
    if chain.table is not None:
        metadata[CURRENTS] = json.dumps(chain.table.tolist())
    elif isinstance(shown.levels, tuple):
        raise nodes[0].fail("type", "has no neurons, so that its input has no weight and bias to apply to values")
    return read_out(Network(tuple(chain.layers), shown.steps, metadata=metadata))


def _input_shape(node: Node, shown: Shown) -> Shape:
    if shown.shape is not None:
        return shown.shape
    if node.text("type") in DENSE:
        return (_rows(node).shape[1],)
    raise node.fail("type", "is the first layer and no input layer: the shape of the input must be given")


def _compare(node: Node, kind: str, chain: Chain) -> None:
    stated, found = _shape(node), chain.shapes[-1]
    same = stated == found if kind == "conv" else prod(stated) == prod(found)
    if not same:
        raise node.fail("shape", f"says {stated}, the layers before it give {found}")


# --- layers -----------------------------------------------------------------------------------------------------------


def _input(chain: Chain, node: Node, name: str) -> None:
    """With a neuron, the values of the input are its currents."""
    if chain.layers:
        raise node.fail("type", "is 'input', which only the first layer may be")
    shape, bits, signed = _shape(node), chain.shown.bits, chain.shown.signed
    if node.has("neuron"):
        chain.table = _currents(node, chain.shown)
    if chain.table is not None:
        span = Range(min(int(chain.table.min()), 0), max(int(chain.table.max()), 1))
        bits, signed = span.bits, span.signed
    chain.add(name, Input(shape, bits, signed, chain.shown.sequence))
    if node.has("neuron"):
        one_to_one = np.ones((shape[0], 1, 1, 1), np.int8)
        operation = Conv(one_to_one, groups=shape[0]) if len(shape) == 3 else Dense(np.eye(prod(shape), dtype=np.int8))
        chain.add(f"{name}.neuron", operation, _neuron(node, chain, operation, 0, biased=False))


def _currents(node: Node, shown: Shown) -> Int | None:
    """The current of each grey level, weight * value + bias truncated as Lava does; None where the input is currents.

    FileError where the layer has a weight or a bias and nothing says whether they are applied already.
    """
    weight = _scalar(node, "weight", INPUT_WEIGHT)
    bias = _scalar(node, "bias", 0)
    if shown.levels == "currents" or (shown.levels is None and (weight, bias) == (1, 0)):
        return None
    if shown.levels is None:
        raise node.fail(
            "neuron",
            f"wants the currents {weight} * value + {bias}: say the values of black and white (--input, such as 0,1), "
            "or 'currents' where the input already is these currents",
        )
    low, high = shown.levels
    values = np.linspace(low, high, GREY_LEVELS) * weight + bias
    if not np.abs(values).max() < 2**23:  # also where it is no number
        raise node.fail("weight", f"makes currents beyond 2^23 of values {low}..{high}")
    return np.trunc(values).astype(np.int64)


def _scalar(node: Node, key: str, default: int) -> int:
    """One whole number."""
    value = node.array(key, "iuf", (0, 1)).reshape(-1) if node.has(key) else np.array([default])
    if value.size != 1 or value[0] != np.trunc(value[0]):
        raise node.fail(key, f"is {value.tolist()[:4]}, it must be one whole number")
    return int(value[0])


def _conv(chain: Chain, node: Node, name: str) -> None:
    weight, shift = _mantissas(node, _weight(node, (4, 5)))
    weight = weight.reshape(weight.shape[:4])
    stride, padding, dilation = (node.pair(key) for key in ("stride", "padding", "dilation"))
    operation = Conv(weight, stride, padding, dilation, node.integer("groups"))
    if node.has("delay") and node.array("delay", "iuf", (0, 1, 2)).any():
        raise node.fail("delay", "is not zero: lava-dl ignores the delays of convolutions on Lava, remove them")
    if not node.has("neuron"):
        raise node.fail("neuron", "is missing")
    chain.add(name, operation, _neuron(node, chain, operation, shift))


def _dense(chain: Chain, node: Node, name: str) -> None:
    rows = _rows(node)
    _require_unclipped(node, [rows])
    weight, shift = _mantissas(node, rows)
    if node.has("delay") and (late := delays.of(node, weight)).any():
        weight = _delayed(chain, node, name, weight, late)
    operation = Dense(weight)
    chain.add(name, operation, _neuron(node, chain, operation, shift))


def _delayed(chain: Chain, node: Node, name: str, weight: np.ndarray, late: np.ndarray) -> np.ndarray:
    """Append the layer that holds spikes back; returns the weights of the one that reads it."""
    if ranges(chain.layers)[-1] != SPIKE:
        raise node.fail("delay", "is not zero: only spikes are delayed, and the layer reads graded values")
    line = delays.line(node, weight, late)
    chain.add(f"{name}.delay", line.operation, line.neuron)
    return line.reader


def _recurrent(chain: Chain, node: Node, name: str) -> None:
    rows, own = _rows(node), _own(node)
    if node.has("delay") and node.array("delay", "iuf", (0, 1, 2)).any():
        raise node.fail("delay", "is not zero: delays of recurrent layers are not supported")
    _require_unclipped(node, [rows, own])
    # lava-dl gives both one exponent
    both, shift = _mantissas(node, np.hstack([rows, own]))
    operation = Dense(both[:, : rows.shape[1]], both[:, rows.shape[1] :])
    chain.add(name, operation, _neuron(node, chain, operation, shift))


def _own(node: Node) -> np.ndarray:
    """Weights (out, out) of a layer on its own spikes of the step before; lava-dl may store them flat."""
    weight, out = _whole(node, "weight_rec", (1, 2)), prod(_shape(node))
    if weight.size != out * out:
        raise node.fail("weight_rec", f"has {weight.size} entries, {out} neurons need {out * out}")
    return weight.reshape(out, out)


def _require_unclipped(node: Node, weights: list[np.ndarray]) -> None:
    """Refuse the weights that stock Lava changes: scaled to -256 where no weight is positive, it takes -255."""
    least, largest = min(int(weight.min()) for weight in weights), max(int(weight.max()) for weight in weights)
    if least >= 0 or -least & (-least - 1) or largest >= -least:
        return
    if any(weight.max() <= 0 and weight.min() == least for weight in weights):
        raise node.fail(
            "weight",
            f"has no positive entry and {least} as its least, which stock Lava changes by its clipping at -255: "
            f"set it to {least + 1}",
        )


def _flatten(chain: Chain, node: Node, name: str) -> None:
    chain.add(name, Flatten())


def _shape(node: Node) -> Shape:
    return tuple(node.array("shape").tolist())


def _whole(node: Node, key: str, axes: tuple[int, ...]) -> np.ndarray:
    """Numbers as lava-dl takes them: truncated toward zero."""
    return np.trunc(node.array(key, "iuf", axes)).astype(np.int64)


def _weight(node: Node, axes: tuple[int, ...]) -> np.ndarray:
    if node.has("weight/imag"):
        raise node.fail("weight", "is complex, which is not supported")
    return _whole(node, "weight", axes)


def _rows(node: Node) -> np.ndarray:
    """Weights of a dense layer, (out, in); lava-dl may store them flat."""
    weight, out = _weight(node, (1, 2)), prod(_shape(node))
    if weight.size % out:
        raise node.fail("weight", f"has {weight.size} entries, which is no multiple of {out} outputs")
    return weight.reshape(out, -1)


def _mantissas(node: Node, weight: np.ndarray) -> tuple[np.ndarray, int]:
    """weight = mantissa << shift with mantissas of 8 bits, as on the chip: lava-dl's own weights are even numbers."""
    for shift in range(9):
        mantissa = weight >> shift
        if (mantissa << shift != weight).any():
            break
        if mantissa.min() >= -128 and mantissa.max() <= 127:
            return mantissa.astype(np.int8), shift
    low, high = int(weight.min()), int(weight.max())
    raise node.fail("weight", f"lies in {low}..{high}, which no exponent brings into 8 bits without loss")


# --- neurons ----------------------------------------------------------------------------------------------------------


def _neuron(node: Node, chain: Chain, operation: Operation, shift: int, biased: bool = True) -> Cuba:
    shape = output_shape(operation, (chain.shapes[-1],))
    current, voltage, threshold = _cuba(group(node, "neuron")) if node.has("neuron") else INTEGRATOR
    # Lava's voltage ends at 2^23 - 1, so a threshold above it is never passed, and neither is this one
    threshold = min(threshold << STATE_SHIFT, STATE_MAX)
    bias = _bias(node, shape) if biased and node.has("bias") else np.zeros(shape[:1], np.int32)
    thresholds = np.full(shape[:1], threshold, np.int32)
    return Cuba(thresholds, bias, current - 1, voltage, STATE_SHIFT + shift)


def _cuba(neuron: Node) -> tuple[int, int, int]:
    kind = neuron.text("type")
    if kind not in NEURONS:
        raise neuron.fail("type", f"is {kind!r}, known in files of lava-dl are {', '.join(NEURONS)}")
    for key, only in (("refDelay", 1), ("gradedSpike", 0)):
        if neuron.has(key) and neuron.integer(key) != only:
            raise neuron.fail(key, f"is {neuron.integer(key)}, only {only} is supported")
    return neuron.integer("iDecay"), neuron.integer("vDecay"), neuron.integer("vThMant")


def _bias(node: Node, shape: Shape) -> np.ndarray:
    """Mantissas (C,), or per neuron in lava-dl's order (x, y, channel), in membrane units."""
    mantissa = _whole(node, "bias", (0, 1, 3))
    if mantissa.ndim == 3:
        mantissa = mantissa.transpose(2, 1, 0)
    elif mantissa.size == 1:
        mantissa = np.full(shape[:1], mantissa.reshape(-1)[0])
    low, high = int(mantissa.min()), int(mantissa.max())
    if low < MANTISSA_MIN or high > MANTISSA_MAX:
        raise node.fail("bias", f"lies in {low}..{high}, the limits are {MANTISSA_MIN} to {MANTISSA_MAX}")
    return (mantissa << STATE_SHIFT).astype(np.int32)


LAYERS: dict[str, Callable[[Chain, Node, str], None]] = {
    "input": _input,
    "conv": _conv,
    "flatten": _flatten,
    "dense": _dense,
    "dense_rec": _recurrent,
}
DENSE = ("dense", "dense_rec")
NEURONS = ("CUBA", "LOIHI")
NOT_IN_STOCK = {
    "pool": "a convolution with a stride does the same",
    "average": "a dense layer that ends in an integrator does the same",
    "unpool": "a convolution takes its place",
    "convT": "a convolution takes its place",
    "concat": "it runs chains alone",
    "dense_comp": "it has no such process",
}
"""Kinds of layers that `netx.hdf5.Network` of lava-dl 0.6.0 raises an error for, and what to do."""
