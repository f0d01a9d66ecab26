"""What every exported ONNX file says about itself, and how it is written: checked, beside its path, then renamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from randhet.base.files import replacing_all
from randhet.fixed_point.network import Layer, Network
from randhet.netx.words import FORMAT_VERSION, decay_word, entries, neuron_word

EXTERNAL_LIMIT = 2**31 - 1
"""Largest protocol buffer, bytes; a bigger model keeps its tensors in a file beside it."""


def digest(value: Any) -> str:
    """SHA-256 of a network: every field of every layer, arrays by type, shape and bytes."""
    state = hashlib.sha256()
    _feed(state, value)
    return state.hexdigest()


def _feed(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        wide = value.astype("<f8" if value.dtype.kind == "f" else "<i8")
        state.update(repr(wide.shape).encode() + wide.tobytes())
    elif is_dataclass(value):
        state.update(type(value).__name__.encode())
        for field in fields(value):
            if field.init:  # the rest follows from these
                _feed(state, getattr(value, field.name))
    elif isinstance(value, tuple):
        state.update(f"({len(value)}".encode())
        for item in value:
            _feed(state, item)
    else:
        state.update(repr(value).encode())


def metadata(network: Network, kind: str) -> dict[str, str]:
    """Format version, hashes, seed policy, quantisation and scales of each layer, and the network's own metadata."""
    return {
        "randhet.kind": kind,
        "randhet.format": str(FORMAT_VERSION),
        "randhet.network_sha256": digest(network),
        "randhet.steps": str(network.steps),
        "randhet.classes": json.dumps(network.classes),
        "randhet.seed": "fixed in the file" if network.seed is not None else "given at run time",
        "randhet.quantisation": json.dumps([_quantisation(layer) for layer in network.layers if layer.neuron]),
        **{f"source.{key}": value for key, value in network.metadata.items()},
    }


def _quantisation(layer: Layer) -> dict[str, Any]:
    """Bits, scales and every field that is one number or one name, of the neuron and of its decay."""
    assert layer.neuron is not None
    scale = None if layer.scale is None else layer.scale.tolist()
    words = {"layer": layer.name, "neuron": neuron_word(layer.neuron), "weight_bits": 8}
    return {**words, **_settings(layer.neuron), "scale": scale}


def _settings(component: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for entry in entries(component):
        value = getattr(component, entry.name)
        if entry.kind == "Decay":
            settings |= {entry.name: decay_word(value), **_settings(value)}
        elif isinstance(value, (int, float, str)):
            settings[entry.name] = value
    return settings


def float_metadata(graph: Any, kind: str, steps: int, taus: str, source: Mapping[str, str]) -> dict[str, str]:
    """The same for a traced float model: nothing is quantised, and the seed policy is where the taus come from."""
    return {
        "randhet.kind": kind,
        "randhet.format": str(FORMAT_VERSION),
        "randhet.network_sha256": digest(graph),
        "randhet.steps": str(steps),
        "randhet.seed": {"input": "decay factors are inputs", "drawn": "decay factors are drawn by the runtime"}[taus],
        "randhet.quantisation": "none, float32",
        **{f"source.{key}": value for key, value in source.items()},
    }


def save(path: str | Path, model: onnx.ModelProto, external_limit: int = EXTERNAL_LIMIT) -> None:
    """Infer shapes, check, write in a folder beside `path`, then rename. Over the limit, tensors go to PATH.data."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    with replacing_all(path) as temporary:
        external: dict[str, Any] = {
            "save_as_external_data": size > external_limit,
            "location": f"{temporary.name}.data",
        }
        onnx.save_model(model, temporary, **external)
        onnx.checker.check_model(str(temporary), full_check=True)


def load_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a model."""
    return {entry.key: entry.value for entry in model.metadata_props}
