"""What the add-only kernels get: tables made once, when a network is loaded, and a call per image, tile and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from threading import local
from typing import Any

import numpy as np

from fixed_point.add_only import layer as kernels
from fixed_point.add_only.layer import Draws, Inputs, Levels, Output, Scratch
from fixed_point.add_only.lists import SLACK
from fixed_point.engine.blocks import CHUNK
from fixed_point.engine.guard import padded
from fixed_point.engine.kernels import jump
from fixed_point.engine.plan import (
    Registers,
    Synapse,
    Tile,
    channels_last,
    columns,
    image_starts,
    make_registers,
    make_synapse,
    visits,
)
from fixed_point.integer import STATE_MAX
from fixed_point.network import Accumulate, Conv, Cuba, Dense, Layer, RandomTau, Shape

Call = tuple[int, Tile, int, int]
"""Image, tile, first pixel, and the one after the last."""
Run = Callable[[Inputs, Scratch, Output, int, int, np.ndarray], None]
"""Runs pixels low..high of a tile, given the states of its entries at the image's start."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A layer with weights: tables of starts (see `layer.Inputs`), and for each tile by offset what runs its neurons.

    order: the entries of a tile, those of the last core at the end.
    """

    layer: Layer
    steps: int
    synapse: Synapse
    planes: int
    signed: bool
    registers: Registers | None
    neurons: dict[int, Run]
    order: dict[int, np.ndarray]
    value_at: np.ndarray
    window: np.ndarray
    window_at: np.ndarray
    tap_at: np.ndarray
    begin_at: np.ndarray
    plane_at: np.ndarray


def load(
    layer: Layer, number: int, source: Shape, shape: Shape, peak: int, signed: bool, steps: int, master: int
) -> Loaded:
    """Layer `number` of `shape`, which reads a source with values up to `peak`."""
    operation, neuron = layer.operation, layer.neuron
    assert isinstance(operation, (Conv, Dense))
    synapse, planes = make_synapse(operation, source, peak), int(peak).bit_length() + signed
    pixels, channels = synapse.source
    registers = make_registers(neuron, shape, number, master) if isinstance(neuron, RandomTau) else None
    neurons, order = dict[int, Run](), dict[int, np.ndarray]()
    for tile in synapse.tiles:
        order[tile.offset] = np.zeros(0, np.int64)
        if isinstance(neuron, RandomTau) and registers is not None:
            neurons[tile.offset], order[tile.offset] = _drawn(neuron, registers, tile, shape, steps)
        elif isinstance(neuron, Cuba):
            neurons[tile.offset] = _cuba(neuron, tile, shape)
        elif neuron is None or isinstance(neuron, Accumulate):
            neurons[tile.offset] = _sums
        else:
            neurons[tile.offset] = _given(neuron, tile, shape)
    return Loaded(
        layer, steps, synapse, planes, signed, registers, neurons, order,
        value_at=np.arange(pixels) * channels,
        window=synapse.window.reshape(-1),
        window_at=np.arange(len(synapse.window) + 1) * synapse.window.shape[1],
        tap_at=np.arange(synapse.window.shape[1]) * synapse.per_tap,
        begin_at=np.arange(steps + 1) * planes * (pixels + 1),
        plane_at=np.arange(planes) * (pixels + 1),
    )  # fmt: skip


class Memory(local):
    """Room for lists, one array per thread: new memory, of which they fill a tenth, costs more time than filling it."""

    def __init__(self) -> None:
        self.room = np.empty(0, np.uint32)

    def lists(self, size: int) -> np.ndarray:
        """At least so many entries, of any content."""
        if len(self.room) < size:
            self.room = np.empty(size, np.uint32)
        return self.room


class LayerJob:
    """One layer in one batch."""

    def __init__(self, loaded: Loaded, values: np.ndarray, first: int, probed: bool, memory: Memory) -> None:
        self.memory = memory
        self.loaded, self.values = loaded, np.ascontiguousarray(values)
        synapse, neuron = loaded.synapse, loaded.layer.neuron
        size = (len(values), loaded.steps, synapse.pixels, synapse.channels)
        self.out = np.empty(size, np.int32 if neuron is None or isinstance(neuron, Accumulate) else np.uint8)
        self.record = np.empty(size if probed else (len(values), 0), np.int32)
        self.starts = np.zeros((len(values), 0), np.uint32)
        if isinstance(neuron, RandomTau) and loaded.registers is not None:
            self.starts = image_starts(loaded.registers, neuron, loaded.steps, first, len(values))

    def calls(self, workers: int) -> list[Call]:
        """Tiles outermost, so that their weights stay in the cache; few images are split into bands of pixels."""
        synapse, registers = self.loaded.synapse, self.loaded.registers
        whole = len(self.values) * len(synapse.tiles) >= workers or (registers is not None and not registers.aligned)
        parts = 1 if whole else min(workers, synapse.pixels)
        bands = list(pairwise(np.linspace(0, synapse.pixels, parts + 1).astype(int).tolist()))
        return [(i, tile, low, high) for tile in synapse.tiles for i in range(len(self.values)) for low, high in bands]

    def run(self, image: int, tile: Tile, low: int, high: int) -> np.ndarray:
        """All steps of one image and tile; returns [spikes, saturations, weight rows added at each step]."""
        loaded, width = self.loaded, tile.weight.shape[1]
        rows, tally = np.zeros(loaded.steps, np.int64), np.zeros(2, np.int64)
        states = self.starts[image, loaded.order[tile.offset]]
        if low:
            jump(states, columns(low))
        out, pixels = self.out[image], loaded.synapse.pixels
        step, pixel = np.arange(loaded.steps) * prod(out.shape[1:]), np.arange(pixels) * out.shape[2] + tile.offset
        output = Output(
            out.reshape(-1), self.record[image].reshape(-1), step, pixel, width, width == padded(width), rows, tally
        )
        loaded.neurons[tile.offset](self._inputs(image, tile), self._scratch(width), output, low, high, states)
        # each tile spends its own rows; the counts want them once per channel
        return np.concatenate([tally, rows * width])

    def _inputs(self, image: int, tile: Tile) -> Inputs:
        loaded, values = self.loaded, self.values[image]
        return Inputs(
            values.reshape(-1), np.arange(len(values)) * prod(values.shape[1:]), loaded.value_at,
            tile.first, loaded.synapse.per_tap, loaded.window, loaded.window_at, loaded.tap_at,
            loaded.begin_at, loaded.plane_at, loaded.signed,
            tile.packed, np.arange(0, tile.packed.size, len(tile.weight) * CHUNK),
        )  # fmt: skip

    def _scratch(self, width: int) -> Scratch:
        loaded, (different, pixels) = self.loaded, self.values.shape[1:3]
        per_tap, taps = loaded.synapse.per_tap, len(loaded.tap_at)
        return Scratch(
            lists=self.memory.lists(different * loaded.planes * pixels * per_tap + SLACK),
            begins=np.empty(int(loaded.begin_at[different]), np.int64),
            rows=np.empty(loaded.planes * taps * per_tap + SLACK, np.uint32),
            ends=np.zeros(loaded.planes, np.int64),
            sums=np.zeros(padded(width), np.int32),
        )


def _sums(inputs: Inputs, scratch: Scratch, output: Output, low: int, high: int, states: np.ndarray) -> None:
    kernels.sum_layer(inputs, scratch, output, low, high)


def _drawn(neuron: RandomTau, registers: Registers, tile: Tile, shape: Shape, steps: int) -> tuple[Run, np.ndarray]:
    """What runs a tile, and its entries in the order of their states."""
    mine, (near, far) = visits(registers, tile), registers.round()
    ordered = mine.number[np.argsort(mine.last, kind="stable")]
    last, place, held = len(ordered) - int(mine.last.sum()), np.argsort(ordered), neuron.sampling == "forward"
    levels, width = _levels(neuron, tile, shape), padded(tile.weight.shape[1])
    round_at, register_at = np.arange(steps + 1) * len(ordered), np.arange(steps) * width
    table = np.concatenate([neuron.table & 0xFF, neuron.table >> 8]).astype(np.uint8)

    def run(inputs: Inputs, scratch: Scratch, output: Output, low: int, high: int, states: np.ndarray) -> None:
        draws = Draws(
            table, np.concatenate([states, np.zeros((steps - 1) * len(states), np.uint32)]), round_at, last, near, far,
            held, mine.pixel, mine.channel, place, np.zeros(steps * width, np.uint32), register_at,
        )  # fmt: skip
        kernels.drawn_layer(inputs, scratch, output, low, high, levels, draws, *_row(width))

    return run, ordered


def _given(neuron: Any, tile: Tile, shape: Shape) -> Run:
    levels, width = _levels(neuron, tile, shape), padded(tile.weight.shape[1])
    decays, decay_at = _rows(channels_last(np.asarray(neuron.decay), shape)[:, tile.channels], 0, len(levels.bias_at))

    def run(inputs: Inputs, scratch: Scratch, output: Output, low: int, high: int, states: np.ndarray) -> None:
        kernels.given_layer(inputs, scratch, output, low, high, levels, decays, decay_at, *_row(width))

    return run


def _cuba(neuron: Cuba, tile: Tile, shape: Shape) -> Run:
    levels, width = _levels(neuron, tile, shape), tile.weight.shape[1]
    levels = levels._replace(threshold=levels.threshold[:width])
    kept = 4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay

    def run(inputs: Inputs, scratch: Scratch, output: Output, low: int, high: int, states: np.ndarray) -> None:
        u, wide = np.zeros(width, np.int32), np.zeros(width, np.int64)
        kernels.cuba_layer(inputs, scratch, output, low, high, levels, *kept, u, *_row(width, wide))

    return run


def _row(width: int, *wide: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scratch memory of one pixel: membrane, `wide`, membrane before the reset, spikes."""
    return np.zeros(width, np.int32), *wide, np.zeros(width, np.int32), np.zeros(width, np.uint8)


def _levels(neuron: Any, tile: Tile, shape: Shape) -> Levels:
    bias, bias_at = _rows(channels_last(neuron.bias, shape)[:, tile.channels], 0, prod(shape[1:]))
    threshold, _ = _rows(neuron.threshold[None, tile.channels], STATE_MAX, 1)
    return Levels(bias, bias_at, threshold, neuron.f, getattr(neuron, "k", 0))


def _rows(value: np.ndarray, fill: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """(1 or pixels, channels of a tile) int32, filled up to whole chunks, flat, and where each pixel's row starts."""
    more = padded(value.shape[1]) - value.shape[1]
    wide = np.pad(value.astype(np.int32), [(0, 0), (0, more)], constant_values=fill)
    return wide.reshape(-1), np.arange(pixels) * (wide.shape[1] if len(wide) > 1 else 0)
