"""What travels between Lava processes: spikes packed eight to a byte, graded spikes in one byte or four."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from randhet.fixed_point.network import Conv, Dense, Flatten, Input, Network, ReadOut, Shape

KINDS = {1: np.uint8, 8: np.uint8, 32: np.int32, 64: np.float64}


@dataclass(frozen=True)
class Wire:
    """The message of one time step: values (batch, pixels, channels) of `bits` bits as bytes (batch, pixels, row).

    bits: 1 (spikes, packed lowest channel first), 8 (uint8), 32 (int32) or 64 (float64, membranes only).
    """

    batch: int
    shape: Shape
    bits: int

    @property
    def channels(self) -> int:
        """C of a layer's shape."""
        return self.shape[0]

    @property
    def pixels(self) -> int:
        """Y*X of a layer's shape, 1 without positions."""
        return prod(self.shape[1:])

    @property
    def packet(self) -> Shape:
        """Shape of the message in bytes."""
        return (self.batch, self.pixels, -(-self.channels * self.bits // 8))

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Values (lanes, pixels, channels) as bytes (lanes, pixels, row)."""
        if self.bits == 1:
            return np.packbits(values, axis=-1, bitorder="little")
        return np.ascontiguousarray(values, KINDS[self.bits]).view(np.uint8)

    def decode(self, packet: np.ndarray) -> np.ndarray:
        """The inverse of `encode`."""
        if self.bits == 1:
            return np.unpackbits(packet, axis=-1, count=self.channels, bitorder="little")
        return np.ascontiguousarray(packet).view(KINDS[self.bits])


def arranged(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Values (lanes, pixels, channels) as a reader of `shape` sees them: a flat one in (channel, y, x) order."""
    if values.shape[1] == 1 or len(shape) > 1:
        return values
    return np.ascontiguousarray(values.swapaxes(1, 2)).reshape(len(values), 1, -1)


def in_order(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Values (lanes, pixels, channels) as (lanes, *shape), the order of the definition."""
    return values.swapaxes(1, 2).reshape(len(values), *shape)


def wires(network: Network, shape: list[Shape], batch: int) -> list[Wire]:
    """The message format of every layer's output. A flatten only renames: its message is that of what it reads."""
    found: list[Wire] = []
    for layer, own, width in zip(network.layers, shape, _widths(network)):
        named = isinstance(layer.operation, Flatten)
        found.append(found[layer.inputs[0]] if named else Wire(batch, own, width))
    return found


def _widths(network: Network) -> list[int]:
    top, entry = [span.peak for span in network.ranges], network.layers[0].operation
    signed = isinstance(entry, Input) and entry.signed
    widths = []
    for layer, peak in zip(network.layers, top):
        weighted = isinstance(layer.operation, (Conv, Dense))
        wide = isinstance(layer.neuron, ReadOut) or (signed and not weighted) or peak > 255
        widths.append(32 if wide else 8 if peak > 1 else 1)
    return widths


def reading_peak(network: Network, source: int) -> int:
    """Largest value of a source as the engine's bit planes see it; what may be negative is multiplied, not split."""
    widths, top = _widths(network), [span.peak for span in network.ranges]
    return 2**24 if widths[source] == 32 else top[source]
