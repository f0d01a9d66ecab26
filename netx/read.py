"""Read a `.net` file. Everything is verified before it is allocated: kind, type, shape, size, links, ranges."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from randhet.base.errors import FileError, NetworkError
from randhet.fixed_point.network import (
    FORMAT_VERSION,
    Add,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Het,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    Operation,
    Pair,
    PerNeuron,
    RandomTau,
    ReadOut,
    Sampling,
    SumPool,
)
from randhet.netx.hdf5 import readable, text_of_attribute, verify

FORMAT = "randhet-netx"
MAX_LAYERS = 4096
MAX_VALUES = 2**28
"""Largest number of entries of one dataset, 268 million."""


class Node:
    """A group of the file with typed, bounded access; every failure is a FileError that names the entry."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def fail(self, key: str, fault: str) -> FileError:
        """The error that says what is wrong with an entry."""
        return FileError(f"{Path(self.group.file.filename).name}: {self.group.name}/{key} {fault}")

    def has(self, key: str) -> bool:
        """Whether there is such an entry."""
        return key in self.group

    def _dataset(self, key: str) -> h5py.Dataset:
        found = self.group.get(key)  # that it is no link and has its data here is what `verify` has seen to
        if found is None:
            raise self.fail(key, "is missing")
        if not isinstance(found, h5py.Dataset):
            raise self.fail(key, "is not a dataset")
        if prod(found.shape) > MAX_VALUES:
            raise self.fail(key, f"has {prod(found.shape)} entries, the limit is {MAX_VALUES}")
        return found

    def array(self, key: str, kinds: str = "iu", axes: tuple[int, ...] = (1,)) -> np.ndarray:
        """An array of one of the dtype kinds and one of the numbers of axes; floats must be finite."""
        found = self._dataset(key)
        if found.dtype.kind not in kinds or len(found.shape) not in axes:
            raise self.fail(key, f"is {found.dtype} of shape {found.shape}, which is not what belongs there")
        value = np.asarray(found[()])
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise self.fail(key, "contains NaN or infinity")
        return value

    def integer(self, key: str) -> int:
        """One whole number, as a scalar or as an array of one."""
        value = self.array(key, "iub", (0, 1)).reshape(-1)
        if len(value) != 1:
            raise self.fail(key, f"has {len(value)} entries instead of one")
        return int(value[0])

    def number(self, key: str) -> float:
        """One finite real number."""
        return float(self.array(key, "iuf", (0,)))

    def text(self, key: str) -> str:
        """One string of at most 1000 bytes."""
        value = self.array(key, "SO", (0, 1)).reshape(-1)
        if len(value) != 1 or not isinstance(value[0], bytes) or len(value[0]) > 1000:
            raise self.fail(key, "is not one short string")
        return bytes(value[0]).decode("utf-8", "replace")

    def pair(self, key: str) -> Pair:
        """Two whole numbers (y, x); one number stands for both."""
        value = self.array(key, "iu", (0, 1)).reshape(-1)
        if len(value) not in (1, 2):
            raise self.fail(key, f"has {len(value)} entries instead of two")
        return int(value[0]), int(value[-1])

    def attribute(self, key: str, kind: type, default: Any = None) -> Any:
        """An attribute of the given Python kind, or the default where it is absent."""
        if key in self.group.attrs:
            found = self.group.attrs.get_id(key)
            if found.shape != () or not readable(found.dtype):
                raise self.fail(key, f"is {found.dtype} of shape {found.shape}, it must be one value")
            if found.dtype.kind == "O":
                self._short(key)
        value = self.group.attrs.get(key, default)
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, kind):
            raise self.fail(key, f"is {type(value).__name__}, it must be {kind.__name__}")
        return value

    def _short(self, key: str) -> None:
        """FileError where a text says it is longer than the file, which HDF5 would allocate."""
        path = Path(self.group.file.filename)
        length, size = text_of_attribute(path, key), path.stat().st_size
        if length > size:
            raise self.fail(key, f"is a text of {length} bytes, the file has {size}")

    def table(self, key: str, kind: type) -> Any:
        """A JSON attribute of the given Python kind."""
        try:
            value = json.loads(self.attribute(key, str))
        except ValueError:
            raise self.fail(key, "is not JSON") from None
        if not isinstance(value, kind):
            raise self.fail(key, f"is not a {kind.__name__}")
        return value


def read(path: str | Path) -> Network:
    """The network in a file; FileError where it is missing, damaged, foreign or breaks a rule."""
    return loaded(path, network_of)


def loaded(path: str | Path, make: Callable[[Node], Network]) -> Network:
    """What `make` finds below the root of a file, checked; every failure is a FileError."""
    if not Path(path).is_file():
        raise FileError(f"network {path} does not exist")
    verify(path, packed=False)
    try:
        with h5py.File(path, "r") as file:
            network = make(Node(file))
    except NetworkError as error:
        raise FileError(f"network {path}: {error}") from None
    except FileError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, ValueError for a damaged file
        reason = str(error).split("\n")[0][:120]
        raise FileError(f"{path} is not an undamaged HDF5 network file ({reason})") from None
    return network


def network_of(root: Node) -> Network:
    """The network in a file of this project."""
    if root.attribute("format", str, "") != FORMAT:
        raise root.fail("format", f"is not {FORMAT!r}: this is not a randhet network")
    if root.attribute("version", int) > FORMAT_VERSION:
        raise root.fail("version", f"is newer than {FORMAT_VERSION}, the newest this release reads")
    nodes = layer_groups(root)
    network = Network(
        layers=tuple(_layer(node) for node in nodes),
        steps=root.attribute("steps", int),
        seed=root.attribute("seed", int) if "seed" in root.group.attrs else None,
        classes=tuple(map(str, root.table("classes", list))),
        metadata={str(key): str(value) for key, value in root.table("metadata", dict).items()},
    )
    _compare_shapes(nodes, network)
    return network


def layer_groups(root: Node) -> list[Node]:
    """layer/0, layer/1, ... of a file."""
    groups = root.group.get("layer")
    if not isinstance(groups, h5py.Group) or not 0 < len(groups) <= MAX_LAYERS:
        raise root.fail("layer", f"must hold 1 to {MAX_LAYERS} layers")
    return [group(Node(groups), str(i)) for i in range(len(groups))]


def group(parent: Node, key: str) -> Node:
    """A group inside this one; FileError where it is missing or something else."""
    found = parent.group.get(key)
    if not isinstance(found, h5py.Group):
        raise parent.fail(key, "is missing or not a group")
    return Node(found)


def _compare_shapes(nodes: list[Node], network: Network) -> None:
    for node, shape in zip(nodes, network.shapes):
        stated = tuple(node.array("shape").tolist())
        if stated != shape:
            raise node.fail("shape", f"says {stated}, the layers before it give {shape}")


def _layer(node: Node) -> Layer:
    kind = node.text("type")
    if kind not in OPERATIONS:
        raise node.fail("type", f"is {kind!r}, known are {', '.join(OPERATIONS)}")
    return Layer(
        name=node.text("name"),
        operation=OPERATIONS[kind](node),
        inputs=tuple(node.array("inputs").tolist()),
        neuron=_neuron(node) if node.has("neuron") else None,
        scale=node.array("scale", "f") if node.has("scale") else None,
    )


def _neuron(layer: Node) -> Neuron:
    node = group(layer, "neuron")
    kind = node.text("type")
    if kind not in NEURONS:
        raise node.fail("type", f"is {kind!r}, known are {', '.join(NEURONS)}")
    return NEURONS[kind](node, layer.array("bias", axes=(1, 3)))


def _input(node: Node) -> Input:
    return Input(tuple(node.array("shape").tolist()), node.integer("bits"), bool(node.integer("signed")))


def _conv(node: Node) -> Conv:
    stride, padding, dilation = (node.pair(key) for key in ("stride", "padding", "dilation"))
    return Conv(node.array("weight", "i", (4,)), stride, padding, dilation, node.integer("groups"))


def _random(node: Node, bias: np.ndarray) -> RandomTau:
    return Lif(
        threshold=node.array("threshold"),
        bias=bias,
        decay=Drawn(
            node.array("table"),
            sampling=cast(Sampling, node.text("sampling")),
            sigma=node.number("sigma"),
            neurons_per_core=node.integer("neurons_per_core"),
        ),
        k=node.integer("k"),
        f=node.integer("f"),
    )


def _lif(node: Node, bias: np.ndarray) -> Lif:
    return Lif(node.array("threshold"), bias, Constant(node.integer("decay")), k=node.integer("k"), f=node.integer("f"))


def _het(node: Node, bias: np.ndarray) -> Het:
    decay = node.array("decay", axes=(1, 3))
    return Lif(node.array("threshold"), bias, PerNeuron(decay), k=node.integer("k"), f=node.integer("f"))


def _cuba(node: Node, bias: np.ndarray) -> Cuba:
    current, voltage = node.integer("iDecay") - 1, node.integer("vDecay")
    exponent = node.integer("bias_exp") if node.has("bias_exp") else 0
    if exponent not in (0, 6):
        raise node.fail("bias_exp", f"is {exponent}, it must be 0 or 6")
    return Cuba(node.array("threshold"), bias.astype(np.int64) << exponent, current, voltage, node.integer("f"))


OPERATIONS: dict[str, Callable[[Node], Operation]] = {
    "input": _input,
    "conv": _conv,
    "dense": lambda node: Dense(node.array("weight", "i", (2,))),
    "add": lambda node: Add(),
    "sum_pool": lambda node: SumPool(node.pair("kernel"), node.pair("stride")),
    "flatten": lambda node: Flatten(),
}
NEURONS: dict[str, Callable[[Node, np.ndarray], Neuron]] = {
    "RHLIF": _random,
    "LIF": _lif,
    "HETLIF": _het,
    "CUBA": _cuba,
    "ACCUMULATE": lambda node, bias: ReadOut(bias),
}
