"""Synaptic operations: what each layer with weights read in a run, and how many of its synapses that drove.

A synapse joins a value that is read with a neuron that reads it; zeros around the edge are no values. A layer that
reads a still image applies its weights once per image, every other layer once per step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.fixed_point.network import Conv, Dense, Input, Network, Shape, Weighted
from randhet.fixed_point.result import Result

Counts = NDArray[np.float64]
MOST_IMAGES = 16
"""Images whose operations are counted, at most: they are run once more, one by one, with every spike recorded."""
TRACED_VALUES = 2**25
"""Recorded values of one run, at most; of a longer recording some layers are recorded at a time."""


@dataclass(frozen=True)
class Reading:
    """A layer's reading per image, the mean: `calls` times its `synapses`.

    neurons: its outputs; binary: whether every value was 0 or 1; peak: the largest value it can read; driven: synapses
    that a value other than zero reached; effective: those of them whose weight is not zero. still: it reads an image
    that does not change; own: it reads its own spikes.
    """

    layer: str
    neurons: int
    calls: int
    binary: bool
    peak: int
    synapses: int
    driven: float
    effective: float
    still: bool = False
    own: bool = False

    @property
    def dense(self) -> int:
        """Synapses of all calls, whatever is read."""
        return self.calls * self.synapses


@dataclass(frozen=True)
class Counted:
    """Means over images: readings of every layer with weights, spikes per image; and how many neurons may spike."""

    readings: tuple[Reading, ...]
    spikes: float
    neurons: int
    steps: int
    images: int

    @property
    def rate(self) -> float:
        """Spikes per neuron and step, over all spiking neurons; 0 without any."""
        return self.spikes / (self.neurons * self.steps) if self.neurons else 0.0


# --- synapses ---------------------------------------------------------------------------------------------------------


def driven(operation: Weighted, values: Counts, shape: Shape, weights: NDArray[np.bool_] | None = None) -> float:
    """Count the synapses that values drive: the sum over synapses of `values` (C, Y, X, what is read) at their start.

    shape: the layer's output; weights: which synapses there are, of the weight's shape, None for all.
    """
    there = np.ones(operation.weight.shape, np.int64) if weights is None else weights.astype(np.int64)
    if isinstance(operation, Dense):
        return float(values.ravel() @ there.sum(0))
    # of every source channel and tap, how many output channels of its group read it
    out, per_group, *kernel = there.shape
    readers = there.reshape(operation.groups, out // operation.groups, per_group, *kernel).sum(1)
    return float((readers.reshape(-1, *kernel) * tap_sums(operation, values, shape)).sum())


def tap_sums(operation: Conv, values: Counts, shape: Shape) -> Counts:
    """Sum the values (C, Y, X) that meet each tap of the kernel over the output positions: (C, ky, kx)."""
    (py, px), (sy, sx), (dy, dx) = operation.padding, operation.stride, operation.dilation
    padded = np.pad(values, ((0, 0), (py, py), (px, px)))
    sums = np.empty((len(values), *operation.weight.shape[2:]))
    for i, j in np.ndindex(*sums.shape[1:]):
        met = padded[:, i * dy : i * dy + (shape[1] - 1) * sy + 1 : sy, j * dx : j * dx + (shape[2] - 1) * sx + 1 : sx]
        sums[:, i, j] = met.sum((1, 2))
    return sums


def still(network: Network) -> tuple[bool, ...]:
    """Tell of every layer whether it sends the same at every step: a still image, and what has no neurons behind it."""
    known: list[bool] = []
    for layer in network.layers:
        if isinstance(layer.operation, Input):
            known.append(not layer.operation.sequence)
        else:
            known.append(layer.weighted is None and all(known[i] for i in layer.inputs))
    return tuple(known)


# --- of a run ---------------------------------------------------------------------------------------------------------


def counted(
    network: Network,
    images: np.ndarray,
    seed: int,
    *,
    stream: bool = False,
    threads: int | None = None,
    progress: Callable[[int], object] = lambda count: None,
) -> Counted:
    """Run at most MOST_IMAGES of the images (N, *shape) on the engine and count; spikes are those of every backend."""
    images = images[:MOST_IMAGES]
    if not len(images):
        raise RandhetError("synaptic operations are counted over 0 images, it takes at least 1")
    pieces = [images] if stream else [images[i : i + 1] for i in range(len(images))]
    per_image: list[dict[str, Reading]] = []
    spikes = 0
    for number, piece in enumerate(pieces):
        found: dict[str, Reading] = {}
        for names in groups(network, len(piece)):
            result = _run(network, piece, seed, number, names, stream, threads)
            found |= {_key(reading): reading for reading in readings(network, piece, result, stream)}
        spikes += sum(result.spikes.values())
        per_image.append(found)
        progress(len(piece))
    neurons = sum(prod(shape) for layer, shape in zip(network.layers, network.shapes) if layer.spikes)
    means = tuple(_mean([found[key] for found in per_image]) for key in per_image[0])
    return Counted(means, spikes / len(images), neurons, network.steps, len(images))


def _run(
    network: Network, piece: np.ndarray, seed: int, first: int, names: list[str], stream: bool, threads: int | None
) -> Result:
    from randhet.fixed_point.engine import run

    return run(network, piece, seed=seed, first_image=first, probes=names, stream=stream, threads=threads)


def groups(network: Network, images: int) -> Iterator[list[str]]:
    """Names of the layers that others with weights read, as many together as TRACED_VALUES allows."""
    kept: list[str] = []
    values = 0
    for name, size in _read(network).items():
        size *= images * network.steps
        if kept and values + size > TRACED_VALUES:
            yield kept
            kept, values = [], 0
        kept.append(name)
        values += size
    yield kept


def _read(network: Network) -> dict[str, int]:
    """Names and sizes of the layers that are recorded; the input is known."""
    indices = {i for layer in network.layers if layer.weighted for i in layer.inputs if i}
    indices |= {i for i, layer in enumerate(network.layers) if layer.recurrent is not None}
    return {network.layers[i].name: prod(network.shapes[i]) for i in sorted(indices)}


def readings(network: Network, images: np.ndarray, result: Result, stream: bool) -> Iterator[Reading]:
    """What layers read in a run of these images, or in a stream of them, of which the traces are there."""
    constant = still(network)
    for i, layer in enumerate(network.layers):
        if layer.weighted is None:
            continue
        source = layer.inputs[0]
        sent = _sent(network, images, result, source)
        if sent is not None:
            sent = sent[:, :1] if constant[source] else sent
            found = _reading(network, i, layer.weighted, sent, network.ranges[source].peak)
            yield replace(found, still=constant[source])
        if layer.recurrent is not None and layer.name in result.traces:
            own = result.traces[layer.name].output.copy()
            # what is sent at the last step is read by nobody, but by the next piece of a stream
            own[-1 if stream else slice(None), -1] = 0
            yield replace(_reading(network, i, Dense(layer.recurrent), own, 1), own=True)


def _sent(network: Network, images: np.ndarray, result: Result, source: int) -> np.ndarray | None:
    """Values (N, calls or T, *shape) that a layer sends; None where they were not recorded."""
    operation, name = network.layers[source].operation, network.layers[source].name
    if isinstance(operation, Input):
        return images if operation.sequence else images[:, None]
    return result.traces[name].output if name in result.traces else None


def _reading(network: Network, i: int, operation: Weighted, sent: np.ndarray, peak: int) -> Reading:
    nonzero = (sent != 0).sum((0, 1)) / len(sent)
    # a dense layer reads its input flattened
    nonzero = nonzero if isinstance(operation, Conv) else nonzero.ravel()
    everywhere, shape = np.ones(nonzero.shape), network.shapes[i]
    return Reading(
        layer=network.layers[i].name,
        neurons=prod(shape),
        calls=sent.shape[1],
        binary=not ((sent != 0) & (sent != 1)).any(),
        peak=peak,
        synapses=round(driven(operation, everywhere, shape)),
        driven=driven(operation, nonzero, shape),
        effective=driven(operation, nonzero, shape, operation.weight != 0),
    )


def _key(reading: Reading) -> str:
    return f"{reading.layer}/own" if reading.own else reading.layer


def _mean(each: list[Reading]) -> Reading:
    """Join the readings of one layer; it is binary where it was for every image."""
    return replace(
        each[0],
        binary=all(one.binary for one in each),
        driven=float(np.mean([one.driven for one in each])),
        effective=float(np.mean([one.effective for one in each])),
    )
