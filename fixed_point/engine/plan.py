"""What is decided once, when a network is loaded: windows, tiles of weights, constants in the kernels' layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from fixed_point.generator import core_seed, core_starts, jump, jump_matrix
from fixed_point.network import Conv, Dense, Layer, Network, RandomTau, Shape
from fixed_point.shape import window_count

TILE_BYTES = 640 * 1024
"""Weights of a tile stay in a core's second-level cache, 1 MiB on the machines this was measured on."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Output channels offset..offset+width of one group: weight rows (taps * inputs + 1, width) int8, the last zero."""

    offset: int
    first: int
    weight: np.ndarray

    @property
    def channels(self) -> slice:
        return slice(self.offset, self.offset + self.weight.shape[1])


@dataclass(frozen=True, eq=False)
class Synapse:
    """A layer's weights as the kernels read them: window (output pixels, taps) holds input pixels, -1 for padding."""

    window: np.ndarray
    tiles: tuple[Tile, ...]
    per_tap: int
    planes: int
    pixels: int
    channels: int


def make_synapse(operation: Conv | Dense, shape_in: Shape, peak: int) -> Synapse:
    """Tiles and windows of a convolution, or of a dense layer as a convolution of one pixel."""
    if isinstance(operation, Dense):
        weight = operation.weight.reshape(*operation.weight.shape, 1, 1)
        operation, shape_in = Conv(weight), (operation.weight.shape[1], 1, 1)
    out, per_group = operation.weight.shape[:2]
    window = windows(operation, shape_in)
    per_out = out // operation.groups
    width = tile_width(per_out, window.shape[1] * per_group)
    tiles = []
    for offset in range(0, out, width):
        group = offset // per_out
        part = operation.weight[offset : min(offset + width, group * per_out + per_out)]
        rows = part.transpose(2, 3, 1, 0).reshape(-1, len(part))
        tiles.append(Tile(offset, group * per_group, np.vstack([rows, np.zeros_like(rows[:1])])))
    return Synapse(window, tuple(tiles), per_group, int(peak).bit_length(), len(window), out)


def tile_width(channels: int, rows: int) -> int:
    """The largest width that divides the channels of a group evenly and keeps a tile within the cache."""
    parts = 1
    while channels % parts or (channels // parts * rows > TILE_BYTES and channels // parts > 64):
        parts += 1
    return channels // parts


def windows(operation: Conv, shape_in: Shape) -> np.ndarray:
    """(output pixels, taps) int32: the flat input pixel each tap sees."""
    _, height, width = shape_in
    kernel, stride = operation.weight.shape[2:], operation.stride
    padding, dilation = operation.padding, operation.dilation
    index = []
    for axis, size in enumerate((height, width)):
        count = window_count(size, kernel[axis], stride[axis], padding[axis], dilation[axis])
        at = np.arange(count)[:, None] * stride[axis] + np.arange(kernel[axis]) * dilation[axis] - padding[axis]
        index.append(np.where((at >= 0) & (at < size), at, -1))
    y, x = index[0][:, None, :, None], index[1][None, :, None, :]
    flat = np.where((y >= 0) & (x >= 0), y * width + x, -1)
    return np.ascontiguousarray(flat.reshape(-1, kernel[0] * kernel[1]).astype(np.int32))


def channels_last(value: np.ndarray, shape: Shape) -> np.ndarray:
    """A bias, threshold or decay in (C,) or (C, Y, X) as (1 or pixels, C)."""
    if value.size == 1 or (value.ndim == 1 and len(value) == shape[0]):
        return np.ascontiguousarray(np.broadcast_to(value.reshape(1, -1), (1, shape[0])))
    return np.ascontiguousarray(value.reshape(shape[0], -1).T)


@lru_cache(maxsize=512)
def columns(draws: int) -> np.ndarray:
    """The matrix of a jump over `draws` draws as 32 uint32 columns."""
    return np.array(jump_matrix(draws), np.uint32)


@dataclass(frozen=True, eq=False)
class Registers:
    """The registers of a random layer in one run.

    aligned: every core holds whole channels, so each channel has a register of its own, jumped to the channel's first
    draw. Cores have `sizes` neurons, the last one maybe fewer; `edge` is the first channel of the last core.
    """

    aligned: bool
    seeds: tuple[int, ...]
    sizes: tuple[int, ...]
    pixels: int
    channels: int
    edge: int

    def starts(self, number: int) -> np.ndarray:
        """States before round `number` (image*T + step, or image): (channels,) if aligned, else (cores,)."""
        states = [jump(seed, number * size) for seed, size in zip(self.seeds, self.sizes)]
        if not self.aligned:
            return np.array(states, np.uint32)
        per_core = self.sizes[0] // self.pixels
        spread = [jump(states[c // per_core], c % per_core * self.pixels) for c in range(self.channels)]
        return np.array(spread, np.uint32)

    def distance(self, rounds: int, less: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Matrices that move on by `rounds` rounds less `less` draws: for full cores, and for the last one."""
        return columns(rounds * self.sizes[0] - less), columns(rounds * self.sizes[-1] - less)


def make_registers(neuron: RandomTau, shape: Shape, layer: int, master: int) -> Registers:
    """The registers of layer number `layer`, seeded from the master seed."""
    neurons, per_core = prod(shape), neuron.neurons_per_core
    pixels = neurons // shape[0]
    starts = core_starts(neurons, per_core)
    sizes = tuple(min(per_core, neurons - start) for start in starts)
    seeds = tuple(core_seed(master, layer, core) for core in range(len(starts)))
    return Registers(sizes[0] % pixels == 0, seeds, sizes, pixels, shape[0], starts[-1] // pixels)


def last_reader(network: Network) -> list[int]:
    """For each layer the index of the last layer that reads it, so that its output can be let go."""
    last = list(range(len(network.layers)))
    for i, layer in enumerate(network.layers):
        for source in layer.inputs:
            last[source] = i
    return last


def weighted(layer: Layer) -> bool:
    return isinstance(layer.operation, (Conv, Dense))
