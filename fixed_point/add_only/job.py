"""What the add-only kernels get: tables made once, when a network is loaded, and a call per image, tile and pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from threading import local

import numpy as np

from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only.bundles import Inputs, Output, Scratch
from randhet.fixed_point.add_only.counts import NeuronCost
from randhet.fixed_point.add_only.lists import SLACK
from randhet.fixed_point.add_only.updates import Place, Program, neuron_cost, program
from randhet.fixed_point.engine.guard import padded
from randhet.fixed_point.engine.plan import (
    Synapse,
    Tile,
    channels_last,
    columns,
    image_starts,
    make_registers,
    make_synapse,
)
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.kernels.registers import jump

SPARE = 3
"""Arrays kept: where layers shrink, older and larger ones are let go."""
Call = tuple[int, "Part", int, int]
"""Image, part, first pixel, and the one after the last."""
NO_VALUES = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """A tile, what runs it, and what it reads and writes: bundles in which only the arrays of a batch are missing."""

    tile: Tile
    program: Program
    inputs: Inputs
    output: Output


@dataclass(frozen=True, eq=False)
class Loaded:
    """A layer with weights.

    planes: bits of the values that it reads, the highest of them a sign where they are signed. cost: of one neuron and
    step. bias: (1 or pixels, channels) int32.
    """

    layer: ir.Layer
    context: Place
    synapse: Synapse
    planes: int
    cost: NeuronCost
    bias: np.ndarray
    parts: list[Part]


def load(network: ir.Network, number: int, master: int) -> Loaded:
    """Layer `number`, one with weights; master: the seed of all registers."""
    layer, shape = network.layers[number], network.shapes[number]
    assert layer.weighted is not None and layer.neuron is not None  # a checked network has both or neither
    source = layer.inputs[0]
    synapse = make_synapse(layer.weighted, network.shapes[source], network.ranges[source].peak)
    registers = None if layer.drawn is None else make_registers(layer.drawn, shape, number, master)
    context, bias = Place(shape, network.steps, registers), channels_last(layer.neuron.bias, shape).astype(np.int32)
    parts = [
        Part(
            tile,
            program(layer.neuron, context, tile),
            _inputs(synapse, tile, network.ranges[source], network.steps),
            _output(synapse, tile, network.steps),
        )
        for tile in synapse.tiles
    ]
    return Loaded(layer, context, synapse, network.ranges[source].bits, neuron_cost(layer.neuron), bias, parts)


def _inputs(synapse: Synapse, tile: Tile, span: ir.Range, steps: int) -> Inputs:
    """Tables of starts of a tile that reads values in `span`."""
    (pixels, channels), taps = synapse.source, synapse.window.shape[1]
    return Inputs(
        values=NO_VALUES,
        step_at=np.arange(steps) * pixels * channels,
        value_at=np.arange(pixels) * channels,
        first=tile.first,
        per_tap=synapse.per_tap,
        window=synapse.window.reshape(-1),
        window_at=np.arange(synapse.pixels + 1) * taps,
        tap_at=np.arange(taps) * synapse.per_tap,
        begin_at=np.arange(steps + 1) * span.bits * (pixels + 1),
        plane_at=np.arange(span.bits) * (pixels + 1),
        signed=span.signed,
        packed=tile.packed,
        chunk_at=np.arange(0, tile.packed.size, len(tile.weight) * CHUNK),
    )


def _output(synapse: Synapse, tile: Tile, steps: int) -> Output:
    """Tables of starts of what a tile writes."""
    width = tile.width
    return Output(
        out=NO_VALUES,
        record=NO_VALUES,
        out_step=np.arange(steps) * synapse.pixels * synapse.channels,
        out_pixel=np.arange(synapse.pixels) * synapse.channels,
        width=width,
        straight=width == padded(width),
        rows_used=NO_VALUES,
        tally=NO_VALUES,
    )


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
        synapse, layer, context = loaded.synapse, loaded.layer, loaded.context
        size = (len(values), context.steps, synapse.pixels, synapse.channels)
        self.out = spare.take(size, np.uint8 if layer.spikes else np.int32)
        self.record = np.empty(size if probed else (len(values), 0), np.int32)
        self.starts = np.zeros((len(values), 0), np.uint32)
        if layer.drawn is not None and context.registers is not None:
            self.starts = image_starts(context.registers, layer.drawn, context.steps, first, len(values))

    def calls(self, workers: int) -> list[Call]:
        """Tiles outermost, so that their weights stay in the cache; few images are split into bands of pixels."""
        pixels, registers = self.loaded.synapse.pixels, self.loaded.context.registers
        images, parts = range(len(self.values)), self.loaded.parts
        whole = len(images) * len(parts) >= workers or (registers is not None and not registers.aligned)
        count = 1 if whole else min(workers, pixels)
        bands = list(pairwise(np.linspace(0, pixels, count + 1).astype(int).tolist()))
        return [(image, tile_work, low, high) for tile_work in parts for image in images for low, high in bands]

    def run(self, image: int, tile_work: Part, low: int, high: int) -> np.ndarray:
        """All steps of one image and tile; returns [spikes, saturations, weight rows added at each step]."""
        states = self.starts[image, tile_work.program.order]
        if low:
            jump(states, columns(low))
        output = self._output(image, tile_work)
        tile_work.program.run(self._inputs(image, tile_work), self._scratch(tile_work), output, low, high, states)
        # each tile spends its own rows; the counts want them once per channel
        return np.concatenate([output.tally, output.rows_used * output.width])

    def _inputs(self, image: int, tile_work: Part) -> Inputs:
        values = self.values[image]
        return tile_work.inputs._replace(values=values.reshape(-1), step_at=tile_work.inputs.step_at[: len(values)])

    def _output(self, image: int, tile_work: Part) -> Output:
        out, record = (values[image].reshape(-1)[tile_work.tile.offset :] for values in (self.out, self.record))
        rows, tally = np.zeros(len(tile_work.output.out_step), np.int64), np.zeros(2, np.int64)
        return tile_work.output._replace(out=out, record=record, rows_used=rows, tally=tally)

    def _scratch(self, tile_work: Part) -> Scratch:
        inputs, planes, (different, pixels) = tile_work.inputs, self.loaded.planes, self.values.shape[1:3]
        return Scratch(
            lists=self.memory.lists(different * planes * pixels * inputs.per_tap + SLACK),
            begins=np.empty(int(inputs.begin_at[different]), np.int64),
            rows=np.empty(planes * len(inputs.tap_at) * inputs.per_tap + SLACK, np.uint32),
            ends=np.zeros(planes, np.int64),
            sums=np.zeros(padded(tile_work.output.width), np.int32),
        )
