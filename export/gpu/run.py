"""Backend `cuda`: run a network by Triton kernels, batch by batch, span by span, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.export.gpu.available import missing
from randhet.export.gpu.launch import zeros
from randhet.export.gpu.moves import entered, move
from randhet.export.gpu.neurons import Moved, Neurons, Place, make_neurons
from randhet.export.gpu.sums import Synapse, dense, make_synapse, spread_over
from randhet.fixed_point import reference
from randhet.fixed_point.check import check_images
from randhet.fixed_point.engine.plan import Span, last_reader
from randhet.fixed_point.engine.walk import Reading, Sent, spans_of
from randhet.fixed_point.network import Layer, Network, Range
from randhet.fixed_point.result import Result

SPIKE = Range(0, 1)


def run(
    network: Network,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
    stream: bool = False,
) -> Result:
    """Run images or recordings on a GPU; arguments and result as the reference's.

    Memory on the device grows with the batch. RandhetError where there is no GPU, or the batch is below 1.
    """
    check_images(network.input, network.steps, images, first_image)
    if reason := missing():
        raise RandhetError(f"backend cuda cannot run here: {reason}")
    if batch < 1:
        raise RandhetError(f"batch {batch} must be at least 1")
    loaded = Loaded(network, reference.master_seed(network, seed), int(first_image), frozenset(probes))
    parts, batch = [], 1 if stream else batch
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        parts.append(loaded.batch(chunk, int(first_image) + start, stream))
        if progress:
            progress(len(chunk))
    return reference.join(parts, network)


class Weighted:
    """A layer with weights on the device: its synapses and neurons.

    own: its spikes of the step before, which a recurrent layer reads.
    """

    def __init__(self, layer: Layer, read: tuple[tuple[int, ...], Range], place: Place) -> None:
        assert layer.weighted is not None and layer.sender is not None
        self.synapse: Synapse = make_synapse(layer.weighted, read[0], place.shape, read[1])
        self.neurons: Neurons = make_neurons(layer.sender, place)
        self.recurrent = None if layer.recurrent is None else dense(layer.recurrent, place.shape, SPIKE)
        self.own: Tensor | None = None

    def begin(self, images: int, carry: bool) -> None:
        """Make ready for the next images, at rest or as the last one left them."""
        self.neurons.begin(images, carry)
        if self.own is None or not carry:
            self.own = zeros(images, 1, 1, self.synapse.outputs).to(torch.int8)

    def steps(self, values: Tensor, span: Span, record: bool) -> Moved:
        """Take all steps of a span."""
        self.neurons.prepare(span)
        height, width, _ = self.synapse.source
        sums = self.synapse.sums(spread_over(values, height * width))
        if self.recurrent is None:
            return self.neurons.move(sums, span.count, 0, record)
        return self._one_by_one(sums, span, record, self.recurrent)

    def _one_by_one(self, sums: Tensor, span: Span, record: bool, recurrent: Synapse) -> Moved:
        done: list[Moved] = []
        for t in range(span.count):
            assert self.own is not None
            at = min(t, sums.shape[1] - 1)
            done.append(self.neurons.move(sums[:, at : at + 1] + recurrent.sums(self.own), 1, t, record))
            self.own = done[-1].values
        values, membranes, clipped = ([moved[part] for moved in done] for part in range(3))
        recorded = torch.cat(membranes, dim=1) if record else None  # type: ignore[arg-type]
        return Moved(torch.cat(values, dim=1), recorded, torch.cat(clipped))  # type: ignore[arg-type]


class Loaded:
    """A network on the device, for one run; probes: names of the layers that are traced."""

    def __init__(self, network: Network, master: int, first: int, probes: frozenset[str]) -> None:
        self.network, self.probes, self.last = network, probes, last_reader(network)
        self.weighted = {
            i: self._load(i, Place(i, network.shapes[i], master, network.generator, network.steps, first))
            for i, layer in enumerate(network.layers)
            if layer.weighted
        }

    def _load(self, i: int, place: Place) -> Weighted:
        layer, network = self.network.layers[i], self.network
        source = layer.inputs[0]
        return Weighted(layer, (network.shapes[source], network.ranges[source]), place)

    def batch(self, images: np.ndarray, first: int, carry: bool) -> Result:
        """Run all layers for a few images, all steps."""
        reading = Reading(self.network, self.probes)
        for weighted in self.weighted.values():
            weighted.begin(len(images), carry)
        for span in spans_of(first, len(images), self.network.steps):
            self._span(images, span, reading)
        return reading.result(len(images))

    def _span(self, images: np.ndarray, span: Span, reading: Reading) -> None:
        layers, kept = self.network.layers, dict[int, Tensor]()
        frames = images[:, span.start : span.stop] if self.network.input.sequence else images[:, None]
        for i, layer in enumerate(layers):
            moved = self._layer(i, [kept[source] for source in layer.inputs], frames, span)
            kept[i] = moved.values
            reading.take(i, self._sent(moved, layer.spikes, layer.name in self.probes), span)
            for source in {source for source in kept if self.last[source] <= i < len(layers) - 1}:
                del kept[source]
        reading.read(host(kept[len(layers) - 1]), span)

    def _layer(self, i: int, read: list[Tensor], frames: np.ndarray, span: Span) -> Moved:
        layer, network = self.network.layers[i], self.network
        if i in self.weighted:
            return self.weighted[i].steps(read[0], span, layer.name in self.probes)
        if not read:
            return Moved(entered(frames, network.ranges[i]))
        shapes = (network.shapes[layer.inputs[0]], network.shapes[i])
        return Moved(move(layer.operation, read, shapes, network.ranges[i]))

    def _sent(self, moved: Moved, spiking: bool, probed: bool) -> Sent:
        membranes = host(moved.membranes) if probed and moved.membranes is not None else None
        spikes = int(moved.values.sum()) if spiking else 0
        clipped = 0 if moved.clipped is None else int(moved.clipped.sum())
        return Sent(host(moved.values) if probed else np.empty(0), membranes, spikes, clipped)


def host(values: Tensor) -> np.ndarray:
    """Copy values to the processor."""
    return values.cpu().numpy()
