"""Running a network on the fast engine: the layers with weights, threads over images and pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.calls import Tally
from randhet.fixed_point.engine.moves import Values, flat
from randhet.fixed_point.engine.neurons import Carried, Job, Neurons, Place, Work, load
from randhet.fixed_point.engine.plan import Span, Synapse, make_synapse, own_span, top, with_own_spikes
from randhet.fixed_point.engine.walk import Crew, Sent, Walk, require_room
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result


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
    stream: bool = False,
) -> Result:
    """Run images or recordings; arguments and result as the reference's. threads None: one per processor.

    Memory grows with the batch, but not with T, unless layers are probed. A stream is run piece after piece.
    """
    check_images(network.input, network.steps, images, first_image)
    require_room(threads, batch)
    engine = Engine(network, reference.master_seed(network, seed), frozenset(probes))
    return engine.run(images, int(first_image), batch, threads, progress, stream)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A layer with weights: plan and neurons."""

    synapse: Synapse
    neurons: Neurons


class Engine(Walk[Carried]):
    """A loaded network: the plans of its layers; probes: names of those that are traced."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        super().__init__(network, probes)
        self.loaded = {
            i: self._load(i, Place(i, network.shapes[i], master, network.generator))
            for i, layer in enumerate(network.layers)
            if layer.weighted
        }

    def _load(self, i: int, place: Place) -> Loaded:
        layer, source = self.network.layers[i], self.network.layers[i].inputs[0]
        assert layer.weighted is not None
        read = own_span(layer, self.network.ranges[source])
        synapse = make_synapse(with_own_spikes(layer.weighted), self.network.shapes[source], top(read))
        return Loaded(synapse, load(layer, place, synapse))

    def weigh(self, i: int, values: Values, span: Span, carried: dict[int, Carried] | None, crew: Crew) -> Sent:
        layer, synapse, neurons = self.network.layers[i], self.loaded[i].synapse, self.loaded[i].neurons
        # a dense layer reads an image as one pixel
        if values.shape[2] != synapse.source[0]:
            values = flat(values, self.network.shapes[layer.inputs[0]])
        size, probed = (span.images, span.count, synapse.pixels, synapse.channels), layer.name in self.probes
        record = np.empty(size if probed or neurons.records else (0, *size[1:]), np.int32)
        if carried is not None and i not in carried:
            carried[i] = neurons.start(span.images, synapse)
        work = Work(synapse, span, values, np.empty(size, neurons.integer), record, carried[i] if carried else None)
        done = shared(list(neurons.jobs(work, crew.workers)), crew)
        membranes = record if probed and layer.dynamics else None
        return Sent(neurons.sent(work), membranes, sum(fired for fired, _ in done), sum(clipped for _, clipped in done))


def shared(jobs: list[Job], crew: Crew) -> list[Tally]:
    """What the jobs return, each thread taking the next one as it is free: cheaper than a future for every job."""
    waiting = iter(jobs)
    taken = [crew.pool.submit(lambda: [call() for call in waiting]) for _ in range(min(crew.workers, len(jobs)))]
    return [done for future in taken for done in future.result()]
