"""Running a network on the add-only engine, and counting what it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from randhet.base.errors import RandhetError
from randhet.fixed_point import reference
from randhet.fixed_point.add_only.counts import Counts, count_layer, total_operations
from randhet.fixed_point.add_only.job import LayerJob, Memory, Spare, load
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.moves import flat, logical, move
from randhet.fixed_point.engine.plan import last_reader
from randhet.fixed_point.network import Dense, Flatten, Input, Network
from randhet.fixed_point.plain import require_plain
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
    """Run images (N, C, Y, X); arguments and result as the reference's, operations counted."""
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
    require_plain(network, "add-only")
    check_images(network.input, network.steps, images, first_image)
    workers = threads or os.cpu_count() or 1
    if workers < 1 or batch < 1:
        raise RandhetError(f"threads {workers} and batch {batch} must be at least 1")
    engine = AddOnly(network, reference.master_seed(network, seed), frozenset(probes))
    parts: list[Result] = []
    first = int(first_image)  # Python's: times T it may pass 64 bits
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch):
            chunk = images[start : start + batch]
            parts.append(engine.batch(chunk, first + start, pool, workers))
            if progress:
                progress(len(chunk))
    counts = engine.counts(len(images))
    return replace(reference.join(parts, network), operations=total_operations(counts)), counts


class AddOnly:
    """A loaded network, its tables, and the weight rows it has added so far."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        self.network, self.probes, self.last = network, probes, last_reader(network)
        self.memory, self.spare = Memory(), Spare()
        self.seen = {i for layer in network.layers if isinstance(layer.operation, Flatten) for i in layer.inputs}
        self.loaded = {i: load(network, i, master) for i, layer in enumerate(network.layers) if layer.weighted}
        self.rows = {i: np.zeros(network.steps, np.int64) for i in self.loaded}

    def batch(self, images: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int) -> Result:
        """All layers for a few images."""
        layers, kept = self.network.layers, dict[int, np.ndarray]()
        spikes: dict[str, int] = {}
        traces: dict[str, Trace] = {}
        saturations = 0
        for i, layer in enumerate(layers):
            membranes = None
            read = [kept[source] for source in layer.inputs]
            if i in self.loaded:
                kept[i], membranes, tally = self._layer(i, read[0], first, pool, workers)
                saturations += int(tally[1])
                if layer.spikes:
                    spikes[layer.name] = int(tally[0])
            else:
                kept[i] = self._move(i, read, images, pool)
            if layer.name in self.probes:
                traces[layer.name] = self._trace(i, kept[i], membranes)
            for source in {number for number in kept if self.last[number] <= i < len(layers) - 1}:
                self._let_go(source, kept.pop(source))
        sums = self._logical(len(layers) - 1, kept[len(layers) - 1]).sum(axis=1).reshape(len(images), -1)
        return Result(sums.argmax(axis=1), sums, spikes, saturations, traces=traces)

    def _move(self, i: int, read: list[np.ndarray], images: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
        """The values of layer i, one without weights."""
        layer = self.network.layers[i]
        shape = self.network.shapes[layer.inputs[0]] if layer.inputs else ()
        return move(layer.operation, read, images, shape, self.network.ranges[i], pool.map)

    def _layer(
        self, i: int, values: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Values, membranes where they are probed, and [spikes, saturations, rows of each step] of one with weights."""
        layer, loaded, steps = self.network.layers[i], self.loaded[i], self.network.steps
        if isinstance(layer.operation, Dense):
            values = flat(values, self.network.shapes[layer.inputs[0]])
        job = LayerJob(loaded, values, first, layer.name in self.probes, self.memory, self.spare)
        tallies = sum(pool.map(lambda call: job.run(*call), job.calls(workers)), np.zeros(2 + steps, np.int64))
        self.rows[i] += tallies[2:]
        if layer.spikes:
            return job.out, job.record if layer.name in self.probes else None, tallies
        out = job.out + loaded.bias
        return out, out.cumsum(axis=1, dtype=np.int64), tallies

    def _let_go(self, i: int, values: np.ndarray) -> None:
        """Keep the memory of layer i for later layers, unless a flattened layer may be another view of it."""
        if i not in self.seen and not isinstance(self.network.layers[i].operation, (Input, Flatten)):
            self.spare.give(values)

    def _logical(self, i: int, values: np.ndarray) -> np.ndarray:
        return logical(values, self.network.steps, self.network.shapes[i])

    def _trace(self, i: int, values: np.ndarray, membranes: np.ndarray | None) -> Trace:
        return Trace(self._logical(i, values), None if membranes is None else self._logical(i, membranes))

    def counts(self, images: int) -> dict[str, Counts]:
        """What every layer with weights did, per step, summed over the images."""
        return {self.network.layers[i].name: count_layer(self.loaded[i], self.rows[i], images) for i in self.rows}
