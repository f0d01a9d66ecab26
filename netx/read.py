"""Read a `.net` file. Everything is verified before it is allocated: kind, type, shape, size, links, ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import h5py
import numpy as np

from randhet.base.errors import FileError, NetworkError
from randhet.base.hdf5 import verify
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Conv,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    MaxPool,
    Network,
    Neuron,
    Operation,
    Spiking,
    Spread,
    SumPool,
)
from randhet.netx import version1
from randhet.netx.node import Node, bias, group, layer_groups
from randhet.netx.stock import EXTRAS, extras
from randhet.netx.words import (
    DECAYS,
    DYNAMICS,
    ENSEMBLE_VERSION,
    FORMAT,
    FORMAT_VERSION,
    NEURONS,
    OPERATIONS,
    Entry,
    entries,
)

COMMON = {"type", "shape", "name", "inputs", "neuron", "bias", "scale"}
"""Entries of a layer beside the fields of its operation."""


Made = TypeVar("Made")


class Version(NamedTuple):
    """How the layers of a file's version are read; strict: an entry that nothing here asks for is refused."""

    neuron: Callable[[Node], Neuron]
    strict: bool


def read(path: str | Path) -> Network:
    """The network in a file; FileError where it is missing, damaged, foreign or breaks a rule."""
    return loaded(path, network_of)


def loaded(path: str | Path, make: Callable[[Node], Made]) -> Made:
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


def network_of(root: Node, version: Version | None = None) -> Network:
    """The network in a file of this project, by the file's version where none is given."""
    if root.attribute("format", str, "") != FORMAT:
        raise root.fail("format", f"is not {FORMAT!r}: this is not a randhet network")
    version = version or _version(root)
    nodes = layer_groups(root)
    network = Network(
        layers=tuple(_layer(node, version) for node in nodes),
        steps=root.attribute("steps", int),
        seed=root.attribute("seed", int) if "seed" in root.group.attrs else None,
        classes=tuple(map(str, root.table("classes", list))),
        generator=cast(GeneratorKind, root.attribute("generator", str, "register")),
        metadata={str(key): str(value) for key, value in root.table("metadata", dict).items()},
    )
    _compare_shapes(nodes, network)
    return network


def _version(root: Node) -> Version:
    version = root.attribute("version", int)
    if version == ENSEMBLE_VERSION:
        raise root.fail("version", f"is {version}: the file holds an ensemble, and one network is needed here")
    if version > ENSEMBLE_VERSION:
        raise root.fail("version", f"is {version}, newer than {ENSEMBLE_VERSION}, the newest this release reads")
    if version not in VERSIONS:
        raise root.fail("version", f"is {version}, the first was {min(VERSIONS)}")
    return VERSIONS[version]


def _compare_shapes(nodes: list[Node], network: Network) -> None:
    for node, shape in zip(nodes, network.shapes):
        stated = tuple(node.array("shape").tolist())
        if stated != shape:
            raise node.fail("shape", f"says {stated}, the layers before it give {shape}")


def _layer(node: Node, version: Version) -> Layer:
    kind = _kind(node, "type", OPERATIONS)
    if version.strict:
        no_others(node, COMMON | {field.name for field in fields(kind)})
    return Layer(
        name=node.text("name"),
        operation=MAKERS[kind](node),
        inputs=tuple(node.array("inputs").tolist()),
        neuron=version.neuron(node) if node.has("neuron") else None,
        scale=node.array("scale", "f") if node.has("scale") else None,
    )


# --- neurons --------------------------------------------------------------------------------------------------------


def _neuron(layer: Node) -> Neuron:
    """The neuron of a layer, field by field as its kind declares them; its bias is kept beside the weights."""
    node = group(layer, "neuron")
    kind = _kind(node, "type", NEURONS)
    no_others(node, {"type", *_words(kind), *EXTRAS[kind]})
    exponent = node.integer("bias_exp") if node.has("bias_exp") else 0
    if "dynamics" in _words(kind):
        neuron: Neuron = Leaky(_dynamics(node, bias(layer, exponent)), **_values(node, kind, "dynamics"))
    else:
        neuron = kind(bias=bias(layer, exponent), **_values(node, kind, "bias"))
    _compare_extras(node, neuron, layer.has("recurrent"))
    return neuron


def _dynamics(neuron: Node, own: np.ndarray) -> Spiking:
    """What moves the membrane potential of a leaky read-out."""
    node = group(neuron, "dynamics")
    kind = _kind(node, "type", DYNAMICS)
    no_others(node, {"type", *_words(kind)})
    return cast(Spiking, kind(bias=own, **_values(node, kind, "bias")))


def _words(kind: type) -> set[str]:
    """The entries of a kind of neuron; its bias is kept beside the weights."""
    return {entry.word for entry in entries(kind) if entry.name != "bias"}


def _values(node: Node, kind: type, without: str) -> dict[str, Any]:
    wanted = [
        entry for entry in entries(kind) if entry.name != without and not (_later(entry) and not node.has(entry.word))
    ]
    return {entry.name: _value(node, entry) for entry in wanted}


def _later(entry: Entry) -> bool:
    """Whether the first files of version 2 lack the field: then it has its default."""
    return entry.name in ("reset_delay", "floor")


def _compare_extras(node: Node, neuron: Neuron, recurrent: bool) -> None:
    """FileError where what stock NetX reads is not what the neuron's own fields say."""
    expected = extras(neuron, recurrent)
    for key in EXTRAS[type(neuron)]:
        stated = node.integer(key) if node.has(key) else None
        if stated != expected.get(key):
            raise node.fail(key, f"is {stated}, the neuron's other fields give {expected.get(key)}")


def _decay(neuron: Node) -> Any:
    node = group(neuron, "decay")
    kind = _kind(node, "kind", DECAYS)
    no_others(node, {entry.word for entry in entries(kind)} | {"kind"})
    return kind(**{entry.name: _value(node, entry) for entry in entries(kind)})


def _kind(node: Node, key: str, words: Mapping[str, type]) -> type:
    word = node.text(key)
    if word not in words:
        raise node.fail(key, f"is {word!r}, known are {', '.join(words)}")
    return words[word]


def no_others(node: Node, known: set[str]) -> None:
    """FileError at an entry that nothing names: what it asks for would silently not be done."""
    for key in sorted(set(node.group) - known):
        raise node.fail(key, f"is not known here, known are {', '.join(sorted(known))}")


def _value(node: Node, entry: Entry) -> Any:
    """A field's value as its declaration says it is stored."""
    if entry.limits is None:
        return UNDECLARED[entry.kind](node, entry.word)
    if entry.limits.names:
        return node.text(entry.word)
    if entry.limits.per:
        return node.array(entry.word, axes=tuple(sorted({AXES[per] for per in entry.limits.per} | _flat(entry))))
    return node.integer(entry.word) - entry.added


AXES = {"layer": 0, "channel": 1, "neuron": 3, "draw": 1}
"""Number of axes of an array by what it has one value of."""


def _flat(entry: Entry) -> set[int]:
    """A layer of neurons without places has one axis."""
    return {1} if entry.limits and "neuron" in entry.limits.per else set()


UNDECLARED: dict[str, Callable[[Node, str], Any]] = {"float": Node.number, "Decay": lambda node, word: _decay(node)}
VERSIONS = {1: Version(version1.neuron, False), FORMAT_VERSION: Version(_neuron, True)}


# --- operations -----------------------------------------------------------------------------------------------------


def _input(node: Node) -> Input:
    sequence = bool(node.integer("sequence")) if node.has("sequence") else False
    return Input(tuple(node.array("shape").tolist()), node.integer("bits"), bool(node.integer("signed")), sequence)


def _conv(node: Node) -> Conv:
    stride, padding, dilation = (node.pair(key) for key in ("stride", "padding", "dilation"))
    return Conv(node.array("weight", "i", (4,)), stride, padding, dilation, node.integer("groups"))


def _dense(node: Node) -> Dense:
    return Dense(*(node.array(key, "i", (2,)) for key in ("weight", "recurrent") if node.has(key) or key == "weight"))


MAKERS: dict[type, Callable[[Node], Operation]] = {
    Input: _input,
    Conv: _conv,
    Dense: _dense,
    Add: lambda node: Add(),
    And: lambda node: And(),
    Iand: lambda node: Iand(),
    Concat: lambda node: Concat(),
    SumPool: lambda node: SumPool(node.pair("kernel"), node.pair("stride")),
    MaxPool: lambda node: MaxPool(node.pair("kernel"), node.pair("stride"), node.pair("padding")),
    Spread: lambda node: Spread(node.pair("stride"), node.pair("extra")),
    Flatten: lambda node: Flatten(),
}
