"""Write an integer network as NetX HDF5 (`.net`), the format of lava-dl, with additions where NetX has no word.

Groups layer/0, layer/1, ... hold type, shape, weight, bias, stride, padding, dilation, groups and neuron/* as lava-dl
writes them. Added, never changed: inputs, scale, kernel, the fields of our neurons, and the root attributes format,
version, steps, classes, metadata, seed (only where the user asked for a reproducible file), generator (only where it is
not the register).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from randhet.base.files import replacing
from randhet.base.kinds import assert_never
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
    MaxPool,
    Network,
    Neuron,
    Operation,
    Shape,
    Spread,
    SumPool,
)
from randhet.netx.read import read
from randhet.netx.stock import extras
from randhet.netx.words import FORMAT, FORMAT_VERSION, Entry, decay_word, entries, neuron_word, operation_word

__all__ = ["read", "write"]

Fields = dict[str, Any]


def write(path: str | Path, network: Network) -> None:
    """Write the network beside `path`, then rename. The same network gives the same bytes."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        fill(file, network)


def fill(file: h5py.File, network: Network) -> None:
    """Write the network into an empty file."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = FORMAT_VERSION
    file.attrs["steps"] = network.steps
    file.attrs["classes"] = json.dumps(network.classes)
    file.attrs["metadata"] = json.dumps(dict(network.metadata), sort_keys=True)
    if network.seed is not None:
        file.attrs["seed"] = np.uint64(network.seed)
    if network.generator != "register":
        file.attrs["generator"] = network.generator
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        group = file.create_group(f"layer/{i}")
        for key, value in _fields(layer, shape).items():
            put(group, key, value)


def put(group: h5py.Group, key: str, value: Any) -> None:
    """Strings as lava-dl stores them, one fixed-width ASCII entry; everything else as it is."""
    if isinstance(value, str):
        value = np.array([value.encode()])
    group.create_dataset(key, data=value, track_times=False)


def _fields(layer: Layer, shape: Shape) -> Fields:
    fields = {"shape": np.array(shape, np.int64), "name": layer.name, "inputs": np.array(layer.inputs, np.int64)}
    fields |= {"type": operation_word(layer.operation), **_operation(layer.operation)}
    if layer.neuron is not None:
        fields |= _neuron(layer.neuron, layer.recurrent is not None)
    if layer.scale is not None:
        fields["scale"] = layer.scale.astype(np.float64)
    return fields


def _operation(operation: Operation) -> Fields:
    """The datasets that say what an operation is, its shape aside."""
    match operation:
        case Input():
            return {name: int(getattr(operation, name)) for name in ("bits", "signed", "sequence")}
        case Conv():
            geometry = _pairs(operation, "stride", "padding", "dilation")
            return {"weight": operation.weight.astype(np.int8), **geometry, "groups": operation.groups}
        case Dense():
            own = {} if operation.recurrent is None else {"recurrent": operation.recurrent.astype(np.int8)}
            return {"weight": operation.weight.astype(np.int8), **own}
        case SumPool():
            return _pairs(operation, "kernel", "stride")
        case MaxPool():
            return _pairs(operation, "kernel", "stride", "padding")
        case Spread():
            return _pairs(operation, "stride", "extra")
        case Add() | And() | Iand() | Concat() | Flatten():
            return {}
        case _:
            assert_never(operation)


def _pairs(operation: Operation, *names: str) -> Fields:
    return {name: np.array(getattr(operation, name), np.int64) for name in names}


# --- neurons --------------------------------------------------------------------------------------------------------


def _neuron(neuron: Neuron, recurrent: bool) -> Fields:
    """The datasets of neuron/, and the bias, which NetX keeps beside the weights."""
    word, inside, added = neuron_word(neuron), _declared(neuron), extras(neuron, recurrent)
    inside = {key: value for key, value in inside.items() if key not in ("bias", "dynamics/bias")}
    bias = neuron.bias.astype(np.int32) >> added.get("bias_exp", 0)
    fields = {"type": word, **inside, **added}
    return {"bias": bias, **{f"neuron/{key}": value for key, value in fields.items()}}


def _declared(component: Any) -> Fields:
    """Every field of a neuron or a decay as its declaration says it is stored."""
    fields: Fields = {}
    for entry in entries(component):
        value = getattr(component, entry.name)
        if entry.kind in NESTED:
            inside = {**NESTED[entry.kind](value), **_declared(value)}
            fields |= {f"{entry.word}/{key}": each for key, each in inside.items()}
        else:
            fields[entry.word] = _packed(value, entry)
    return fields


NESTED: dict[str, Callable[[Any], Fields]] = {
    "Decay": lambda decay: {"kind": decay_word(decay)},
    "Spiking": lambda neuron: {"type": neuron_word(neuron)},
}
"""Fields that are groups of their own, and the word that says which kind is in the group."""


def _packed(value: Any, entry: Entry) -> Any:
    if entry.limits is None or entry.limits.names:
        return value
    if entry.limits.per:
        return value.astype(np.uint16 if entry.limits.high is None else np.int32)
    return int(value) + entry.added
