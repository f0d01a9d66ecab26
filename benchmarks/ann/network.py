"""The 8-bit ReLU network of a spiking one: its topology and its int8 weights; biases and scales set on images.

A weighted layer computes acc = sum w*(x - zero_in) + bias in integers and sends
q = clip(round(acc * scale_in*weight_scale/scale) + zero, 0, 255). zero is 0 where ReLU is: the clip is the ReLU.
A residual sum sends round((a*scale_a + b*scale_b)/scale), a global mean round(mean), both clipped to 0..255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from randhet.base.errors import RandhetError
from randhet.base.files import replacing
from randhet.fixed_point.network import Add, Conv, Dense, Flatten, Input, Layer, Network, Operation, SumPool

TOP, MIDDLE = 255, 128
"""The largest value sent, and the zero of values that may be negative (the logits)."""


@dataclass(frozen=True)
class Quantum:
    """What one unit sent is worth: value = scale*(q - zero), q uint8; weight: what a weight unit is worth.

    bias: (out,) int32 in units of scale_in*weight, None where the layer has no weights.
    """

    scale: float
    zero: int = 0
    weight: float = 1.0
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Ann:
    """Layers as in the spiking network, whose neurons are not used, and a quantum for each."""

    layers: tuple[Layer, ...]
    quanta: tuple[Quantum, ...]


def supported(network: Network) -> None:
    """Refuse a network with a layer that is not part of a SEW-ResNet: RandhetError names the layer."""
    for layer, shape in zip(network.layers, network.shapes):
        operation = layer.operation
        kind = type(operation).__name__
        whole = isinstance(operation, SumPool) and shape[1:] == (1, 1)
        if not whole and not isinstance(operation, (Input, Conv, Dense, Add, Flatten)):
            raise RandhetError(f"layer {layer.name} is a {kind}, the 8-bit ANN has convolutions, dense layers, "
                               "sums of two and a mean of the whole plane")  # fmt: skip
        if isinstance(operation, Add) and len(layer.inputs) != 2:
            raise RandhetError(f"layer {layer.name} sums {len(layer.inputs)} layers, the 8-bit ANN sums 2")


def calibrated(network: Network, images: np.ndarray) -> Ann:
    """Set biases and scales layer by layer on images (N, C, Y, X) uint8.

    A bias of a convolution takes the channel's mean away, so that about half of its units are active; a scale maps the
    largest value on these images to 255 (of the logits, to 127 beside their zero).
    """
    supported(network)
    values: list[np.ndarray] = []
    quanta: list[Quantum] = []
    for layer in network.layers:
        read = [(values[i], quanta[i]) for i in layer.inputs]
        quantum, value = (Quantum(1 / TOP), images) if not read else _set(layer.operation, read)
        quanta.append(quantum)
        values.append(value)
    return Ann(network.layers, tuple(quanta))


Read = Sequence[tuple[np.ndarray, Quantum]]


def _set(operation: Operation, read: Read) -> tuple[Quantum, np.ndarray]:
    """Return the quantum of a layer and what it sends."""
    value, before = read[0]
    if isinstance(operation, (Conv, Dense)):
        return _weighted(operation, value, before)
    if isinstance(operation, Add):
        total = np.add(*(q.astype(np.float64) * quantum.scale for q, quantum in read))
        scale = float(np.max(total)) / TOP
        return Quantum(scale), rounded(total / scale)
    if isinstance(operation, SumPool):
        return replace(before, bias=None), rounded(value.mean((2, 3), keepdims=True))
    return before, value.reshape(len(value), -1)


def _weighted(operation: Conv | Dense, value: np.ndarray, before: Quantum) -> tuple[Quantum, np.ndarray]:
    sums = _sums(operation, value.astype(np.float64) - before.zero)
    axes = (0, 2, 3) if isinstance(operation, Conv) else (0,)
    rectified = isinstance(operation, Conv)
    bias = -np.rint(sums.mean(axes)).astype(np.int32) if rectified else np.zeros(sums.shape[1], np.int32)
    sums += bias.reshape(-1, *(1,) * (len(axes) - 1))
    top = max(float(sums.max() if rectified else np.abs(sums).max()), 1.0)
    zero = 0 if rectified else MIDDLE
    # float32 is what the libraries keep scales in; the largest sum becomes 1
    weight, scale = (float(np.float32(one)) for one in (1 / (top * before.scale), 1 / (TOP - zero)))
    return Quantum(scale, zero, weight, bias), rounded(sums * (before.scale * weight / scale) + zero)


def _sums(operation: Conv | Dense, values: np.ndarray) -> np.ndarray:
    """Return the exact sums: integers below 2^53 in float64."""
    import torch

    x, weight = torch.from_numpy(values), torch.from_numpy(operation.weight.astype(np.float64))
    if isinstance(operation, Dense):
        return (x @ weight.T).numpy()
    geometry = (operation.stride, operation.padding, operation.dilation, operation.groups)
    return torch.nn.functional.conv2d(x, weight, None, *geometry).numpy()


def rounded(values: np.ndarray) -> np.ndarray:
    """Round half to even and clip to 0..255, uint8."""
    return np.clip(np.rint(values), 0, TOP).astype(np.uint8)


# --- the file -----------------------------------------------------------------------------------------------------


def save(path: Path, ann: Ann) -> None:
    """Write the quanta; the layers are in the network's own file."""
    arrays: dict[str, Any] = {
        name: np.array([getattr(quantum, name) for quantum in ann.quanta]) for name in ("scale", "zero", "weight")
    }
    arrays |= {f"bias{i}": quantum.bias for i, quantum in enumerate(ann.quanta) if quantum.bias is not None}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load(path: Path, network: Network) -> Ann:
    """Read what `save` wrote, for the same network."""
    with np.load(path) as file:
        quanta = [
            Quantum(float(scale), int(zero), float(weight), file[name] if (name := f"bias{i}") in file else None)
            for i, (scale, zero, weight) in enumerate(zip(file["scale"], file["zero"], file["weight"]))
        ]
    return Ann(network.layers, tuple(quanta))


Forward = Callable[[np.ndarray], np.ndarray]
"""Images (N, C, Y, X) uint8 to logits (N, classes) uint8, of which 128 is zero."""
