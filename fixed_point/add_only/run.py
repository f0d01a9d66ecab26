"""Running a network on the add-only engine, and counting what it does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.add_only.counts import Counts, count_layer, count_move, total_operations
from randhet.fixed_point.add_only.job import Carried, LayerJob, Memory, Spare, at_rest, load
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.moves import flat
from randhet.fixed_point.engine.plan import Span
from randhet.fixed_point.engine.walk import Crew, Sent, Walk, require_room
from randhet.fixed_point.network import Dense, Flatten, Input, Network
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
    """Run images or recordings; arguments and result as the reference's, operations counted."""
    options = {"probes": probes, "batch": batch, "threads": threads, "progress": progress, "stream": stream}
    return run_counted(network, images, seed=seed, first_image=first_image, **options)[0]  # type: ignore[arg-type]


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
    stream: bool = False,
) -> tuple[Result, dict[str, Counts]]:
    """The same, with the counts of every layer and step beside the result."""
    check_images(network.input, network.steps, images, first_image)
    require_room(threads, batch)
    engine = AddOnly(network, reference.master_seed(network, seed), frozenset(probes))
    # Python's integer: times T it may pass 64 bits
    result = engine.run(images, int(first_image), batch, threads, progress, stream)
    counts = engine.counts(len(images))
    return replace(result, operations=total_operations(counts)), counts


class AddOnly(Walk[Carried]):
    """A loaded network, its tables, and the weight rows and values without weights that it has spent so far."""

    def __init__(self, network: Network, master: int, probes: frozenset[str]) -> None:
        super().__init__(network, probes)
        self.memory, self.spare = Memory(), Spare()
        self.seen = {i for layer in network.layers if isinstance(layer.operation, Flatten) for i in layer.inputs}
        self.loaded = {i: load(network, i, master) for i, layer in enumerate(network.layers) if layer.weighted}
        # of a layer with weights, rows added at each step; of one without, images for which a step was done
        self.spent = [np.zeros(network.steps, np.int64) for _ in network.layers]

    def weigh(self, i: int, values: np.ndarray, span: Span, carried: dict[int, Carried] | None, crew: Crew) -> Sent:
        layer, loaded = self.network.layers[i], self.loaded[i]
        if isinstance(layer.operation, Dense):
            values = flat(values, self.network.shapes[layer.inputs[0]])
        if carried is not None and i not in carried:
            carried[i] = at_rest(loaded, span.images)
        probed, leaky = layer.name in self.probes, layer.sends_potential
        state = carried[i] if carried else None
        job = LayerJob(loaded, values, span, probed or leaky, state, self.memory, self.spare)
        tallies = sum(crew.pool.map(lambda call: call(), job.jobs(crew.workers)), np.zeros(2 + span.count, np.int64))
        self.spent[i][span.start : span.stop] += tallies[2:]
        if layer.dynamics is None:
            return Sent(job.out + loaded.bias)
        return Sent(job.record if leaky else job.out, job.record if probed else None, *tallies[:2].tolist())

    def moved(self, i: int, read: list[np.ndarray], sent: np.ndarray, span: Span) -> None:
        # what is the same at every step is done once
        self.spent[i][span.start : span.start + sent.shape[1]] += len(sent)

    def release(self, i: int, values: np.ndarray) -> None:
        """Keep the memory of layer i for later layers, unless a flattened layer may be another view of it."""
        if i not in self.seen and not isinstance(self.network.layers[i].operation, (Input, Flatten)):
            self.spare.give(values)

    def counts(self, images: int) -> dict[str, Counts]:
        """What every layer with weights did, per step, summed over images, and what the others added or compared."""
        network, counts = self.network, dict[str, Counts]()
        for i, layer in enumerate(network.layers):
            if i in self.loaded:
                counts[layer.name] = count_layer(self.loaded[i], self.spent[i], images)
            elif found := count_move(layer.operation, network.shapes[i], len(layer.inputs), self.spent[i]):
                counts[layer.name] = found
        return counts
