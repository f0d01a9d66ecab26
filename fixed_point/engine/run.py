"""Running a network on the fast engine: layer by layer over all steps of a batch, threads over images and pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from randhet.base.errors import RandhetError
from randhet.fixed_point import reference
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.calls import Tally
from randhet.fixed_point.engine.moves import Values, flat, logical, move
from randhet.fixed_point.engine.neurons import Job, Neurons, Place, Work, load
from randhet.fixed_point.engine.plan import Synapse, last_reader, make_synapse, top
from randhet.fixed_point.network import Network
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
    """Run images (N, C, Y, X) uint8; arguments and result as the reference's. threads None: one per processor."""
    require_plain(network, "engine")
    check_images(network.input, network.steps, images, first_image)
    workers = threads or os.cpu_count() or 1
    if workers < 1 or batch < 1:
        raise RandhetError(f"threads {workers} and batch {batch} must be at least 1")
    engine = Engine(network, reference.master_seed(network, seed), frozenset(probes))
    parts = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), batch):
            images_of_batch = images[start : start + batch]
            parts.append(engine.batch(images_of_batch, first_image + start, pool, workers))
            if progress:
                progress(len(images_of_batch))
    return reference.join(parts, network)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A layer with weights: plan and neurons."""

    synapse: Synapse
    neurons: Neurons


class Engine:
    """A loaded network: the plans of its layers; probes: names of those that are traced."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        self.network, self.probes, self.last = network, probes, last_reader(network)
        self.loaded = {
            i: self._load(i, Place(i, network.shapes[i], network.steps, master))
            for i, layer in enumerate(network.layers)
            if layer.weighted
        }

    def _load(self, i: int, place: Place) -> Loaded:
        layer, source = self.network.layers[i], self.network.layers[i].inputs[0]
        assert layer.weighted is not None and layer.neuron is not None
        synapse = make_synapse(layer.weighted, self.network.shapes[source], top(self.network.ranges[source]))
        return Loaded(synapse, load(layer.neuron, place, synapse))

    def batch(self, images: np.ndarray, first: int, pool: ThreadPoolExecutor, workers: int) -> Result:
        """All layers for a few images, the first of which has the number `first`."""
        network, kept = self.network, dict[int, Values]()
        spikes: dict[str, int] = {}
        traces: dict[str, Trace] = {}
        saturations = 0
        for i, layer in enumerate(network.layers):
            membranes = None
            if i in self.loaded:
                work, (fired, clipped) = self._layer(i, kept[layer.inputs[0]], first, pool, workers)
                kept[i], saturations = work.out, saturations + clipped
                if layer.spikes:
                    spikes[layer.name] = fired
                if layer.name in self.probes:
                    membranes = self.loaded[i].neurons.membranes(work)
            else:
                kept[i] = self._pass(i, [kept[source] for source in layer.inputs], images, pool)
            if layer.name in self.probes:
                traces[layer.name] = self._trace(i, kept[i], membranes)
            for source in {source for source in kept if self.last[source] <= i < len(network.layers) - 1}:
                del kept[source]
        last = len(network.layers) - 1
        sums = logical(kept[last], network.steps, network.shapes[last]).sum(axis=1).reshape(len(images), -1)
        return Result(sums.argmax(axis=1), sums, spikes, saturations, traces=traces)

    def _layer(self, i: int, values: Values, first: int, pool: ThreadPoolExecutor, workers: int) -> tuple[Work, Tally]:
        layer, synapse, neurons = self.network.layers[i], self.loaded[i].synapse, self.loaded[i].neurons
        # a dense layer reads an image as one pixel
        if values.shape[2] != synapse.source[0]:
            values = flat(values, self.network.shapes[layer.inputs[0]])
        size = (len(values), self.network.steps, synapse.pixels, synapse.channels)
        record = np.empty(size if layer.name in self.probes else (0, *size[1:]), np.int32)
        work = Work(synapse, first, values, np.empty(size, neurons.integer), record)
        done = shared(list(neurons.jobs(work, workers)), pool, workers)
        return work, (sum(fired for fired, _ in done), sum(clipped for _, clipped in done))

    def _pass(self, i: int, read: list[Values], images: np.ndarray, pool: ThreadPoolExecutor) -> Values:
        layer = self.network.layers[i]
        shape = self.network.shapes[layer.inputs[0]] if layer.inputs else ()
        return move(layer.operation, read, images, shape, self.network.ranges[i], pool.map)

    def _trace(self, i: int, values: Values, membranes: np.ndarray | None) -> Trace:
        shape, steps = self.network.shapes[i], self.network.steps
        return Trace(logical(values, steps, shape), None if membranes is None else logical(membranes, steps, shape))


def shared(jobs: list[Job], pool: ThreadPoolExecutor, workers: int) -> list[Tally]:
    """What the jobs return, each thread taking the next one as it is free: cheaper than a future for every job."""
    waiting = iter(jobs)
    taken = [pool.submit(lambda: [call() for call in waiting]) for _ in range(min(workers, len(jobs)))]
    return [done for future in taken for done in future.result()]
