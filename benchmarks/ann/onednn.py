"""The ANN in oneDNN through torch's quantised operators, channels last; convolution and ReLU are one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from randhet.benchmarks.ann.network import Ann, Forward, Quantum
from randhet.fixed_point.network import Add, Conv, Dense, Layer, Network, SumPool

ENGINE = "onednn"
Step = Callable[[Sequence[Tensor]], Tensor]


def make(ann: Ann, network: Network, batch: int, threads: int) -> Forward:
    """Return the pass in oneDNN. Sets torch's engine and number of threads, which hold for the whole process."""
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = ENGINE
    # torch 2.13 announces the end of these types; what follows them is made for its compiler
    warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
    steps = [_step(layer, ann, i) for i, layer in enumerate(ann.layers) if i]
    first = ann.quanta[0]

    def forward(pixels: np.ndarray) -> np.ndarray:
        values = [_quantised(torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last), first)]
        with torch.inference_mode():
            for layer, step in zip(ann.layers[1:], steps):
                values.append(step([values[i] for i in layer.inputs]))
        logits: np.ndarray = values[-1].int_repr().numpy()
        return logits

    return forward


def _quantised(integers: Tensor, quantum: Quantum) -> Tensor:
    return torch._make_per_tensor_quantized_tensor(integers, quantum.scale, quantum.zero)


def _step(layer: Layer, ann: Ann, index: int) -> Step:
    """Return one layer as a function of what it reads; its weights are packed here, once."""
    operation, out = layer.operation, ann.quanta[index]
    library: Any = torch.ops.quantized
    if isinstance(operation, (Conv, Dense)):
        packed = _packed(operation, out, ann.quanta[layer.inputs[0]])
        call = library.conv2d_relu if isinstance(operation, Conv) else library.linear
        return lambda read: call(read[0], packed, out.scale, out.zero)
    if isinstance(operation, Add):
        return lambda read: library.add(read[0], read[1], out.scale, out.zero)
    if isinstance(operation, SumPool):
        return lambda read: torch.nn.functional.adaptive_avg_pool2d(read[0], 1)
    return lambda read: read[0].flatten(1)


def _packed(operation: Conv | Dense, quantum: Quantum, before: Quantum) -> Any:
    """Return weights and bias in oneDNN's own layout; it takes the bias in float."""
    weight = torch._make_per_tensor_quantized_tensor(torch.from_numpy(operation.weight.astype(np.int8)),
                                                     quantum.weight, 0)  # fmt: skip
    assert quantum.bias is not None
    bias = torch.from_numpy((quantum.bias * np.float64(before.scale * quantum.weight)).astype(np.float32))
    if isinstance(operation, Dense):
        return torch.ops.quantized.linear_prepack(weight, bias)
    geometry = (operation.stride, operation.padding, operation.dilation, operation.groups)
    return torch.ops.quantized.conv2d_prepack(weight, bias, *geometry)


def missing() -> str | None:
    """Say why oneDNN's engine is not here, None where it is."""
    if ENGINE in torch.backends.quantized.supported_engines:
        return None
    return f"this torch was built without the quantised engine {ENGINE}"
