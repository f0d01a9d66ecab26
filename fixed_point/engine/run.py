"""Running a network on the fast engine: layer by layer over all steps of a batch, threads over images and pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from randhet.base.errors import RandhetError
from randhet.base.kinds import assert_never
from randhet.fixed_point import reference
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine import choice, guard, kernels
from randhet.fixed_point.engine.moves import Values, flat, logical, move
from randhet.fixed_point.engine.plan import (
    Registers,
    Synapse,
    Tile,
    Visits,
    channels_last,
    columns,
    image_starts,
    last_reader,
    make_registers,
    make_synapse,
    top,
    visits,
)
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.network import (
    Constant,
    Cuba,
    Dense,
    Drawn,
    Layer,
    Lif,
    Network,
    Neuron,
    PerNeuron,
    ReadOut,
    Reset,
    Shape,
)
from randhet.fixed_point.result import Result, Trace

Levels = tuple[np.ndarray, np.ndarray]
NO_DECAYS = np.zeros((0, 0), np.int32)
NO_ENTRIES = np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_)
NO_MATRICES = np.zeros(32, np.uint32), np.zeros(32, np.uint32)
NO_WEIGHTS = np.zeros(0, np.int8)
NO_RECORD = np.zeros((0, 0, 0), np.int32)


def run(
    network: Network,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 8,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Run images (N, C, Y, X) uint8; arguments and result as the reference's. threads None: one per processor."""
    check_images(network.input, images, first_image)
    workers = threads or os.cpu_count() or 1
    if workers < 1 or batch < 1:
        raise RandhetError(f"threads {workers} and batch {batch} must be at least 1")
    engine = Engine(network, reference.master_seed(network, seed), frozenset(probes))
    parts = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            parts.append(engine.batch(part, first_image + start, pool, workers))
            if progress:
                progress(len(part))
    return reference.join(parts, network)


@dataclass(frozen=True, eq=False)
class Work:
    """One layer in one batch: what its kernels read and write."""

    layer: Layer
    index: int
    shape: Shape
    steps: int
    first_image: int
    synapse: Synapse
    levels: dict[int, Levels]
    registers: Registers | None
    visits: dict[int, Visits]
    values: Values
    out: Values
    record: np.ndarray

    def common(self, image: int, tile: Tile) -> tuple[Any, ...]:
        """The arguments every kernel starts with."""
        synapse = self.synapse
        values = self.values[image]
        return values, self.steps, tile.first, synapse.per_tap, synapse.planes, synapse.window, tile.weight, tile.packed

    def recorded(self, image: int) -> np.ndarray:
        return self.record[image] if len(self.record) else NO_RECORD


@dataclass
class Engine:
    """A loaded network: shapes, plans and registers."""

    network: Network
    master: int
    probes: frozenset[str]
    shape: tuple[Shape, ...] = field(init=False)
    synapses: dict[int, Synapse] = field(init=False)
    levels: dict[int, dict[int, Levels]] = field(init=False)
    registers: dict[int, Registers] = field(init=False)
    visits: dict[int, dict[int, Visits]] = field(init=False)

    def __post_init__(self) -> None:
        self.shape = self.network.shapes
        self.last = last_reader(self.network)
        self.synapses, self.levels, self.registers, self.visits = {}, {}, {}, {}
        for i, layer in enumerate(self.network.layers):
            if layer.weighted is not None:
                source = layer.inputs[0]
                synapse = make_synapse(layer.weighted, self.shape[source], top(self.network.ranges[source]))
                self.synapses[i] = synapse
                self.levels[i] = {tile.offset: levels(layer.neuron, self.shape[i], tile) for tile in synapse.tiles}
            if layer.drawn is not None:
                registers = self.registers[i] = make_registers(layer.drawn, self.shape[i], i, self.master)
                self.visits[i] = {tile.offset: visits(registers, tile) for tile in self.synapses[i].tiles}

    def batch(self, images: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int) -> Result:
        """All layers for a few images."""
        network, kept = self.network, dict[int, Values]()
        spikes: dict[str, int] = {}
        traces: dict[str, Trace] = {}
        saturations = 0
        for i, layer in enumerate(network.layers):
            read = [kept[source] for source in layer.inputs]
            if layer.weighted is not None:
                kept[i], membranes, fired, clipped = self._layer(i, layer, read[0], first, pool, workers)
                saturations += clipped
                if layer.spikes:
                    spikes[layer.name] = fired
            else:
                kept[i], membranes = self._pass(i, layer, read, images, pool), None
            if layer.name in self.probes:
                traces[layer.name] = self._trace(i, kept[i], membranes)
            for source in {source for source in kept if self.last[source] <= i < len(network.layers) - 1}:
                del kept[source]
        last = len(network.layers) - 1
        sums = logical(kept[last], network.steps, self.shape[last]).sum(axis=1).reshape(len(images), -1)
        return Result(sums.argmax(axis=1), sums, spikes, saturations, traces=traces)

    def _layer(
        self, i: int, layer: Layer, values: Values, first: int, pool: ThreadPoolExecutor, workers: int
    ) -> tuple[Values, np.ndarray | None, int, int]:
        synapse, images, steps = self.synapses[i], len(values), self.network.steps
        if isinstance(layer.operation, Dense):
            values = flat(values, self.shape[layer.inputs[0]])
        probed = layer.name in self.probes
        size = (images, steps, synapse.pixels, synapse.channels)
        integer = np.uint8 if layer.spikes else np.int32
        record = np.empty(size, np.int32) if probed else np.empty((0, *size[1:]), np.int32)
        out, registers, entries = np.empty(size, integer), self.registers.get(i), self.visits.get(i, {})
        work = Work(
            layer, i, self.shape[i], steps, first, synapse, self.levels[i], registers, entries, values, out, record
        )
        assert layer.neuron is not None
        done = shared(list(job(layer.neuron, work, workers)), pool, workers)
        membranes: np.ndarray | None = work.record if probed else None
        if isinstance(layer.neuron, ReadOut):
            work.out[:] += channels_last(layer.neuron.bias, self.shape[i]).astype(np.int32)
            membranes = work.out.cumsum(axis=1, dtype=np.int64)
        return work.out, membranes, sum(fired for fired, _ in done), sum(clipped for _, clipped in done)

    def _pass(self, i: int, layer: Layer, read: list[Values], images: np.ndarray, pool: ThreadPoolExecutor) -> Values:
        shape = self.shape[layer.inputs[0]] if layer.inputs else ()
        return move(layer.operation, read, images, shape, self.network.ranges[i], pool.map)

    def _trace(self, i: int, values: Values, membranes: np.ndarray | None) -> Trace:
        shape, steps = self.shape[i], self.network.steps
        return Trace(logical(values, steps, shape), None if membranes is None else logical(membranes, steps, shape))


# --- neurons: a layer's work as calls that may run in any order ------------------------------------------------------

Job = Callable[[], tuple[int, int]]


def job(neuron: Neuron, work: Work, workers: int) -> Iterator[Job]:
    """The calls that do a layer's work, each returning (spikes, saturations)."""
    match neuron:
        case Lif():
            return _lif_jobs(neuron, work, workers)
        case Cuba():
            return _cuba_jobs(neuron, work, workers)
        case ReadOut():
            return _sum_jobs(work)
        case _:
            assert_never(neuron)


def shared(jobs: list[Job], pool: ThreadPoolExecutor, workers: int) -> list[tuple[int, int]]:
    """What the jobs return, each thread taking the next one as it is free: cheaper than a future for every job."""
    waiting = iter(jobs)
    taken = [pool.submit(lambda: [call() for call in waiting]) for _ in range(min(workers, len(jobs)))]
    return [done for future in taken for done in future.result()]


def bands(work: Work, workers: int) -> list[tuple[int, int]]:
    """Pixels are split where there are fewer images and tiles than threads."""
    parts = 1 if len(work.values) * len(work.synapse.tiles) >= workers else min(workers, work.synapse.pixels)
    edges = np.linspace(0, work.synapse.pixels, parts + 1).astype(int).tolist()
    return list(pairwise(edges))


def _sum_jobs(work: Work) -> Iterator[Job]:
    def call(image: int, tile: Tile) -> tuple[int, int]:
        part = np.empty((work.steps, work.synapse.pixels, tile.weight.shape[1]), np.int32)
        guard.activity(work.values[image], work.steps, work.synapse.source)
        kernels.sums_image(*work.common(image, tile), part)
        work.out[image][:, :, tile.channels] = part
        return 0, 0

    for image in range(len(work.values)):
        for tile in work.synapse.tiles:
            yield lambda image=image, tile=tile: call(image, tile)  # type: ignore[misc]


def _cuba_jobs(neuron: Cuba, work: Work, workers: int) -> Iterator[Job]:
    bias, threshold = channels_last(neuron.bias, work.shape).astype(np.int32), neuron.threshold.astype(np.int32)
    kept = 4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay

    def call(image: int, tile: Tile, low: int, high: int) -> tuple[int, int]:
        part = np.ascontiguousarray(bias[:, tile.channels])
        arguments = (
            *work.common(image, tile), low, high, part, threshold[tile.channels], neuron.f, *kept,
            work.out[image], tile.offset, work.recorded(image),
        )  # fmt: skip
        guard.cuba(work.synapse.source, *arguments)
        return kernels.cuba_image(*arguments)

    yield from _calls(work, bands(work, workers), call)


def _lif_jobs(neuron: Lif, work: Work, workers: int) -> Iterator[Job]:
    match neuron.decay:
        case Constant() | PerNeuron():
            return _given_jobs(neuron, neuron.decay, work, workers)
        case Drawn():
            return _drawn_jobs(neuron, neuron.decay, work, workers)
        case _:
            assert_never(neuron.decay)


def _given_jobs(neuron: Lif, decay: Constant | PerNeuron, work: Work, workers: int) -> Iterator[Job]:
    mantissa = channels_last(np.asarray(decay.mantissa, np.int32), work.shape)
    table, still = np.zeros(512, np.uint8), (*NO_ENTRIES, False, *NO_MATRICES)

    def call(image: int, tile: Tile, low: int, high: int) -> tuple[int, int]:
        return _lif(neuron, work, image, tile, low, high, padded(mantissa[:, tile.channels], 0), table, still)

    yield from _calls(work, bands(work, workers), call)


def _drawn_jobs(neuron: Lif, decay: Drawn, work: Work, workers: int) -> Iterator[Job]:
    registers = work.registers
    assert registers is not None
    starts = image_starts(registers, decay, work.steps, work.first_image, len(work.values))
    table = bytes_of(decay.table)
    held = decay.sampling == "forward"

    def call(image: int, tile: Tile, low: int, high: int) -> tuple[int, int]:
        mine = work.visits[tile.offset]
        states = starts[image, mine.number]
        if low:
            kernels.jump(states, columns(low))
        entries = states, mine.pixel, mine.channel, mine.last, held, *registers.round()
        return _lif(neuron, work, image, tile, low, high, NO_DECAYS, table, entries)

    whole = [(0, work.synapse.pixels)]
    yield from _calls(work, bands(work, workers) if registers.aligned else whole, call)


def bytes_of(table: np.ndarray) -> np.ndarray:
    """256 decays as the kernels look them up: their low bytes, then their high."""
    return np.concatenate([table & 0xFF, table >> 8]).astype(np.uint8)


def kept(reset: Reset) -> int:
    """What of m - theta a spike leaves, as bits: none of it ("zero") or all ("subtract")."""
    match reset:
        case "zero":
            return 0
        case "subtract":
            return -1
        case _:
            assert_never(reset)


def padded(values: np.ndarray, fill: int) -> np.ndarray:
    """(..., channels of a tile) int32, filled up to whole chunks."""
    more = -values.shape[-1] % CHUNK
    return np.pad(values.astype(np.int32), [(0, 0)] * (values.ndim - 1) + [(0, more)], constant_values=fill)


def _lif(
    neuron: Lif,
    work: Work,
    image: int,
    tile: Tile,
    low: int,
    high: int,
    given: np.ndarray,
    table: np.ndarray,
    entries: tuple[Any, ...],
) -> tuple[int, int]:
    arguments = (
        *work.common(image, tile), *products(work.synapse, tile, work.values), low, high,
        *work.levels[tile.offset], neuron.f, neuron.k, kept(neuron.reset), given, table,
        *entries, work.out[image], tile.offset, work.recorded(image),
    )  # fmt: skip
    guard.lif(work.synapse.source, *arguments)
    return kernels.lif_image(*arguments)


def products(synapse: Synapse, tile: Tile, values: np.ndarray) -> tuple[np.ndarray, int]:
    """A tile's weights to multiply by, where what it reads is bytes, and the active bits above which to do so."""
    wide = tile.wide if values.dtype == np.uint8 and synapse.planes <= 8 else NO_WEIGHTS
    return wide, choice.limit(synapse.per_tap * synapse.source[0])


def levels(neuron: Neuron | None, shape: Shape, tile: Tile) -> Levels:
    """Bias (1 or pixels, padded tile) and threshold (padded tile) of a tile, as `lif_image` reads them."""
    if not isinstance(neuron, Lif):
        return NO_DECAYS, NO_DECAYS.reshape(-1)
    bias = padded(channels_last(neuron.bias, shape)[:, tile.channels], 0)
    return bias, padded(neuron.threshold[tile.channels], STATE_MAX)


def _calls(
    work: Work, parts: list[tuple[int, int]], call: Callable[[int, Tile, int, int], tuple[int, int]]
) -> Iterator[Job]:
    """One call per image, tile and band of pixels; tiles outermost, so that their weights stay in the cache."""
    for tile in work.synapse.tiles:
        for image in range(len(work.values)):
            for low, high in parts:
                yield lambda image=image, tile=tile, low=low, high=high: call(image, tile, low, high)  # type: ignore[misc]
