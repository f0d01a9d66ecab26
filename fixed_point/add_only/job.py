"""What the add-only kernels get: tables made once, when a network is loaded, and a call per image, tile and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from threading import local

import numpy as np

from randhet.fixed_point.add_only import layer as kernels
from randhet.fixed_point.add_only.layer import Draws, Inputs, Levels, Output, Scratch
from randhet.fixed_point.add_only.lists import SLACK
from randhet.fixed_point.engine.guard import padded
from randhet.fixed_point.engine.kernels import jump
from randhet.fixed_point.engine.plan import (
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
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.network import Conv, Cuba, Dense, Het, Layer, Lif, Neuron, RandomTau, ReadOut, Shape

SPARE = 3
"""Arrays kept: where layers shrink, older and larger ones are let go."""
Call = tuple[int, "Part", int, int]
"""Image, part, first pixel, and the one after the last."""
Run = Callable[[Inputs, Scratch, Output, int, int, np.ndarray], None]
"""Runs pixels low..high of a tile, given the states of its entries at the image's start."""


@dataclass(frozen=True, eq=False)
class Part:
    """A tile, what runs it, its entries in order (those of the last core at the end), and where its chunks begin."""

    tile: Tile
    run: Run
    order: np.ndarray
    chunk_at: np.ndarray


@dataclass(frozen=True, eq=False)
class Loaded:
    """A layer with weights, and its tables of starts (see `layer.Inputs` and `layer.Output`)."""

    layer: Layer
    steps: int
    synapse: Synapse
    planes: int
    signed: bool
    registers: Registers | None
    parts: list[Part]
    step_at: np.ndarray
    value_at: np.ndarray
    window: np.ndarray
    window_at: np.ndarray
    tap_at: np.ndarray
    begin_at: np.ndarray
    plane_at: np.ndarray
    out_step: np.ndarray
    out_pixel: np.ndarray


def load(
    layer: Layer, number: int, source: Shape, shape: Shape, peak: int, signed: bool, steps: int, master: int
) -> Loaded:
    """Layer `number` of `shape`, which reads a source with values up to `peak`."""
    operation, neuron = layer.operation, layer.neuron
    assert isinstance(operation, (Conv, Dense))
    synapse, planes = make_synapse(operation, source, peak), int(peak).bit_length() + signed
    pixels, channels = synapse.source
    registers = make_registers(neuron, shape, number, master) if isinstance(neuron, RandomTau) else None
    return Loaded(
        layer, steps, synapse, planes, signed, registers,
        parts=[_part(neuron, registers, tile, shape, steps) for tile in synapse.tiles],
        step_at=np.arange(steps) * pixels * channels,
        value_at=np.arange(pixels) * channels,
        window=synapse.window.reshape(-1),
        window_at=np.arange(synapse.pixels + 1) * synapse.window.shape[1],
        tap_at=np.arange(synapse.window.shape[1]) * synapse.per_tap,
        begin_at=np.arange(steps + 1) * planes * (pixels + 1),
        plane_at=np.arange(planes) * (pixels + 1),
        out_step=np.arange(steps) * synapse.pixels * synapse.channels,
        out_pixel=np.arange(synapse.pixels) * synapse.channels,
    )  # fmt: skip


def _part(neuron: Neuron | None, registers: Registers | None, tile: Tile, shape: Shape, steps: int) -> Part:
    run: Run = _sums
    order = np.zeros(0, np.int64)
    if isinstance(neuron, RandomTau) and registers is not None:
        run, order = _drawn(neuron, registers, tile, shape, steps)
    elif isinstance(neuron, Cuba):
        run = _cuba(neuron, tile, shape)
    elif isinstance(neuron, (Lif, Het)):
        run = _given(neuron, tile, shape)
    return Part(tile, run, order, np.arange(0, tile.packed.size, len(tile.weight) * CHUNK))


class Spare:
    """A few arrays of layers that nobody reads any more, for the layers to come: clearing new memory takes the system
    as long as some layers take.
    """

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def give(self, values: np.ndarray) -> None:
        self.arrays = [values, *self.arrays][:SPARE]

    def take(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array of any content."""
        for i, values in enumerate(self.arrays):
            if values.shape == shape and values.dtype == dtype:
                return self.arrays.pop(i)
        return np.empty(shape, dtype)


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

    def __init__(
        self, loaded: Loaded, values: np.ndarray, first: int, probed: bool, memory: Memory, spare: Spare
    ) -> None:
        self.loaded, self.values, self.memory = loaded, np.ascontiguousarray(values), memory
        synapse, neuron = loaded.synapse, loaded.layer.neuron
        size = (len(values), loaded.steps, synapse.pixels, synapse.channels)
        self.out = spare.take(size, np.int32 if neuron is None or isinstance(neuron, ReadOut) else np.uint8)
        self.record = np.empty(size if probed else (len(values), 0), np.int32)
        self.starts = np.zeros((len(values), 0), np.uint32)
        if isinstance(neuron, RandomTau) and loaded.registers is not None:
            self.starts = image_starts(loaded.registers, neuron, loaded.steps, first, len(values))

    def calls(self, workers: int) -> list[Call]:
        """Tiles outermost, so that their weights stay in the cache; few images are split into bands of pixels."""
        synapse, registers = self.loaded.synapse, self.loaded.registers
        images, tiles = range(len(self.values)), self.loaded.parts
        whole = len(images) * len(tiles) >= workers or (registers is not None and not registers.aligned)
        count = 1 if whole else min(workers, synapse.pixels)
        bands = list(pairwise(np.linspace(0, synapse.pixels, count + 1).astype(int).tolist()))
        return [(image, tile, low, high) for tile in tiles for image in images for low, high in bands]

    def run(self, image: int, part: Part, low: int, high: int) -> np.ndarray:
        """All steps of one image and tile; returns [spikes, saturations, weight rows added at each step]."""
        loaded, tile, width = self.loaded, part.tile, part.tile.weight.shape[1]
        rows, tally = np.zeros(loaded.steps, np.int64), np.zeros(2, np.int64)
        states = self.starts[image, part.order]
        if low:
            jump(states, columns(low))
        out, record = (values[image].reshape(-1)[tile.offset :] for values in (self.out, self.record))
        straight = width == padded(width)
        output = Output(out, record, loaded.out_step, loaded.out_pixel, width, straight, rows, tally)
        part.run(self._inputs(image, part), self._scratch(width), output, low, high, states)
        # each tile spends its own rows; the counts want them once per channel
        return np.concatenate([tally, rows * width])

    def _inputs(self, image: int, part: Part) -> Inputs:
        loaded, values = self.loaded, self.values[image]
        return Inputs(
            values.reshape(-1), loaded.step_at[: len(values)], loaded.value_at, part.tile.first, loaded.synapse.per_tap,
            loaded.window, loaded.window_at, loaded.tap_at, loaded.begin_at, loaded.plane_at, loaded.signed,
            part.tile.packed, part.chunk_at,
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


def _given(neuron: Lif | Het, tile: Tile, shape: Shape) -> Run:
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


def _levels(neuron: RandomTau | Lif | Het | Cuba, tile: Tile, shape: Shape) -> Levels:
    bias, bias_at = _rows(channels_last(neuron.bias, shape)[:, tile.channels], 0, prod(shape[1:]))
    threshold, _ = _rows(neuron.threshold[None, tile.channels], STATE_MAX, 1)
    return Levels(bias, bias_at, threshold, neuron.f, getattr(neuron, "k", 0))


def _rows(value: np.ndarray, fill: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """(1 or pixels, channels of a tile) int32, filled up to whole chunks, flat, and where each pixel's row starts."""
    more = padded(value.shape[1]) - value.shape[1]
    wide = np.pad(value.astype(np.int32), [(0, 0), (0, more)], constant_values=fill)
    return wide.reshape(-1), np.arange(pixels) * (wide.shape[1] if len(wide) > 1 else 0)
