"""What an integer ONNX file from anyone must be before a runtime is started on it.

An ONNX file is a program: here it may only use the operators that our own files use, hold its data itself or in the one
file beside it that bears its name, and describe itself completely. What its operators do to memory is the runtime's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from randhet.base.errors import FileError, NetworkError
from randhet.export.onnx.meta import load_metadata
from randhet.fixed_point.network import Input, Layer, Network
from randhet.netx.words import FORMAT_VERSION

OPERATORS = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
        "Clip", "Concat", "ConstantOfShape", "ConvInteger", "Div", "Equal", "Expand", "Gather", "GatherElements",
        "Greater", "GreaterOrEqual", "Identity", "If", "Less", "LessOrEqual", "MatMulInteger", "Max", "MaxPool", "Min",
        "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Range", "ReduceSum", "Reshape", "Scan", "Shape", "Sign", "Slice",
        "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""None of them calls code or opens files."""
FORMATS = tuple(str(number) for number in range(1, FORMAT_VERSION + 1))
"""Formats whose graphs have the inputs and outputs of this one."""
MAX_CORES = 2**20
"""Cores of all layers together, each of which has a register to be seeded; Loihi 2 has 128."""


def entries(path: str | Path, kind: str = "integer") -> dict[str, str]:
    """The metadata of an integer ONNX file, whole or "integer step", whose graph keeps to the rules; else FileError."""
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception:
        raise FileError(f"{path} is not an ONNX file") from None
    metadata = load_metadata(model)
    if metadata.get("randhet.kind") != kind or metadata.get("randhet.format") not in FORMATS:
        what = "an integer network" if kind == "integer" else "one step of an integer network"
        raise FileError(f"{path} is not {what} of format {' or '.join(FORMATS)} written by randhet")
    for fault in _faults(model, f"{Path(path).name}.data"):
        raise FileError(f"{path}: {fault}")
    try:
        images(metadata)
        _lists(metadata)
    except (LookupError, TypeError, ValueError, RecursionError, NetworkError):
        raise FileError(f"{path}: its description is damaged") from None
    return metadata


def _lists(metadata: dict[str, str]) -> None:
    """Cores are [layer, how many], the other lists are names; TypeError otherwise."""
    cores, *names = (json.loads(metadata[f"randhet.{name}"]) for name in ("cores", "spiking", "probes"))
    if not all(_list_of(str, group) for group in names) or not _list_of(list, cores):
        raise TypeError
    if not all(_list_of(int, pair) and len(pair) == 2 and min(pair) >= 0 for pair in cores):
        raise TypeError
    if sum(count for _, count in cores) > MAX_CORES:
        raise TypeError


def _list_of(kind: type, value: Any) -> bool:
    return type(value) is list and all(type(item) is kind for item in value)


def images(metadata: dict[str, str]) -> Network:
    """A network of the input layer alone, from the metadata: what images look like."""
    image: dict[str, Any] = json.loads(metadata["randhet.input"])
    layer = Layer("input", Input(tuple(image["shape"]), image["bits"], image["signed"], image.get("sequence") is True))
    return Network((layer,), int(metadata["randhet.steps"]))


def _faults(model: onnx.ModelProto, beside: str) -> Iterator[str]:
    if model.functions or model.training_info or model.graph.sparse_initializer:
        yield "it holds functions, training or sparse tensors, which are not allowed"
    # protobuf gives bytes for what is not UTF-8
    strange = {str(node.op_type) for node in _nodes(model.graph) if node.domain or node.op_type not in OPERATORS}
    if strange:
        yield f"its operators {', '.join(sorted(strange))} are not allowed"
    places = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    if places - {beside}:
        yield f"it keeps data in {min(places - {beside})}, allowed is {beside}"


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of inner graphs too."""
    waiting = [graph]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
