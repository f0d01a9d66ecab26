"""What the add-only kernels get: tables made once, when a network is loaded, and a call per image, tile and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from threading import local

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only.bundles import Inputs, Output, Scratch, State
from randhet.fixed_point.add_only.counts import NeuronCost
from randhet.fixed_point.add_only.lists import SLACK
from randhet.fixed_point.add_only.updates import Place, Program, neuron_cost, program
from randhet.fixed_point.engine.guard import padded
from randhet.fixed_point.engine.keyed import make_keyed
from randhet.fixed_point.engine.plan import (
    Span,
    Synapse,
    Tile,
    channels_last,
    columns,
    image_starts,
    make_registers,
    make_synapse,
    own_span,
    with_own_spikes,
)
from randhet.fixed_point.engine.walk import LONGEST
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.kernels.registers import jump
from randhet.fixed_point.keyed import words_of

SPARE = 3
"""Arrays kept: where layers shrink, older and larger ones are let go."""
Call = tuple[int, "Part", int, int]
"""Image, part, first pixel, and the one after the last."""
NO_VALUES = np.zeros(0, np.int64)
NO_STATE = State(np.zeros(0, np.int32), np.zeros(0, np.int32))


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
    neuron = layer.sender
    assert layer.weighted is not None and neuron is not None
    source = layer.inputs[0]
    span, steps = own_span(layer, network.ranges[source]), min(network.steps, LONGEST)
    synapse = make_synapse(with_own_spikes(layer.weighted), network.shapes[source], span.peak)
    context, bias = _place(network, number, master), channels_last(neuron.bias, shape).astype(np.int32)
    parts = [
        Part(
            tile,
            program(neuron, context, tile),
            _inputs(synapse, tile, span, steps),
            _output(synapse, tile, steps),
        )
        for tile in synapse.tiles
    ]
    return Loaded(layer, context, synapse, span.bits, neuron_cost(neuron), bias, parts)


def _place(network: ir.Network, number: int, master: int) -> Place:
    """Where the neurons of a layer stand, with what draws their decays."""
    drawn, shape = network.layers[number].drawn, network.shapes[number]
    if drawn is None:
        return Place(shape, None)
    match network.generator:
        case "register":
            return Place(shape, make_registers(drawn, shape, number, master))
        case "chacha":
            return Place(shape, None, make_keyed(drawn, shape, number, master))
        case _:
            assert_never(network.generator)


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


@dataclass(frozen=True, eq=False)
class Carried:
    """What neurons carry on, images first: membrane potentials, currents, and spikes that a layer reads itself."""

    membrane: np.ndarray
    current: np.ndarray
    own: np.ndarray


def at_rest(loaded: Loaded, images: int) -> Carried:
    """Neurons that have seen nothing yet; no more than their layer has."""
    layer, synapse = loaded.layer, loaded.synapse
    size, none = (images, synapse.pixels, synapse.channels), (images, 0, 0)
    return Carried(
        np.zeros(size if layer.dynamics else none, np.int32),
        np.zeros(size if layer.cuba else none, np.int32),
        np.zeros(size if layer.recurrent is not None else none, np.uint8),
    )


class LayerJob:
    """One layer in one span; carried: where its neurons begin, None at rest."""

    def __init__(
        self,
        loaded: Loaded,
        values: np.ndarray,
        span: Span,
        recorded: bool,
        carried: Carried | None,
        memory: Memory,
        spare: Spare,
    ) -> None:
        self.loaded, self.values, self.span, self.memory = loaded, np.ascontiguousarray(values), span, memory
        synapse, layer, context = loaded.synapse, loaded.layer, loaded.context
        size = (span.images, span.count, synapse.pixels, synapse.channels)
        self.out = spare.take(size, np.uint8 if layer.dynamics else np.int32)
        self.record = np.empty(size if recorded else (span.images, 0), np.int32)
        self.starts = np.zeros((span.images, 0), np.uint32)
        if layer.drawn is not None and context.registers is not None:
            self.starts = image_starts(context.registers, layer.drawn, span)
        if context.keyed is not None:
            first = [context.keyed.number(span.first + i, span.start, span.steps) for i in range(span.images)]
            self.starts = np.array([words_of(number) for number in first], np.uint32)
        self.carried = at_rest(loaded, span.images) if carried is None and layer.recurrent is not None else carried

    def jobs(self, workers: int) -> list[Callable[[], np.ndarray]]:
        """Calls in any order, each of which returns [spikes, saturations, weight rows added at each step]."""
        if self.loaded.layer.recurrent is not None:
            return [partial(self._step_by_step, image) for image in range(self.span.images)]
        return [partial(self._run, *call) for call in self._calls(workers)]

    def _calls(self, workers: int) -> list[Call]:
        """Tiles outermost, so that their weights stay in the cache; few images are split into bands of pixels."""
        pixels, registers = self.loaded.synapse.pixels, self.loaded.context.registers
        images, parts = range(len(self.values)), self.loaded.parts
        whole = len(images) * len(parts) >= workers or (registers is not None and not registers.aligned)
        count = 1 if whole else min(workers, pixels)
        bands = list(pairwise(np.linspace(0, pixels, count + 1).astype(int).tolist()))
        return [(image, tile_work, low, high) for tile_work in parts for image in images for low, high in bands]

    def _run(self, image: int, tile_work: Part, low: int, high: int) -> np.ndarray:
        """All steps of one image and tile."""
        states = self.starts[image, tile_work.program.order]
        if low and self.loaded.context.registers is not None:
            jump(states, columns(low))
        return self._call(image, tile_work, self.values[image], slice(0, self.span.count), (low, high), states)

    def _step_by_step(self, image: int) -> np.ndarray:
        """All steps of one image, all tiles of a step before the next, which reads the spikes that they send."""
        assert self.carried is not None  # where a layer reads its own spikes
        own, values, total = self.carried.own[image], self.values[image], np.zeros(2 + self.span.count, np.int64)
        states = [self.starts[image, part.program.order] for part in self.loaded.parts]
        for t in range(self.span.count):
            read = values[min(t, len(values) - 1)]
            both = np.concatenate([read, own], axis=1, dtype=read.dtype)[None]
            for part, entries in zip(self.loaded.parts, states):
                tally = self._call(image, part, both, slice(t, t + 1), (0, 1), entries)
                part.program.move_on(entries)
                total[:2] += tally[:2]
                total[2 + t] += tally[2]
            own[:] = self.out[image, t]
        return total

    def _call(
        self, image: int, part: Part, values: np.ndarray, steps: slice, band: tuple[int, int], states: np.ndarray
    ) -> np.ndarray:
        """Some steps of one image, tile and band of pixels."""
        inputs = part.inputs._replace(values=values.reshape(-1), step_at=part.inputs.step_at[: len(values)])
        output, scratch = self._output(image, part, steps), self._scratch(part, values)
        part.program.run(inputs, scratch, output, self._state(image, part), *band, states)
        # each tile spends its own rows; the counts want them once per channel
        return np.concatenate([output.tally, output.rows_used * output.width])

    def _output(self, image: int, part: Part, steps: slice) -> Output:
        first, count = part.tile.offset, steps.stop - steps.start
        out, record = (values[image][steps].reshape(-1)[first:] for values in (self.out, self.record))
        rows, tally = np.zeros(count, np.int64), np.zeros(2, np.int64)
        return part.output._replace(
            out=out, record=record, out_step=part.output.out_step[:count], rows_used=rows, tally=tally
        )

    def _state(self, image: int, part: Part) -> State:
        if self.carried is None:
            return NO_STATE
        flat = (values[image].reshape(-1) for values in (self.carried.membrane, self.carried.current))
        return State(*(values[part.tile.offset :] for values in flat))

    def _scratch(self, tile_work: Part, values: np.ndarray) -> Scratch:
        inputs, planes, (different, pixels) = tile_work.inputs, self.loaded.planes, values.shape[:2]
        return Scratch(
            lists=self.memory.lists(different * planes * pixels * inputs.per_tap + SLACK),
            begins=np.empty(int(inputs.begin_at[different]), np.int64),
            rows=np.empty(planes * len(inputs.tap_at) * inputs.per_tap + SLACK, np.uint32),
            ends=np.zeros(planes, np.int64),
            sums=np.zeros(padded(tile_work.output.width), np.int32),
        )
