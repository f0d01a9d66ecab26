"""Running a network on the add-only engine, and counting what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np

from fixed_point import reference
from fixed_point.add_only.counts import Counts, count_layer, total_operations
from fixed_point.add_only.layer import CUBA, LIF, NONE, run_layer
from fixed_point.check import check, check_images
from fixed_point.engine.blocks import CHUNK
from fixed_point.engine.guard import padded
from fixed_point.engine.moves import flat, logical, move
from fixed_point.engine.plan import (
    Registers,
    Synapse,
    Tile,
    channels_last,
    image_starts,
    last_reader,
    make_registers,
    make_synapse,
    visits,
    weighted,
)
from fixed_point.errors import RandhetError
from fixed_point.network import Accumulate, Conv, Cuba, Dense, Input, Layer, Network, RandomTau, Shape
from fixed_point.result import Result, Trace
from fixed_point.shape import peaks, shapes

CLAMP = 2**25


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
    """Run images (N, C, Y, X) uint8; arguments and result as the reference's, operations counted."""
    options = {"first_image": first_image, "probes": probes, "batch": batch, "threads": threads, "progress": progress}
    return run_counted(network, images, seed=seed, **options)[0]  # type: ignore[arg-type]


def run_counted(
    network: Network,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 8,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Result, dict[str, Counts]]:
    """The same, with the counts of every layer and step beside the result."""
    check(network)
    check_images(network, images)
    workers = threads or os.cpu_count() or 1
    if workers < 1 or batch < 1:
        raise RandhetError(f"threads {workers} and batch {batch} must be at least 1")
    engine = AddOnly(network, reference.master_seed(network, seed), frozenset(probes))
    parts: list[Result] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            parts.append(engine.batch(part, first_image + start, pool))
            if progress:
                progress(len(part))
    counts = engine.counts(len(images))
    joined = reference.join(parts, network)
    result = Result(
        joined.predictions, joined.sums, joined.spikes, joined.saturations, total_operations(counts), joined.traces
    )
    return result, counts


@dataclass(frozen=True, eq=False)
class Flat:
    """The tables of starts that make indices free of multiplication; all for one layer."""

    value_at: np.ndarray
    list_at: np.ndarray
    plane_at: np.ndarray
    count_at: np.ndarray
    window: np.ndarray
    window_at: np.ndarray
    planes: int
    signed: bool


def tables(synapse: Synapse, channels_in: int, pixels_in: int, planes: int, signed: bool) -> Flat:
    """Starts of pixels, lists and windows."""
    per_list = synapse.per_tap
    return Flat(
        value_at=np.arange(pixels_in) * channels_in,
        list_at=np.arange(pixels_in) * per_list,
        plane_at=np.arange(planes + 1) * per_list * pixels_in,
        count_at=np.arange(planes + 1) * pixels_in,
        window=synapse.window.reshape(-1),
        window_at=np.arange(len(synapse.window) + 1) * synapse.window.shape[1],
        planes=planes,
        signed=signed,
    )


class AddOnly:
    """A loaded network, its tables, and the weight rows it has added so far."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        self.network, self.probes = network, probes
        self.shape, self.peak, self.last = shapes(network), peaks(network), last_reader(network)
        self.synapses: dict[int, Synapse] = {}
        self.flat: dict[int, Flat] = {}
        self.registers: dict[int, Registers] = {}
        self.rows = {i: np.zeros(network.steps, np.int64) for i, layer in enumerate(network.layers) if weighted(layer)}
        self.doublings = dict.fromkeys(self.rows, 0)
        for i, layer in enumerate(network.layers):
            if isinstance(layer.operation, (Conv, Dense)):
                self._load(i, layer.operation, layer.inputs[0])
            if isinstance(layer.neuron, RandomTau):
                self.registers[i] = make_registers(layer.neuron, self.shape[i], i, master)

    def _load(self, i: int, operation: Conv | Dense, source: int) -> None:
        shape = self.shape[source]
        first = self.network.layers[0].operation
        assert isinstance(first, Input)
        signed = first.signed and not any(weighted(layer) for layer in self.network.layers[:i])
        planes = int(self.peak[source]).bit_length() + signed
        synapse = self.synapses[i] = make_synapse(operation, shape, self.peak[source])
        channels, pixels = (prod(shape), 1) if isinstance(operation, Dense) else (shape[0], prod(shape[1:]))
        self.flat[i] = tables(synapse, channels, pixels, planes, signed)

    def batch(self, images: np.ndarray, first: int, pool: ThreadPoolExecutor) -> Result:
        """All layers for a few images."""
        layers, kept = self.network.layers, dict[int, np.ndarray]()
        spikes: dict[str, int] = {}
        traces: dict[str, Trace] = {}
        saturations = 0
        for i, layer in enumerate(layers):
            membranes = None
            if weighted(layer):
                kept[i], membranes, tally = self._layer(i, layer, kept[layer.inputs[0]], first, pool)
                saturations += int(tally[1])
                if not isinstance(layer.neuron, Accumulate):
                    spikes[layer.name] = int(tally[0])
            else:
                source: Shape = self.shape[layer.inputs[0]] if layer.inputs else ()
                read = [kept[source_layer] for source_layer in layer.inputs]
                kept[i] = move(layer.operation, read, images, source, self.peak[i])
            if layer.name in self.probes:
                traces[layer.name] = Trace(
                    logical(kept[i], self.network.steps, self.shape[i]),
                    None if membranes is None else logical(membranes, self.network.steps, self.shape[i]),
                )
            for source_layer in {number for number in kept if self.last[number] <= i < len(layers) - 1}:
                del kept[source_layer]
        sums = logical(kept[len(layers) - 1], self.network.steps, self.shape[-1]).sum(axis=1).reshape(len(images), -1)
        return Result(sums.argmax(axis=1), sums, spikes, saturations, traces=traces)

    def _layer(
        self, i: int, layer: Layer, values: np.ndarray, first: int, pool: ThreadPoolExecutor
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        if isinstance(layer.operation, Dense):
            values = flat(values, self.shape[layer.inputs[0]])
        job = LayerJob(self, i, layer, values, first)
        calls = [(image, tile) for tile in self.synapses[i].tiles for image in range(len(values))]
        tallies = sum(pool.map(lambda call: job.run(*call), calls), np.zeros(2 + self.network.steps, np.int64))
        self.rows[i] += tallies[2:]
        if isinstance(layer.neuron, Accumulate):
            out = job.out + channels_last(layer.neuron.bias, self.shape[i]).astype(np.int32)
            return out, out.cumsum(axis=1, dtype=np.int64), tallies
        return job.out, job.record if len(job.record) else None, tallies

    def counts(self, images: int) -> dict[str, Counts]:
        """What every layer with weights did, per step, summed over the images."""
        return {
            self.network.layers[i].name: count_layer(
                self.network.layers[i], self.shape[i], self.synapses[i], self.flat[i].planes, self.rows[i], images
            )
            for i in self.rows
        }


class LayerJob:
    """One layer in one batch: constants in the kernels' layout, and a call per image and tile."""

    def __init__(self, engine: AddOnly, i: int, layer: Layer, values: np.ndarray, first: int) -> None:
        self.engine, self.i, self.layer, self.values = engine, i, layer, values
        self.steps, self.shape = engine.network.steps, engine.shape[i]
        self.synapse, self.flat = engine.synapses[i], engine.flat[i]
        size = (len(values), self.steps, self.synapse.pixels, self.synapse.channels)
        self.out = np.empty(size, np.int32 if isinstance(layer.neuron, Accumulate) else np.uint8)
        self.record = np.empty(size if layer.name in engine.probes else (0,), np.int32)
        neuron, registers = layer.neuron, engine.registers.get(i)
        self.starts = np.zeros((0, 0), np.uint32)
        if isinstance(neuron, RandomTau) and registers is not None:
            self.starts = image_starts(registers, neuron, self.steps, first, len(values))

    def run(self, image: int, tile: Tile) -> np.ndarray:
        """All steps of one image and tile; returns [spikes, saturations, weight rows added at each step]."""
        synapse, flat_, width = self.synapse, self.flat, tile.weight.shape[1]
        values = np.ascontiguousarray(self.values[image])
        apart = values.shape[1] * values.shape[2] if len(values) > 1 else 0
        starts = np.arange(self.steps) * apart
        out = np.empty((self.steps, synapse.pixels, width), self.out.dtype)
        record = np.empty(out.shape if self.record.ndim > 1 else (0,), np.int32)
        rows, tally = np.zeros(self.steps, np.int64), np.zeros(2, np.int64)
        tap_at = np.arange(synapse.window.shape[1]) * synapse.per_tap
        chunk_at = np.arange(0, tile.packed.size, len(tile.weight) * CHUNK)
        run_layer(
            values.reshape(-1), flat_.value_at, starts, tile.first, synapse.per_tap, flat_.planes, flat_.signed,
            flat_.list_at, flat_.plane_at, flat_.count_at, flat_.window, flat_.window_at, tap_at,
            tile.packed, chunk_at,
            *self._neuron(image, tile),
            np.arange(synapse.pixels + 1) * width, out.reshape(-1), np.arange(self.steps * synapse.pixels) * width,
            record.reshape(-1), rows, tally, *self._scratch(width),
        )  # fmt: skip
        self.out[image][:, :, tile.channels] = out
        if self.record.ndim > 1:
            self.record[image][:, :, tile.channels] = record
        # each tile spends its own rows; the counts want them once per channel
        return np.concatenate([tally, rows * width])

    def _scratch(self, width: int) -> tuple[np.ndarray, ...]:
        synapse, states = self.synapse, self.synapse.pixels * width
        return (
            np.empty(int(self.flat.plane_at[-1]) + 16, np.uint32),
            np.zeros(int(self.flat.count_at[-1]), np.int32),
            np.empty(synapse.per_tap * synapse.window.shape[1] + 16, np.uint32),
            np.empty(padded(width), np.int32),
            np.zeros(states, np.int32),
            np.zeros(states, np.int32),
            np.empty(width, np.int32),
            np.empty(width, np.int64),
            np.empty(width, np.uint16),
            np.empty(width, np.uint32),
        )

    def _neuron(self, image: int, tile: Tile) -> tuple[object, ...]:
        """kind ... kept_v of `run_layer`."""
        neuron, pixels = self.layer.neuron, self.synapse.pixels
        none, matrix = np.zeros(0, np.uint16), np.zeros(32, np.uint32)
        idle = (none, np.zeros(self.steps * pixels, np.int64), np.zeros(256, np.uint16), False, False)
        no_entry = np.zeros(0, np.int64)
        still = (np.zeros(0, np.uint32), 0, matrix, matrix, no_entry, no_entry, no_entry)
        if neuron is None or isinstance(neuron, Accumulate):
            zero = np.zeros(0, np.int32)
            return NONE, zero, np.zeros(pixels, np.int64), zero, 0, np.int32(0), 0, *idle, *still, 0, 0
        bias, bias_at = _rows(channels_last(neuron.bias, self.shape)[:, tile.channels].astype(np.int32), pixels)
        threshold = np.ascontiguousarray(neuron.threshold[tile.channels].astype(np.int32))
        start = (bias, bias_at, threshold, neuron.f, np.int32(CLAMP >> neuron.f))
        if isinstance(neuron, Cuba):
            kept = 4096 - neuron.current_decay - 1, 4096 - neuron.voltage_decay
            return CUBA, *start, 0, *idle, *still, *kept
        if isinstance(neuron, RandomTau):
            return LIF, *start, neuron.k, *self._drawn(neuron, image, tile, idle), 0, 0
        given = channels_last(np.asarray(neuron.decay, np.uint16), self.shape)[:, tile.channels]
        values, at = _rows(given, pixels)
        return LIF, *start, neuron.k, values, np.tile(at, self.steps), *idle[2:], *still, 0, 0

    def _drawn(self, neuron: RandomTau, image: int, tile: Tile, idle: tuple[object, ...]) -> tuple[object, ...]:
        """decay ... entry_state of `run_layer` where decays are drawn; states of the last core stand at the end."""
        registers = self.engine.registers[self.i]
        mine = visits(registers, tile)
        ordered = mine.number[np.argsort(mine.last, kind="stable")]
        place = np.argsort(ordered)
        near, far = registers.round()
        last = len(ordered) - int(mine.last.sum())
        entries = mine.pixel, mine.channel, place
        held, table = neuron.sampling == "forward", neuron.table.astype(np.uint16)
        return *idle[:2], table, True, held, self.starts[image, ordered], last, near, far, *entries


def _rows(value: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """(1 or pixels, width) as a flat array and where each pixel's row starts."""
    apart = value.shape[1] if len(value) > 1 else 0
    return np.ascontiguousarray(value).reshape(-1), np.arange(pixels) * apart
