"""An int8 network of the shipped digits network's shape without time steps, as C that multiplies (dense.c).

Weights are those of the spiking network and its class scores mean nothing: what counts is what such a network needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

from randhet.export.c.run import STANDARD, Build, _child
from randhet.export.c.text import Table
from randhet.export.c.write import HERE
from randhet.fixed_point import network as ir

Ints = NDArray[np.int64]
SHIFT = 7
"""Bits that a convolution's sums lose: activations then fill their byte without all being 255."""


@dataclass
class Answers:
    """Activations of each layer in NumPy, (channel, row, column), of one image."""

    network: ir.Network
    pixels: np.ndarray

    def scores(self) -> Ints:
        """The class scores: of every layer from those that it reads."""
        found: list[Ints] = []
        for layer in self.network.layers:
            found.append(self.layer(layer, [found[i] for i in layer.inputs]))
        return found[-1]

    def layer(self, layer: ir.Layer, read: list[Ints]) -> Ints:
        """What a layer sends."""
        match operation := layer.operation:
            case ir.Input():
                return self.pixels.astype(np.int64)
            case ir.Conv():
                return np.clip(convolved(operation, read[0]) + bias(layer)[:, None, None] >> SHIFT, 0, 255)
            case ir.Add():
                return np.minimum(sum(read), 255)
            case ir.SumPool():
                return read[0].sum(axis=(1, 2), keepdims=True) >> pixels_shift(read[0].shape)
            case ir.Flatten():
                return read[0].reshape(-1)
            case ir.Dense():
                return operation.weight.astype(np.int64) @ read[0] + bias(layer)
        raise TypeError(f"{type(operation).__name__} has no dense form here")


def bias(layer: ir.Layer) -> Ints:
    """Small numbers that differ from channel to channel."""
    assert layer.weighted
    return np.arange(len(layer.weighted.weight), dtype=np.int64) * 5 - 40


def convolved(conv: ir.Conv, values: Ints) -> Ints:
    """Sums of a convolution, by SciPy."""
    (top, left), (down, across) = conv.padding, conv.stride
    padded = np.pad(values, ((0, 0), (top, top), (left, left)))
    sums = [correlate(padded, kernel.astype(np.int64), "valid", "direct")[0] for kernel in conv.weight]
    return np.stack(sums)[:, ::down, ::across]


def pixels_shift(shape: tuple[int, ...]) -> int:
    """The number of bits that a mean over all pixels, a power of two of them, shifts by."""
    bits = prod(shape[1:]).bit_length() - 1
    assert prod(shape[1:]) == 1 << bits
    return bits


# --- as C -------------------------------------------------------------------------------------------------------------

DECLARATIONS = """\
#include <stdint.h>
#define INPUTS {inputs}
#define OUTPUTS {outputs}
#define MEMORY {memory}
struct conv {{
    const int8_t *weight;
    const int32_t *bias;
    int32_t in, out, channels, height, width, outputs, down, across, rows, columns, stride, padding, shift;
}};
void dense_network(void);
void dense_conv(const struct conv *conv);
void dense_add(int32_t a, int32_t b, int32_t out, int32_t count);
void dense_pool(int32_t in, int32_t out, int32_t pixels, int32_t channels, int32_t shift);
void dense_scores(const int8_t *weight, const int32_t *bias, int32_t in, int32_t count);
"""


def places(network: ir.Network) -> tuple[list[int], int]:
    """Where each layer's activations lie, at the lowest place that is free while they are needed; bytes of all."""
    layers, found = network.layers, [0]
    last = [max((j for j, reader in enumerate(layers) if i in reader.inputs), default=i) for i in range(len(layers))]
    sizes = [prod(shape) for shape in network.shapes]
    for i in range(1, len(layers)):
        taken = sorted((found[j], found[j] + sizes[j]) for j in range(i) if last[j] >= i)
        place = 0
        for low, high in taken:
            place = place if place + sizes[i] <= low else max(place, high)
        # a flattening of one pixel changes nothing
        found.append(found[layers[i].inputs[0]] if isinstance(layers[i].operation, ir.Flatten) else place)
    return found, max(place + size for place, size in zip(found[:-1], sizes))


def sources(network: ir.Network) -> dict[str, str]:
    """`layers.h` and `layers.c`."""
    at, memory = places(network)
    numbers = {"inputs": prod(network.shapes[0]), "outputs": prod(network.shapes[-1]), "memory": memory}
    tables, calls = [], []
    for i, layer in enumerate(network.layers):
        if layer.weighted:
            conv = layer.weighted.weight
            tables += [Table(f"weight_{i}", "int8_t", conv.transpose(0, *range(2, conv.ndim), 1)).text()]
            tables += [Table(f"bias_{i}", "int32_t", bias(layer)).text()]
        calls += call(network, i, at)
    lines = "\n".join(f"    {line}" for line in calls)
    body = f'#include "layers.h"\n{"".join(tables)}void dense_network(void)\n{{\n{lines}\n}}\n'
    return {"layers.h": DECLARATIONS.format(**numbers), "layers.c": body}


def call(network: ir.Network, i: int, at: list[int]) -> list[str]:
    """The statements that run a layer."""
    layer, shape, shapes = network.layers[i], network.shapes[i], network.shapes
    read = [at[j] for j in layer.inputs]
    match operation := layer.operation:
        case ir.Conv():
            (channels, height, width), (outputs, down, across) = shapes[layer.inputs[0]], shape
            fields: list[Any] = [
                f"weight_{i}",
                f"bias_{i}",
                read[0],
                at[i],
                channels,
                height,
                width,
                outputs,
                down,
                across,
            ]
            fields += [*operation.weight.shape[2:], operation.stride[0], operation.padding[0], SHIFT]
            return [
                f"static const struct conv conv_{i} = {{{', '.join(map(str, fields))}}};",
                f"dense_conv(&conv_{i});",
            ]
        case ir.Add():
            return [f"dense_add({read[0]}, {read[1]}, {at[i]}, {prod(shape)});"]
        case ir.SumPool():
            channels, *size = shapes[layer.inputs[0]]
            shift = pixels_shift((channels, *size))
            return [f"dense_pool({read[0]}, {at[i]}, {prod(size)}, {channels}, {shift});"]
        case ir.Dense():
            return [f"dense_scores(weight_{i}, bias_{i}, {read[0]}, {operation.weight.shape[1]});"]
    return []


def compiled(network: ir.Network, build: Build, folder: Path, libraries: tuple[str, ...] = ()) -> Path:
    """The program, linked with these libraries at its end."""
    folder.mkdir(exist_ok=True)
    for name, text in sources(network).items():
        (folder / name).write_text(text, "utf-8")
    files = ["layers.c", str(Path(__file__).with_name("dense.c")), *(str(HERE / name) for name in build.system)]
    command = [*build.compiler, *STANDARD, *build.options, "-I.", f"-I{HERE}", *files, *libraries, "-o", "program"]
    _child(command, folder, b"")
    return folder / "program"


def request(pixels: np.ndarray) -> bytes:
    """Images as the program reads them, (row, column, channel)."""
    return np.uint32(len(pixels)).astype("<u4").tobytes() + pixels.transpose(0, 2, 3, 1).astype(np.uint8).tobytes()
