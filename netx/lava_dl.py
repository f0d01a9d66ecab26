"""Read NetX files that lava-dl wrote: chains of input, conv, flatten and dense layers with CUBA neurons.

Such a file says neither how many steps an image is shown nor, always, what the input is; who reads it does. The network
equals lava-dl 0.6.0's `netx.hdf5.Network` on Lava's fixed-point models: same spikes, same voltages. What the
integer network cannot express (other neurons, delays, recurrence, weights beyond a synapse) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from randhet.base.errors import FileError
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import Conv, Cuba, Dense, Flatten, Input, Layer, Network, Operation, Shape
from randhet.fixed_point.shape import output_shape
from randhet.netx.node import Node, group, layer_groups
from randhet.netx.read import loaded, network_of

STATE_SHIFT = 6
"""Lava shifts synaptic sums, thresholds and bias mantissas by 6 bits into membrane units."""
MANTISSA_MIN, MANTISSA_MAX = -(2**15), 2**15 - 1
"""Lava keeps bias mantissas as int16."""
INTEGRATOR = (0, 4096, 2**17)
"""iDecay, vDecay and vThMant of a dense layer without a neuron."""


@dataclass(frozen=True)
class Shown:
    """What the file does not say: T; bits of an input value (1: spikes) and whether it is signed; the input's shape.

    The shape (channel, y, x) is needed only where the file has no input layer.
    """

    steps: int
    bits: int = 1
    signed: bool = False
    shape: Shape | None = None


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


def read_foreign(path: str | Path, shown: Shown) -> Network:
    """The network in a file of lava-dl; FileError where it is damaged or cannot be expressed."""
    return loaded(path, lambda root: _foreign(root, shown))


@dataclass
class Chain:
    """The layers so far."""

    shown: Shown
    layers: list[Layer]
    shapes: list[Shape]

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
        if kind not in LAYERS:
            raise node.fail("type", f"is {kind!r}, known in files of lava-dl are {', '.join(LAYERS)}")
        if i == 0 and kind != "input":
            chain.add("input", Input(_input_shape(node, shown), shown.bits, shown.signed))
        LAYERS[kind](chain, node, f"{kind}{i}")
        _compare(node, kind, chain)
    return Network(tuple(chain.layers), shown.steps, metadata={"source": "lava-dl"})


def _input_shape(node: Node, shown: Shown) -> Shape:
    if shown.shape is not None:
        return shown.shape
    if node.text("type") == "dense":
        return (_rows(node).shape[1],)
    raise node.fail("type", "is the first layer and no input layer: the shape of the input must be given")


def _compare(node: Node, kind: str, chain: Chain) -> None:
    stated, found = _shape(node), chain.shapes[-1]
    same = stated == found if kind == "conv" else prod(stated) == prod(found)
    if not same:
        raise node.fail("shape", f"says {stated}, the layers before it give {found}")


# --- layers -----------------------------------------------------------------------------------------------------------


def _input(chain: Chain, node: Node, name: str) -> None:
    """With a neuron, its input currents are the input's values; weight and bias are for whoever sends them."""
    if chain.layers:
        raise node.fail("type", "is 'input', which only the first layer may be")
    shape = _shape(node)
    chain.add(name, Input(shape, chain.shown.bits, chain.shown.signed))
    if node.has("neuron"):
        one_to_one = np.ones((shape[0], 1, 1, 1), np.int8)
        operation = Conv(one_to_one, groups=shape[0]) if len(shape) == 3 else Dense(np.eye(prod(shape), dtype=np.int8))
        chain.add(f"{name}.neuron", operation, _neuron(node, chain, operation, 0, biased=False))


def _conv(chain: Chain, node: Node, name: str) -> None:
    weight, shift = _mantissas(node, _weight(node, (4, 5)))
    weight = weight.reshape(weight.shape[:4])
    stride, padding, dilation = (node.pair(key) for key in ("stride", "padding", "dilation"))
    operation = Conv(weight, stride, padding, dilation, node.integer("groups"))
    if not node.has("neuron"):
        raise node.fail("neuron", "is missing")
    chain.add(name, operation, _neuron(node, chain, operation, shift))


def _dense(chain: Chain, node: Node, name: str) -> None:
    weight, shift = _mantissas(node, _rows(node))
    operation = Dense(weight)
    chain.add(name, operation, _neuron(node, chain, operation, shift))


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
    if node.has("delay") and node.array("delay", "iuf", (0, 1, 2)).any():
        raise node.fail("delay", "is not zero: axonal delays are not supported")
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
}
NEURONS = ("CUBA", "LOIHI")
