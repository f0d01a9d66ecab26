"""What a layer's neurons add to the plan, and their work on a batch as calls that may run in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import calls
from randhet.fixed_point.engine.moves import Values
from randhet.fixed_point.engine.plan import (
    Synapse,
    Tile,
    channels_last,
    columns,
    image_starts,
    make_registers,
    visits,
)
from randhet.fixed_point.kernels.bundles import NO_RECORD, NO_STATE, Decays, Output
from randhet.fixed_point.kernels.registers import jump, states_of_rounds
from randhet.fixed_point.plain import refuse

Job = Callable[[], calls.Tally]
OfPart = Callable[[int, Tile, int], Decays]
"""The decays of an image's tile from a pixel on."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer stands: its number, shape, T and the master seed."""

    index: int
    shape: ir.Shape
    steps: int
    master: int


@dataclass(frozen=True, eq=False)
class Work:
    """One layer in one batch: what it reads and writes, images first; record is empty where nothing is recorded."""

    synapse: Synapse
    first_image: int
    values: Values
    out: Values
    record: np.ndarray

    def output(self, image: int, tile: Tile, low: int, high: int) -> Output:
        """Tell the kernels where to write."""
        record = self.record[image] if len(self.record) else NO_RECORD
        return Output(self.out[image], record, tile.offset, low, high)


class Neurons:
    """The neurons of a loaded layer."""

    integer: type = np.uint8
    """What the layer sends."""

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        """Yield the calls that do the work, each returning (spikes, saturations)."""
        raise NotImplementedError

    def membranes(self, work: Work) -> np.ndarray:
        """Return membrane potentials before the reset, (images, T, pixels, channels), once the jobs are done."""
        return work.record


class Lif(Neurons):
    """Membranes, levels and decays of a Lif layer."""

    def __init__(self, neuron: ir.Lif, place: Place, synapse: Synapse) -> None:
        self.levels = {tile.offset: calls.lif_levels(neuron, place.shape, tile) for tile in synapse.tiles}
        self.decays = decays_of(neuron.decay, place, synapse)

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        decays = self.decays.of_batch(work.first_image, len(work.values))

        def call(image: int, tile: Tile, low: int, high: int) -> calls.Tally:
            given, output = decays(image, tile, low), work.output(image, tile, low, high)
            return calls.lif(
                work.synapse, tile, work.values[image], self.levels[tile.offset], given, NO_STATE, output
            )  # fmt: skip

        yield from spread(work, call, bands(work, workers) if self.decays.divisible else 1)


class Cuba(Neurons):
    """Currents and voltages of a Cuba layer."""

    def __init__(self, neuron: ir.Cuba, place: Place, synapse: Synapse) -> None:
        self.levels = {tile.offset: calls.cuba_levels(neuron, place.shape, tile) for tile in synapse.tiles}

    def jobs(self, work: Work, workers: int) -> Iterator[Job]:
        def call(image: int, tile: Tile, low: int, high: int) -> calls.Tally:
            output = work.output(image, tile, low, high)
            return calls.cuba(work.synapse, tile, work.values[image], self.levels[tile.offset], NO_STATE, output)

        yield from spread(work, call, bands(work, workers))


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

    def membranes(self, work: Work) -> np.ndarray:
        return work.out.cumsum(axis=1, dtype=np.int64)


def load(neuron: ir.Neuron, place: Place, synapse: Synapse) -> Neurons:
    """Load the neurons of a layer, once for all batches."""
    match neuron:
        case ir.Lif():
            return Lif(neuron, place, synapse)
        case ir.Cuba():
            return Cuba(neuron, place, synapse)
        case ir.ReadOut():
            return ReadOut(neuron, place, synapse)
        case ir.Leaky():
            refuse(neuron)
        case _:
            assert_never(neuron)


# --- decays -------------------------------------------------------------------------------------------------------


class Given:
    """Decays that never change."""

    divisible = True

    def __init__(self, decay: ir.Constant | ir.PerNeuron, place: Place, synapse: Synapse) -> None:
        self.tiles = {tile.offset: calls.given(decay, place.shape, tile) for tile in synapse.tiles}

    def of_batch(self, first: int, images: int) -> OfPart:
        """Return those of a batch whose first image has this number."""
        return lambda image, tile, low: self.tiles[tile.offset]


class Drawn:
    """Decays drawn by registers, found by jumps. divisible: an image's pixels may be computed in any order."""

    def __init__(self, decay: ir.Drawn, place: Place, synapse: Synapse) -> None:
        self.decay, self.steps, self.held = decay, place.steps, decay.sampling == "forward"
        self.registers = make_registers(decay, place.shape, place.index, place.master)
        self.visits = {tile.offset: visits(self.registers, tile) for tile in synapse.tiles}
        self.tiles = {
            tile.offset: calls.drawn(decay, self.visits[tile.offset], place.shape, tile) for tile in synapse.tiles
        }
        self.divisible = self.registers.aligned

    def of_batch(self, first: int, images: int) -> OfPart:
        """Return those of a batch whose first image has this number."""
        starts = image_starts(self.registers, self.decay, self.steps, first, images)
        round_ = self.registers.round()

        def of_part(image: int, tile: Tile, low: int) -> Decays:
            mine = self.visits[tile.offset]
            states = starts[image, mine.number]
            if low:
                # divisible: every entry is at pixel 0, `low` draws before
                jump(states, columns(low))
            rounds = states_of_rounds(states, mine.last, *round_, self.held, self.steps)
            return calls.with_states(self.tiles[tile.offset], rounds)

        return of_part


def decays_of(decay: ir.Decay, place: Place, synapse: Synapse) -> Given | Drawn:
    """Load what a layer's decays come from."""
    match decay:
        case ir.Constant() | ir.PerNeuron():
            return Given(decay, place, synapse)
        case ir.Drawn():
            return Drawn(decay, place, synapse)
        case _:
            assert_never(decay)


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
