"""What layers read on calibration data: mean values, sampled windows, and the sums that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from randhet.export.graph import Array
from randhet.fixed_point import engine
from randhet.fixed_point.network import Conv, Dense, Layer, Network
from randhet.fixed_point.result import Result

TRACE_BYTES = 2**27
"""Traces are taken of as many images at a time as fit in about this size, 128 MB."""
FRAMES, PLACES = 8, 16
"""Of each chunk of images so many (image, step) pairs are sampled, and in each so many places."""
EXACT = 2**24
"""float32 adds integers below this exactly."""
Told = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Read:
    """What a layer reads: its mean (*shape) over images and steps, and windows (n, groups, fan-in) at random places."""

    mean: Array
    windows: Array

    @property
    def centred(self) -> Array:
        """The windows without their mean."""
        return self.windows - self.windows.mean(axis=0)


Activity = Mapping[str, Read]


def weighted(network: Network) -> list[Layer]:
    """The layers with weights."""
    return [layer for layer in network.layers if layer.weighted]


def chunks(network: Network, images: np.ndarray, seed: int = 0, done: Told | None = None) -> Iterator[Result]:
    """Runs of some images at a time with every layer traced."""
    names = [layer.name for layer in network.layers]
    size = max(1, TRACE_BYTES // (16 * network.steps * sum(map(prod, network.shapes))))
    for first in range(0, len(images), size):
        batch = images[first : first + size]
        yield engine.run(network, batch, seed=seed, first_image=first, probes=names)
        if done:
            done(len(batch))


def source(network: Network, layer: Layer) -> str:
    """Name of the layer that a layer with weights reads."""
    return network.layers[layer.inputs[0]].name


def sums(network: Network, layer: Layer, outputs: np.ndarray) -> Tensor:
    """Synaptic sums (n, *shape) of integers (n, *read), exact."""
    operation = layer.weighted
    assert operation is not None
    kind = torch.float32 if network.bounds[network.layers.index(layer)] < EXACT else torch.float64
    return synapse(operation, torch.from_numpy(operation.weight).to(kind), torch.from_numpy(outputs).to(kind))


def synapse(operation: Conv | Dense, weight: Tensor, read: Tensor) -> Tensor:
    """Sums of weights over what is read (n, *shape)."""
    if isinstance(operation, Dense):
        return F.linear(read.flatten(1), weight)
    return F.conv2d(read, weight, None, operation.stride, operation.padding, operation.dilation, operation.groups)


def watch(network: Network, images: np.ndarray, done: Told | None = None) -> Activity:
    """What every layer with weights reads."""
    rng = np.random.default_rng(0)
    layers = weighted(network)
    totals: dict[str, Array] = {}
    windows: dict[str, list[Array]] = {layer.name: [] for layer in layers}
    for result in chunks(network, images, done=done):
        for layer in layers:
            outputs = result.traces[source(network, layer)].output
            frames = outputs.reshape(-1, *outputs.shape[2:])
            totals[layer.name] = totals.get(layer.name, 0) + frames.sum(axis=0, dtype=np.float64)
            windows[layer.name].append(_sampled(layer, frames, rng))
    count = len(images) * network.steps
    return {name: Read(total / count, np.concatenate(windows[name])) for name, total in totals.items()}


def _sampled(layer: Layer, frames: np.ndarray, rng: np.random.Generator) -> Array:
    """Windows (n, groups, fan-in) of some frames (n, *shape)."""
    operation = layer.operation
    if isinstance(operation, Dense):
        chosen = rng.integers(len(frames), size=FRAMES * PLACES)
        return frames[chosen].reshape(len(chosen), 1, -1).astype(np.float64)
    assert isinstance(operation, Conv)
    read = torch.from_numpy(frames[rng.integers(len(frames), size=FRAMES)]).double()
    kernel = operation.weight.shape[2:]
    columns = F.unfold(read, kernel, operation.dilation, operation.padding, operation.stride)
    places = rng.integers(columns.shape[2], size=PLACES)
    taken = columns[:, :, places].permute(0, 2, 1).reshape(FRAMES * PLACES, operation.groups, -1)
    return taken.numpy()
