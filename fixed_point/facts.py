"""What follows from a network's layers: the lowest and highest value of each, bounds on its sums, its delay.

Derived once, when a network is made, and kept with it. Whether a value is signed follows from its range; no backend
has a range rule of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.layers import (
    Add,
    And,
    Concat,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Neuron,
    Operation,
    ReadOut,
    Spread,
    SumPool,
    Weighted,
)


class Range(NamedTuple):
    """Every value lies in low..high, low <= 0 <= high."""

    low: int
    high: int

    @property
    def signed(self) -> bool:
        """Whether a value can be negative."""
        return self.low < 0

    @property
    def peak(self) -> int:
        """Largest absolute value."""
        return max(-self.low, self.high)

    @property
    def bits(self) -> int:
        """Bits of a word that holds every value: two's complement where signed."""
        return 1 + max((-self.low - 1).bit_length(), self.high.bit_length()) if self.signed else self.high.bit_length()


SPIKE = Range(0, 1)
STATE = Range(-STATE_MAX, STATE_MAX)


def fan_in_weights(weight: np.ndarray) -> np.ndarray:
    """Weights as (out, fan in) int64."""
    return weight.reshape(len(weight), -1).astype(np.int64)


def sum_range(operation: Weighted, read: Range) -> Range:
    """Range of the synaptic sums a over all channels, exact: sums of the least and the largest of w*low and w*high."""
    extremes = _extremes(operation.weight, read)
    if isinstance(operation, Dense) and operation.recurrent is not None:
        own = _extremes(operation.recurrent, SPIKE)
        extremes = [(low + a, high + b) for (low, high), (a, b) in zip(extremes, own)]
    return Range(min(0, *(low for low, _ in extremes)), max(0, *(high for _, high in extremes)))


def _extremes(weight: np.ndarray, read: Range) -> list[tuple[int, int]]:
    """Least and largest sum of each output channel."""
    weight = fan_in_weights(weight)
    up, down = np.maximum(weight, 0).sum(axis=1), np.maximum(-weight, 0).sum(axis=1)
    # Python's integers: low and high of a chain of sums may pass 64 bits before the network is refused
    return [
        (int(p) * read.low - int(n) * read.high, int(p) * read.high - int(n) * read.low) for p, n in zip(up, down)
    ]  # fmt: skip


def _shifted(span: Range, bias: np.ndarray) -> Range:
    return Range(min(span.low + int(bias.min(initial=0)), 0), max(span.high + int(bias.max(initial=0)), 0))


def _sent(neuron: Neuron | None, sums: Range) -> Range:
    match neuron:
        case Lif() | Cuba():
            return SPIKE
        case ReadOut():
            return _shifted(sums, neuron.bias)
        case Leaky():
            return STATE
        case None:
            return sums
        case _:
            assert_never(neuron)


def _values(operation: Operation, read: Sequence[Range]) -> Range:
    """Range of what an operation makes of the ranges it reads, before the neuron."""
    match operation:
        case Input():
            half = 2 ** (operation.bits - 1)
            return Range(-half, half - 1) if operation.signed else Range(0, 2**operation.bits - 1)
        case Conv() | Dense():
            return sum_range(operation, read[0])
        case Add():
            return Range(sum(span.low for span in read), sum(span.high for span in read))
        case SumPool():
            return Range(prod(operation.kernel) * read[0].low, prod(operation.kernel) * read[0].high)
        case Concat():
            return Range(min(span.low for span in read), max(span.high for span in read))
        case And() | Iand():
            return SPIKE
        case MaxPool() | Spread() | Flatten():
            return read[0]
        case _:
            assert_never(operation)


def ranges(layers: Sequence[Layer]) -> tuple[Range, ...]:
    """Range of the values that each layer sends at one step."""
    known: list[Range] = []
    for layer in layers:
        known.append(_sent(layer.neuron, _values(layer.operation, [known[i] for i in layer.inputs])))
    return tuple(known)


def bounds(layers: Sequence[Layer], sent: Sequence[Range]) -> tuple[int, ...]:
    """Largest |synaptic sum| of each layer, 0 where it has no weights."""
    return tuple(sum_range(layer.weighted, sent[layer.inputs[0]]).peak if layer.weighted else 0 for layer in layers)


def delays(layers: Sequence[Layer], synapse: int = 1) -> tuple[int, ...]:
    """Steps by which each layer lags the input where every layer with weights takes `synapse` steps, sums wait."""
    known: list[int] = []
    for layer in layers:
        own = synapse if layer.weighted else 0
        known.append(max((known[i] for i in layer.inputs), default=0) + own)
    return tuple(known)
