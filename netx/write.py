"""Write an integer network as NetX HDF5 (`.net`), the format of lava-dl, with additions where NetX has no word.

Groups layer/0, layer/1, ... hold type, shape, weight, bias, stride, padding, dilation, groups and neuron/* as lava-dl
writes them. Added, never changed: inputs, scale, kernel, neuron types RHLIF, LIF, HETLIF and ACCUMULATE, and the root
attributes format, steps, classes, metadata, seed (only where the user asked for a reproducible file).
"""

from __future__ import annotations

import json
from functools import singledispatch
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from randhet.base.files import replacing
from randhet.fixed_point.network import (
    FORMAT_VERSION,
    Add,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Het,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    Operation,
    RandomTau,
    ReadOut,
    Shape,
    SumPool,
)
from randhet.netx.read import FORMAT, read

__all__ = ["read", "write"]

Fields = dict[str, Any]


def write(path: str | Path, network: Network) -> None:
    """Check the network, write it beside `path`, then rename. The same network gives the same bytes."""
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
    fields |= describe(layer.operation)
    if layer.neuron is not None:
        fields["bias"] = layer.neuron.bias.astype(np.int32) >> bias_exponent(layer.neuron)
        fields |= {f"neuron/{key}": value for key, value in describe(layer.neuron).items()}
    if layer.scale is not None:
        fields["scale"] = layer.scale.astype(np.float64)
    return fields


@singledispatch
def describe(part: Operation | Neuron) -> Fields:
    """The datasets that say what an operation or a neuron is."""
    raise TypeError(f"the file format has no word for {type(part).__name__}")


@describe.register
def _(part: Input) -> Fields:
    return {"type": "input", "bits": part.bits, "signed": int(part.signed)}


@describe.register
def _(part: Conv) -> Fields:
    geometry = {name: np.array(getattr(part, name), np.int64) for name in ("stride", "padding", "dilation")}
    return {"type": "conv", "weight": part.weight.astype(np.int8), **geometry, "groups": part.groups}


@describe.register
def _(part: Dense) -> Fields:
    return {"type": "dense", "weight": part.weight.astype(np.int8)}


@describe.register
def _(part: Add) -> Fields:
    return {"type": "add"}


@describe.register
def _(part: SumPool) -> Fields:
    return {"type": "sum_pool", "kernel": np.array(part.kernel), "stride": np.array(part.stride)}


@describe.register
def _(part: Flatten) -> Fields:
    return {"type": "flatten"}


def _threshold(part: RandomTau | Lif | Het | Cuba) -> Fields:
    return {"threshold": part.threshold.astype(np.int32), "f": part.f}


@describe.register
def _(part: RandomTau) -> Fields:
    return {
        "type": "RHLIF",
        **_threshold(part),
        "k": part.k,
        "table": part.table.astype(np.uint16),
        "sampling": part.sampling,
        "sigma": float(part.sigma),
        "neurons_per_core": part.neurons_per_core,
    }


@describe.register
def _(part: Lif) -> Fields:
    return {"type": "LIF", **_threshold(part), "k": part.k, "decay": part.decay}


@describe.register
def _(part: Het) -> Fields:
    return {"type": "HETLIF", **_threshold(part), "k": part.k, "decay": part.decay.astype(np.uint16)}


STOCK_SHIFT = 6
"""Stock NetX shifts sums, vThMant and bias mantissas by this much; its bias mantissa is an int16."""


def _stock(part: Cuba) -> bool:
    """Whether stock NetX has words for the neuron: one threshold mantissa, a bias mantissa per channel, f of 6."""
    unit, bias, threshold = 1 << STOCK_SHIFT, part.bias.astype(np.int64), part.threshold
    whole = not (bias % unit).any() and not (threshold % unit).any() and len(np.unique(threshold)) == 1
    fits = bool((np.abs(bias) < 2 ** (15 + STOCK_SHIFT)).all())
    return part.f == STOCK_SHIFT and bias.ndim == 1 and whole and fits


def bias_exponent(neuron: Neuron) -> int:
    """The file's bias is the neuron's, shifted right by this much."""
    return STOCK_SHIFT if isinstance(neuron, Cuba) and _stock(neuron) else 0


@describe.register
def _(part: Cuba) -> Fields:
    """vThMant, iDecay, vDecay are what stock NetX reads; it refuses the layer where vThMant is missing."""
    stock: Fields = {
        "iDecay": part.current_decay + 1,
        "vDecay": part.voltage_decay,
        "refDelay": 1,
        "gradedSpike": False,
        "bias_exp": bias_exponent(part),
    }
    if _stock(part):
        stock["vThMant"] = int(part.threshold[0]) >> STOCK_SHIFT
    return {"type": "CUBA", **_threshold(part), **stock}


@describe.register
def _(part: ReadOut) -> Fields:
    return {"type": "ACCUMULATE"}
