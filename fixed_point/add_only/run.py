"""Running a network on the add-only engine, and counting what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from randhet.base.errors import RandhetError
from randhet.fixed_point import reference
from randhet.fixed_point.add_only.counts import Counts, count_layer, total_operations
from randhet.fixed_point.add_only.job import LayerJob, Loaded, Memory, Spare, load
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.moves import flat, logical, move
from randhet.fixed_point.engine.plan import channels_last, last_reader, weighted
from randhet.fixed_point.network import Dense, Flatten, Input, Layer, Network, ReadOut, Shape
from randhet.fixed_point.result import Result, Trace


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
    check_images(network.input, images)
    workers = threads or os.cpu_count() or 1
    if workers < 1 or batch < 1:
        raise RandhetError(f"threads {workers} and batch {batch} must be at least 1")
    engine = AddOnly(network, reference.master_seed(network, seed), frozenset(probes))
    parts: list[Result] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            parts.append(engine.batch(part, first_image + start, pool, workers))
            if progress:
                progress(len(part))
    counts = engine.counts(len(images))
    joined = reference.join(parts, network)
    result = Result(
        joined.predictions, joined.sums, joined.spikes, joined.saturations, total_operations(counts), joined.traces
    )
    return result, counts


class AddOnly:
    """A loaded network, its tables, and the weight rows it has added so far."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        self.network, self.probes = network, probes
        self.memory, self.spare = Memory(), Spare()
        self.seen = {i for layer in network.layers if isinstance(layer.operation, Flatten) for i in layer.inputs}
        self.shape, self.peak, self.last = network.shapes, [span.peak for span in network.ranges], last_reader(network)
        self.rows = {i: np.zeros(network.steps, np.int64) for i, layer in enumerate(network.layers) if weighted(layer)}
        self.loaded = {i: self._load(i, network.layers[i], master) for i in self.rows}

    def _load(self, i: int, layer: Layer, master: int) -> Loaded:
        first = self.network.layers[0].operation
        assert isinstance(first, Input)
        source = layer.inputs[0]
        signed = first.signed and not any(weighted(earlier) for earlier in self.network.layers[:i])
        return load(layer, i, self.shape[source], self.shape[i], self.peak[source], signed, self.network.steps, master)

    def batch(self, images: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int) -> Result:
        """All layers for a few images."""
        layers, kept = self.network.layers, dict[int, np.ndarray]()
        spikes: dict[str, int] = {}
        traces: dict[str, Trace] = {}
        saturations = 0
        for i, layer in enumerate(layers):
            membranes = None
            if weighted(layer):
                kept[i], membranes, tally = self._layer(i, layer, kept[layer.inputs[0]], first, pool, workers)
                saturations += int(tally[1])
                if not isinstance(layer.neuron, ReadOut):
                    spikes[layer.name] = int(tally[0])
            else:
                source: Shape = self.shape[layer.inputs[0]] if layer.inputs else ()
                read = [kept[source_layer] for source_layer in layer.inputs]
                kept[i] = move(layer.operation, read, images, source, self.peak[i], pool.map)
            if layer.name in self.probes:
                traces[layer.name] = Trace(
                    logical(kept[i], self.network.steps, self.shape[i]),
                    None if membranes is None else logical(membranes, self.network.steps, self.shape[i]),
                )
            for source_layer in {number for number in kept if self.last[number] <= i < len(layers) - 1}:
                self._let_go(source_layer, kept.pop(source_layer))
        sums = logical(kept[len(layers) - 1], self.network.steps, self.shape[-1]).sum(axis=1).reshape(len(images), -1)
        return Result(sums.argmax(axis=1), sums, spikes, saturations, traces=traces)

    def _let_go(self, i: int, values: np.ndarray) -> None:
        """Keep the memory of layer i for later layers, unless a flattened layer may be another view of it."""
        if i not in self.seen and not isinstance(self.network.layers[i].operation, (Input, Flatten)):
            self.spare.give(values)

    def _layer(
        self, i: int, layer: Layer, values: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        if isinstance(layer.operation, Dense):
            values = flat(values, self.shape[layer.inputs[0]])
        job = LayerJob(self.loaded[i], values, first, layer.name in self.probes, self.memory, self.spare)
        tallies = sum(
            pool.map(lambda call: job.run(*call), job.calls(workers)), np.zeros(2 + self.network.steps, np.int64)
        )
        self.rows[i] += tallies[2:]
        if isinstance(layer.neuron, ReadOut):
            out = job.out + channels_last(layer.neuron.bias, self.shape[i]).astype(np.int32)
            return out, out.cumsum(axis=1, dtype=np.int64), tallies
        return job.out, job.record if len(job.record) else None, tallies

    def counts(self, images: int) -> dict[str, Counts]:
        """What every layer with weights did, per step, summed over the images."""
        return {
            self.network.layers[i].name: count_layer(
                self.network.layers[i],
                self.shape[i],
                self.loaded[i].synapse,
                self.loaded[i].planes,
                self.rows[i],
                images,
            )
            for i in self.rows
        }
