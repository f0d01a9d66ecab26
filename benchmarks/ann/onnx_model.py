"""The ANN in onnxruntime: a graph of quantised and dequantised values (QDQ), which its optimiser makes integer kernels.

Source: the ONNX operators QuantizeLinear and DequantizeLinear, and onnxruntime's page "Quantize ONNX models". Options
are onnxruntime's own, as most users leave them: on a processor without VNNI sums of two products saturate at 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from randhet.benchmarks.ann.network import Ann, Forward, Quantum
from randhet.export.onnx.graph import Scope
from randhet.fixed_point.network import Add, Conv, Dense, Flatten, Layer, Network, Operation, SumPool


def model(ann: Ann, network: Network, batch: int) -> onnx.ModelProto:
    """Build the graph: `pixels` (batch, C, Y, X) uint8 to `logits` (batch, classes) uint8."""
    scope = Scope()
    names = [scope.input("pixels", np.uint8, (batch, *network.shapes[0]))]
    for i, layer in enumerate(ann.layers[1:], start=1):
        name = "logits" if i == len(ann.layers) - 1 else layer.name
        names.append(_layer(scope, ann, layer, i, [names[source] for source in layer.inputs], name))
    scope.output("logits", np.uint8, (batch, *network.shapes[-1]))
    return scope.model("ann", {})


def _layer(scope: Scope, ann: Ann, layer: Layer, index: int, read: Sequence[str], name: str) -> str:
    """Add one layer; return the name of its uint8 output."""
    quantum = ann.quanta[index]
    if isinstance(layer.operation, Flatten):
        return scope.op("Flatten", read[0], name=name)
    before = [ann.quanta[source] for source in layer.inputs]
    floats = [_dequantised(scope, value, quantum) for value, quantum in zip(read, before)]
    made = _operation(scope, layer.operation, floats, quantum, before[0])
    return scope.op("QuantizeLinear", made, np.float32(quantum.scale), np.uint8(quantum.zero), name=name)


def _dequantised(scope: Scope, value: str, quantum: Quantum) -> str:
    return scope.op("DequantizeLinear", value, np.float32(quantum.scale), np.uint8(quantum.zero))


def _operation(scope: Scope, operation: Operation, read: Sequence[str], quantum: Quantum, before: Quantum) -> str:
    match operation:
        case Conv():
            made = scope.op("Conv", read[0], *_weights(scope, operation, quantum, before), **_geometry(operation))
            return scope.op("Relu", made)
        case Dense():
            return scope.op("Gemm", read[0], *_weights(scope, operation, quantum, before), transB=1)
        case Add():
            return scope.op("Add", *read)
        case SumPool():
            return scope.op("GlobalAveragePool", read[0])
        case _:
            raise AssertionError(operation)


def _weights(scope: Scope, operation: Conv | Dense, quantum: Quantum, before: Quantum) -> tuple[str, str]:
    """Return the names of the dequantised weights and bias."""
    weight = scope.op("DequantizeLinear", operation.weight.astype(np.int8), np.float32(quantum.weight), np.int8(0))
    assert quantum.bias is not None
    unit = np.float32(np.float32(before.scale) * np.float32(quantum.weight))
    return weight, scope.op("DequantizeLinear", quantum.bias.astype(np.int32), unit, np.int32(0))


def _geometry(operation: Conv) -> dict[str, Any]:
    return {
        "kernel_shape": list(operation.weight.shape[2:]),
        "strides": list(operation.stride),
        "pads": [*operation.padding, *operation.padding],
        "dilations": list(operation.dilation),
        "group": operation.groups,
    }


def session(built: onnx.ModelProto, threads: int, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU; optimised: where to write what onnxruntime made of it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])


def make(ann: Ann, network: Network, batch: int, threads: int) -> Forward:
    """Return the pass in onnxruntime, for `batch` images at a time."""
    loaded = session(model(ann, network, batch), threads)

    def forward(pixels: np.ndarray) -> np.ndarray:
        (logits,) = loaded.run(None, {"pixels": pixels})
        return np.asarray(logits)

    return forward
