"""Write an integer network as NetX HDF5 (`.net`), the format of lava-dl, with additions where NetX has no word.

Groups layer/0, layer/1, ... hold type, shape, weight, bias, stride, padding, dilation, groups and neuron/* as lava-dl
writes them. Added, never changed: inputs, scale, kernel, the fields of our neurons, and the root attributes format,
version, steps, classes, metadata, seed (only where the user asked for a reproducible file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from randhet.base.files import replacing
from randhet.base.kinds import assert_never
from randhet.fixed_point.network import (
    Add,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    Network,
    Neuron,
    Operation,
    Shape,
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
        _fill(file, network)


def _fill(file: h5py.File, network: Network) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["version"] = FORMAT_VERSION
    file.attrs["steps"] = network.steps
    file.attrs["classes"] = json.dumps(network.classes)
    file.attrs["metadata"] = json.dumps(dict(network.metadata), sort_keys=True)
    if network.seed is not None:
        file.attrs["seed"] = np.uint64(network.seed)
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        group = file.create_group(f"layer/{i}")
        for key, value in _fields(layer, shape).items():
            _put(group, key, value)


def _put(group: h5py.Group, key: str, value: Any) -> None:
    """Strings as lava-dl stores them, one fixed-width ASCII entry; everything else as it is."""
    if isinstance(value, str):
        value = np.array([value.encode()])
    group.create_dataset(key, data=value, track_times=False)


def _fields(layer: Layer, shape: Shape) -> Fields:
    fields = {"shape": np.array(shape, np.int64), "name": layer.name, "inputs": np.array(layer.inputs, np.int64)}
    fields |= {"type": operation_word(layer.operation), **_operation(layer.operation)}
    if layer.neuron is not None:
        fields |= _neuron(layer.neuron)
    if layer.scale is not None:
        fields["scale"] = layer.scale.astype(np.float64)
    return fields


def _operation(operation: Operation) -> Fields:
    """The datasets that say what an operation is, its shape aside."""
    match operation:
        case Input():
            return {"bits": operation.bits, "signed": int(operation.signed)}
        case Conv():
            geometry = {
                name: np.array(getattr(operation, name), np.int64) for name in ("stride", "padding", "dilation")
            }
            return {"weight": operation.weight.astype(np.int8), **geometry, "groups": operation.groups}
        case Dense():
            return {"weight": operation.weight.astype(np.int8)}
        case SumPool():
            return {"kernel": np.array(operation.kernel), "stride": np.array(operation.stride)}
        case Add() | Flatten():
            return {}
        case _:
            assert_never(operation)


# --- neurons --------------------------------------------------------------------------------------------------------


def _neuron(neuron: Neuron) -> Fields:
    """The datasets of neuron/, and the bias, which NetX keeps beside the weights."""
    word, inside, added = neuron_word(neuron), _declared(neuron), extras(neuron)
    bias = inside.pop("bias") >> added.get("bias_exp", 0)
    fields = {"type": word, **inside, **added}
    return {"bias": bias, **{f"neuron/{key}": value for key, value in fields.items()}}


def _declared(component: Any) -> Fields:
    """Every field of a neuron or a decay as its declaration says it is stored."""
    fields: Fields = {}
    for entry in entries(component):
        value = getattr(component, entry.name)
        if entry.kind == "Decay":
            inside = {"kind": decay_word(value), **_declared(value)}
            fields |= {f"{entry.word}/{key}": each for key, each in inside.items()}
        else:
            fields[entry.word] = _packed(value, entry)
    return fields


def _packed(value: Any, entry: Entry) -> Any:
    if entry.limits is None or entry.limits.names:
        return value
    if entry.limits.per:
        return value.astype(np.uint16 if entry.limits.high is None else np.int32)
    return int(value) + entry.added
