"""What a layer's neurons add to the plan, and their work on a batch as calls that may run in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import calls
from randhet.fixed_point.engine.keyed import make_keyed
from randhet.fixed_point.engine.moves import Values
from randhet.fixed_point.engine.plan import (
    Span,
    Synapse,
    Tile,
    channels_last,
    columns,
    image_starts,
    make_registers,
    visits,
)
from randhet.fixed_point.generator import GeneratorKind
from randhet.fixed_point.kernels.bundles import NO_RECORD, NO_STATE, Decays, Output, State
from randhet.fixed_point.kernels.registers import jump, states_of_rounds

Job = Callable[[], calls.Tally]
OfPart = Callable[[int, Tile, int], Decays]
"""The decays of an image's tile from a pixel on."""
OfLanes = Callable[[int, slice, Tile], Decays]
"""The decays of a step of some images' tile."""
NO_SPIKES = np.zeros((0, 0), np.uint8)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer stands: its number, shape, the master seed and the kind of generator."""

    index: int
    shape: ir.Shape
    master: int
    generator: GeneratorKind


@dataclass(frozen=True, eq=False)
class Carried:
    """What neurons carry on, images first: membrane potentials and currents, and spikes that a layer reads itself."""

    state: State = NO_STATE
    own: np.ndarray = field(default_factory=lambda: NO_SPIKES)

    def of(self, images: slice) -> State:
        """The state of some images, for the kernels, which move it on in place."""
        return State(*(values[images] for values in self.state)) if len(self.state.membrane) else NO_STATE


@dataclass(frozen=True, eq=False)
class Work:
    """One layer in one span: what it reads and writes, images first; record is empty where nothing is recorded.

    carried: where its neurons begin, and what they carry on; None where they begin at rest and nothing goes on.
    """

    synapse: Synapse
    span: Span
    values: Values
    out: Values
    record: np.ndarray
    carried: Carried | None = None

    def output(self, image: int, tile: Tile, low: int, high: int) -> Output:
        """Tell the kernels where to write."""
        record = self.record[image] if len(self.record) else NO_RECORD
        return Output(self.out[image], record, tile.offset, low, high)

    def state(self, image: int) -> State:
        """Tell the kernels where an image's neurons begin."""
        return self.carried.of(slice(image, image + 1)) if self.carried else NO_STATE


Lanes = Callable[[int, slice, Tile, np.ndarray, State, Output], calls.Tally]
"""One step of a span for some images side by side: step, images, tile, what they read, their state, where to write."""


class Neurons:
    """The neurons of a loaded layer."""

    integer: type = np.uint8
    """What the layer's kernels write."""
    records = False
    """Whether membrane potentials are needed even where nobody traces them."""

    def start(self, images: int, synapse: Synapse) -> Carried:
        """Return the state at rest of so many images."""
        return Carried()

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        """Yield the calls that do the work, each returning (spikes, saturations)."""
        raise NotImplementedError

    def lanes(self, work: Work) -> Lanes:
        """Return a call that does one step of several images."""
        raise NotImplementedError

    def sent(self, work: Work) -> Values:
        """Return what the layer sends, once the jobs are done."""
        return work.out


class Lif(Neurons):
    """Membranes, levels and decays of a Lif layer."""

    def __init__(self, neuron: ir.Lif, place: Place, synapse: Synapse) -> None:
        self.levels = {tile.offset: calls.lif_levels(neuron, place.shape, tile) for tile in synapse.tiles}
        self.decays = decays_of(neuron.decay, place, synapse)

    def start(self, images: int, synapse: Synapse) -> Carried:
        return Carried(State(at_rest(images, synapse), NO_STATE.current))

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        decays = self.decays.of_span(work.span)

        def call(image: int, tile: Tile, low: int, high: int) -> calls.Tally:
            given, output = decays(image, tile, low), work.output(image, tile, low, high)
            levels, state = self.levels[tile.offset], work.state(image)
            return calls.lif(work.synapse, tile, work.values[image], levels, given, state, output)

        yield from spread(work, call, bands(work, workers) if self.decays.divisible else 1)

    def lanes(self, work: Work) -> Lanes:
        decays = self.decays.of_lanes(work.span)

        def call(t: int, images: slice, tile: Tile, values: np.ndarray, state: State, output: Output) -> calls.Tally:
            given, levels = decays(t, images, tile), self.levels[tile.offset]
            return calls.lif(work.synapse, tile, values, levels, given, state, output)

        return call


class Cuba(Neurons):
    """Currents and voltages of a Cuba layer."""

    def __init__(self, neuron: ir.Cuba, place: Place, synapse: Synapse) -> None:
        self.levels = {tile.offset: calls.cuba_levels(neuron, place.shape, tile) for tile in synapse.tiles}

    def start(self, images: int, synapse: Synapse) -> Carried:
        return Carried(State(at_rest(images, synapse), at_rest(images, synapse)))

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        def call(image: int, tile: Tile, low: int, high: int) -> calls.Tally:
            levels, state, output = self.levels[tile.offset], work.state(image), work.output(image, tile, low, high)
            return calls.cuba(work.synapse, tile, work.values[image], levels, state, output)

        yield from spread(work, call, bands(work, workers))

    def lanes(self, work: Work) -> Lanes:
        def call(t: int, images: slice, tile: Tile, values: np.ndarray, state: State, output: Output) -> calls.Tally:
            return calls.cuba(work.synapse, tile, values, self.levels[tile.offset], state, output)

        return call


class Leaky(Neurons):
    """A leaky read-out: membrane potentials of neurons that never spike are what is sent."""

    records = True

    def __init__(self, dynamics: Neurons) -> None:
        self.dynamics = dynamics

    def start(self, images: int, synapse: Synapse) -> Carried:
        return self.dynamics.start(images, synapse)

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        return self.dynamics.jobs(work, workers)

    def sent(self, work: Work) -> Values:
        return work.record


class Recurrent(Neurons):
    """Neurons of a dense layer that reads its own spikes too: step after step, the images of a thread side by side."""

    def __init__(self, inner: Neurons) -> None:
        self.inner = inner

    def start(self, images: int, synapse: Synapse) -> Carried:
        return Carried(self.inner.start(images, synapse).state, np.zeros((images, synapse.channels), np.uint8))

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        carried = work.carried or self.start(work.span.images, work.synapse)
        lanes, edges = self.inner.lanes(work), np.linspace(0, work.span.images, min(workers, work.span.images) + 1)
        for low, high in pairwise(edges.astype(int).tolist()):
            yield partial(_steps, work, lanes, carried, slice(low, high))


def _steps(work: Work, lanes: Lanes, carried: Carried, images: slice) -> calls.Tally:
    """All steps of some images: each reads what the layer sent at the step before, behind what it reads anyhow."""
    own, state, fired, clipped = carried.own[images], carried.of(images), 0, 0
    out = np.empty((len(own), 1, work.synapse.channels), np.uint8)
    record = np.empty(out.shape, np.int32) if len(work.record) else NO_RECORD
    for t in range(work.span.count):
        read = work.values[images, min(t, work.values.shape[1] - 1), 0]
        values = np.concatenate([read, own], axis=1, dtype=read.dtype)[:, None]
        for tile in work.synapse.tiles:
            spikes, saturated = lanes(t, images, tile, values, state, Output(out, record, tile.offset, 0, 1))
            fired, clipped = fired + spikes, clipped + saturated
        own[:] = out[:, 0]
        work.out[images, t] = out
        if len(work.record):
            work.record[images, t] = record
    return fired, clipped


def at_rest(images: int, synapse: Synapse) -> np.ndarray:
    """Zeros for every neuron of so many images."""
    return np.zeros((images, synapse.pixels, synapse.channels), np.int32)


class ReadOut(Neurons):
    """Sums that are added up."""

    integer = np.int32

    def __init__(self, neuron: ir.ReadOut, place: Place, synapse: Synapse) -> None:
        self.bias = channels_last(neuron.bias, place.shape).astype(np.int32)

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        def call(image: int, tile: Tile, low: int, high: int) -> calls.Tally:
            added = calls.sums(work.synapse, tile, work.values[image], len(work.out[image]))
            work.out[image][:, :, tile.channels] = added + self.bias[:, tile.channels]
            return 0, 0

        yield from spread(work, call, 1)


def load(layer: ir.Layer, place: Place, synapse: Synapse) -> Neurons:
    """Load the neurons of a layer, once for all batches."""
    assert layer.sender is not None  # every layer with weights has some
    neurons = _load(layer.sender, place, synapse)
    return neurons if layer.recurrent is None else Recurrent(neurons)


def _load(neuron: ir.Neuron, place: Place, synapse: Synapse) -> Neurons:
    match neuron:
        case ir.Lif():
            return Lif(neuron, place, synapse)
        case ir.Cuba():
            return Cuba(neuron, place, synapse)
        case ir.ReadOut():
            return ReadOut(neuron, place, synapse)
        case ir.Leaky():
            return Leaky(_load(neuron.dynamics, place, synapse))
        case _:
            assert_never(neuron)


# --- decays -------------------------------------------------------------------------------------------------------


class Given:
    """Decays that never change."""

    divisible = True

    def __init__(self, decay: ir.Constant | ir.PerNeuron, place: Place, synapse: Synapse) -> None:
        self.tiles = {tile.offset: calls.given(decay, place.shape, tile) for tile in synapse.tiles}

    def of_span(self, span: Span) -> OfPart:
        """Return those of a span's parts."""
        return lambda image, tile, low: self.tiles[tile.offset]

    def of_lanes(self, span: Span) -> OfLanes:
        """Return those of a span's steps."""
        return lambda t, images, tile: self.tiles[tile.offset]


class Drawn:
    """Decays drawn by registers, found by jumps. divisible: an image's pixels may be computed in any order."""

    def __init__(self, decay: ir.Drawn, place: Place, synapse: Synapse) -> None:
        self.decay, self.held = decay, decay.sampling == "forward"
        self.registers = make_registers(decay, place.shape, place.index, place.master)
        self.visits = {tile.offset: visits(self.registers, tile) for tile in synapse.tiles}
        self.tiles = {
            tile.offset: calls.drawn(decay, self.visits[tile.offset], place.shape, tile) for tile in synapse.tiles
        }
        self.divisible = self.registers.aligned

    def of_span(self, span: Span) -> OfPart:
        """Return those of a span's parts."""
        starts = image_starts(self.registers, self.decay, span)
        # of all images in one call: between two tiles, calls find nothing of theirs in the caches
        whole = {
            offset: np.ascontiguousarray(self._rounds(starts, offset, span).swapaxes(0, 1)) for offset in self.tiles
        }

        def of_part(image: int, tile: Tile, low: int) -> Decays:
            offset = tile.offset
            # divisible where low is not 0: every entry is at pixel 0, `low` draws before
            states = self._rounds(starts[image : image + 1], offset, span, low)[:, 0] if low else whole[offset][image]
            return calls.with_states(self.tiles[offset], states)

        return of_part

    def of_lanes(self, span: Span) -> OfLanes:
        """Return those of a span's steps, for which the states of all images are found in advance."""
        starts = image_starts(self.registers, self.decay, span)
        states = {offset: self._rounds(starts, offset, span) for offset in self.tiles}

        def of_step(t: int, images: slice, tile: Tile) -> Decays:
            return calls.with_states(self.tiles[tile.offset], np.ascontiguousarray(states[tile.offset][t, images]))

        return of_step

    def _rounds(self, starts: np.ndarray, offset: int, span: Span, low: int = 0) -> np.ndarray:
        """States (steps, images, entries) of a tile from a pixel on; starts: (images, entries of the layer)."""
        mine = self.visits[offset]
        states = starts[:, mine.number].reshape(-1)
        if low:
            jump(states, columns(low))
        last = np.tile(mine.last, len(starts))
        return states_of_rounds(states, last, *self.registers.round(), self.held, span.count).reshape(
            span.count, len(starts), -1
        )


class Keyed:
    """Decays drawn by the cipher, each found from its numbers alone."""

    divisible = True

    def __init__(self, decay: ir.Drawn, place: Place) -> None:
        self.source = make_keyed(decay, place.shape, place.index, place.master)

    def of_span(self, span: Span) -> OfPart:
        """Return those of a span's parts."""
        source = self.source

        def of_part(image: int, tile: Tile, low: int) -> Decays:
            decays = source.decays(tile, source.numbers(span.first + image, span))
            return calls.keyed(decays, 0 if source.held else source.size(tile))

        return of_part

    def of_lanes(self, span: Span) -> OfLanes:
        """Return those of a span's steps."""
        source = self.source

        def of_step(t: int, images: slice, tile: Tile) -> Decays:
            rounds = [source.number(span.first + i, span.start + t, span.steps) for i in range(span.images)[images]]
            return calls.keyed(source.decays(tile, rounds), source.size(tile))

        return of_step


def decays_of(decay: ir.Decay, place: Place, synapse: Synapse) -> Given | Drawn | Keyed:
    """Load what a layer's decays come from."""
    match decay:
        case ir.Constant() | ir.PerNeuron():
            return Given(decay, place, synapse)
        case ir.Drawn():
            return _drawn(decay, place, synapse)
        case _:
            assert_never(decay)


def _drawn(decay: ir.Drawn, place: Place, synapse: Synapse) -> Drawn | Keyed:
    match place.generator:
        case "register":
            return Drawn(decay, place, synapse)
        case "chacha":
            return Keyed(decay, place)
        case _:
            assert_never(place.generator)


# --- parts of a layer's work --------------------------------------------------------------------------------------


def bands(work: Work, workers: int) -> int:
    """Count the bands that pixels are split into: more than one where there are fewer images and tiles than threads."""
    return 1 if len(work.values) * len(work.synapse.tiles) >= workers else min(workers, work.synapse.pixels)


def spread(work: Work, call: Callable[[int, Tile, int, int], calls.Tally], count: int) -> Iterator[Job]:
    """Yield one call per image, tile and band of pixels; tiles outermost, so that their weights stay in the cache."""
    edges = np.linspace(0, work.synapse.pixels, count + 1).astype(int).tolist()
    for tile in work.synapse.tiles:
        for image in range(len(work.values)):
            for low, high in pairwise(edges):
                yield lambda image=image, tile=tile, low=low, high=high: call(image, tile, low, high)  # type: ignore[misc]
