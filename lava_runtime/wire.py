"""What travels between Lava processes: spikes packed eight to a byte, graded spikes in one byte or four."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.network import Flatten, MaxPool, Network, Range, Shape, SumPool

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
            # the lowest channel in the lowest bit; the last byte of a row is filled up with zeros
            return np.packbits(values, axis=-1, bitorder="little")
        return np.ascontiguousarray(values, KINDS[self.bits]).view(np.uint8)

    def decode(self, packet: np.ndarray) -> np.ndarray:
        """The inverse of `encode`."""
        if self.bits == 1:
            return np.unpackbits(packet, axis=-1, count=self.channels, bitorder="little")
        return np.ascontiguousarray(packet).view(KINDS[self.bits])


def arranged(values: np.ndarray, pixels: int) -> np.ndarray:
    """Values (lanes, pixels, channels) as a reader of so many pixels sees them: one pixel is (channel, y, x) flat."""
    if values.shape[1] == pixels:
        return values
    return np.ascontiguousarray(values.swapaxes(1, 2)).reshape(len(values), 1, -1)


def in_order(values: np.ndarray, shape: Shape) -> np.ndarray:
    """Values (lanes, pixels, channels) as (lanes, *shape), the order of the definition."""
    return values.swapaxes(1, 2).reshape(len(values), *shape)


def any_of(pool: MaxPool, message: np.ndarray, shape: Shape) -> np.ndarray:
    """The pool of packed spikes (lanes, pixels, row): the OR of a window's bytes, eight channels at once."""
    (py, px), rows = pool.padding, message.reshape(len(message), *shape[1:], -1)
    padded = np.pad(rows, ((0, 0), (py, py), (px, px), (0, 0))) if py or px else rows
    # taps cut windows out of the last two axes
    planes = [plane for _, _, plane in reference.taps(np.moveaxis(padded, -1, 1), pool.kernel, pool.stride)]
    made = np.moveaxis(reduce(np.bitwise_or, planes), 1, -1)
    return np.ascontiguousarray(made).reshape(len(made), -1, made.shape[-1])


def summed(pool: SumPool, values: np.ndarray) -> np.ndarray:
    """The pool of values (lanes, channels, rows, columns); at once where windows lie side by side."""
    (ky, kx), (lanes, channels, rows, columns) = pool.kernel, values.shape
    if pool.kernel != pool.stride:
        return reference.operate(pool, [values])
    y, x = rows // ky, columns // kx
    return values[:, :, : y * ky, : x * kx].reshape(lanes, channels, y, ky, x, kx).sum((3, 5))


def wires(network: Network, batch: int) -> list[Wire]:
    """The message format of every layer's output. A flatten only renames: its message is that of what it reads."""
    known: list[Wire] = []
    for layer, own, span in zip(network.layers, network.shapes, network.ranges):
        named = isinstance(layer.operation, Flatten)
        known.append(known[layer.inputs[0]] if named else Wire(batch, own, bits(span)))
    return known


def bits(span: Range) -> int:
    """Bits of a message whose values lie in this range."""
    if span.signed or span.high > 255:
        return 32
    return 8 if span.high > 1 else 1
