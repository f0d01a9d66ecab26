"""Each operation and each neuron of the integer network as ONNX operators on integer types.

Sums are ConvInteger and MatMulInteger on bytes; a floor shift is a division of a number made non-negative by an offset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

from randhet.base.errors import NetworkError
from randhet.export.onnx.graph import Scope
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.network import (
    Add,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Het,
    Lif,
    Neuron,
    Operation,
    RandomTau,
    ReadOut,
    Shape,
    SumPool,
)
from randhet.fixed_point.reference import per_channel

WEIGHT_ZERO = np.uint8(128)
"""Weights are stored as w + 128 in uint8: ConvInteger of signed weights is missing or saturating in some runtimes."""
UNITY = 1 << DECAY_BITS


@dataclass(frozen=True)
class Wire:
    """A value in the graph: its name, shape of one image, range, and whether it changes with the step.

    uint8 where 0 <= value <= 255, int32 otherwise.
    """

    name: str
    shape: Shape
    peak: int
    signed: bool
    varies: bool

    @property
    def small(self) -> bool:
        """Whether it is stored as uint8."""
        return not self.signed and self.peak <= 255


def wide(scope: Scope, wire: Wire) -> str:
    """The wire as int32."""
    return scope.cast(wire.name, np.int32) if wire.small else wire.name


def narrow(scope: Scope, name: str, wire: Wire) -> Wire:
    """Store an int32 value as the type its range asks for."""
    return replace(wire, name=scope.cast(name, np.uint8) if wire.small else name)


# --- operations ----------------------------------------------------------------------------------------------------


def planes(scope: Scope, wire: Wire) -> list[tuple[str, int, int]]:
    """A value as bytes: (uint8 tensor, its zero point, its factor), lowest first. Signed values shift the top byte."""
    if wire.small:
        return [(wire.name, 0, 1)]
    count = -(-(wire.peak.bit_length() + wire.signed) // 8)
    if count > 3:
        raise NetworkError(f"a value of up to {wire.peak} enters a layer with weights, the limit for ONNX is 2^23 - 1")
    value, top = wire.name, 128 << 8 * (count - 1)
    if wire.signed:
        value = scope.op("Add", value, np.int32(top))
    found = []
    for i in range(count):
        byte = scope.op("BitwiseAnd", scope.op("Div", value, np.int32(1 << 8 * i)) if i else value, np.int32(255))
        found.append((scope.cast(byte, np.uint8), 128 if wire.signed and i == count - 1 else 0, 1 << 8 * i))
    return found


def weighted(scope: Scope, kind: str, wire: Wire, weight: np.ndarray, **attributes: Any) -> str:
    """Exact sums of weights (-127..127) times the wire's values, int32, byte by byte."""
    stored = (weight.astype(np.int16) + int(WEIGHT_ZERO)).astype(np.uint8)
    parts = [
        (scope.op(kind, plane, stored, np.uint8(zero), WEIGHT_ZERO, **attributes), factor)
        for plane, zero, factor in planes(scope, wire)
    ]
    if len(parts) == 1:
        return parts[0][0]
    long = [scope.op("Mul", scope.cast(part, np.int64), np.int64(factor)) for part, factor in parts]
    return scope.cast(_total(scope, long), np.int32)


def _total(scope: Scope, names: list[str]) -> str:
    total, *rest = names
    for name in rest:
        total = scope.op("Add", total, name)
    return total


@singledispatch
def operate(operation: Operation, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    """Add an operation to the graph; `out` says its shape and range, and gets its name."""
    raise NetworkError(f"integer ONNX has no word for operation {type(operation).__name__}")


@operate.register
def _(operation: Conv, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    geometry = {"strides": operation.stride, "dilations": operation.dilation, "pads": operation.padding * 2}
    sums = weighted(scope, "ConvInteger", read[0], operation.weight, group=operation.groups, **geometry)
    return replace(out, name=sums)


@operate.register
def _(operation: Dense, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    return replace(out, name=weighted(scope, "MatMulInteger", _flat(scope, read[0]), operation.weight.T))


@operate.register
def _(operation: Add, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    if out.small:
        return replace(out, name=_total(scope, [wire.name for wire in read]))
    return replace(out, name=_total(scope, [wide(scope, wire) for wire in read]))


@operate.register
def _(operation: SumPool, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    """A convolution with ones on each channel alone; over the whole plane a plain sum."""
    (wire,) = read
    if operation.kernel == wire.shape[1:]:
        total = scope.op("ReduceSum", wide(scope, wire), np.array([2, 3], np.int64), keepdims=1)
        return narrow(scope, total, out)
    single = replace(wire, name=scope.reshape(wire.name, -1, 1, *wire.shape[1:]))
    ones = np.ones((1, 1, *operation.kernel), np.int8)
    total = scope.reshape(weighted(scope, "ConvInteger", single, ones, strides=operation.stride), -1, *out.shape)
    return narrow(scope, total, out)


@operate.register
def _(operation: Flatten, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    return replace(_flat(scope, read[0]), shape=out.shape)


def _flat(scope: Scope, wire: Wire) -> Wire:
    if len(wire.shape) == 1:
        return wire
    return replace(wire, name=scope.reshape(wire.name, -1, prod(wire.shape)), shape=(prod(wire.shape),))


# --- neurons -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fired:
    """What a neuron did in a step: spike (bool, or int32 for the read-out), membrane before its reset, clipped values.

    membrane is stored with `offset` added; clipped (bool) is None where the bound on the sums rules saturation out.
    """

    output: str
    membrane: str
    offset: int = 0
    clipped: tuple[str, ...] = ()


class Step:
    """One layer's place in the body of the Scan: its sums, the largest they can be, its decays, its states."""

    def __init__(self, body: Scope, sums: Wire, bound: int, decays: str, state: Callable[..., str]) -> None:
        self.body, self.sums, self.bound, self.decays, self._state = body, sums, bound, decays, state
        self.next: list[str] = []
        """The states after this step, in the order they were asked for."""

    def state(self, kind: type[np.generic], start: int = 0) -> str:
        """A state of the layer's shape that starts at `start`; its next value must be appended to `next`."""
        return self._state(self.sums.shape, kind, start)


@singledispatch
def fire(neuron: Neuron, step: Step) -> Fired:
    """Add one step of a layer's neurons to the body."""
    raise NetworkError(f"integer ONNX has no word for neuron {type(neuron).__name__}")


@fire.register(RandomTau)
@fire.register(Lif)
@fire.register(Het)
def _(neuron: RandomTau | Lif | Het, step: Step) -> Fired:
    """With X = x + o, M = m + o, both in 0..2o: M' = (2^k X + A (M - X)) >> k, a division of a non-negative number.

    x is one end of a convex combination, so |m| <= max|x| and m never saturates. int32 where the bounds allow it.
    """
    body, k, raw = step.body, neuron.k, (step.bound << neuron.f) + int(np.abs(neuron.bias.astype(np.int64)).max())
    offset = min(raw, STATE_MAX)
    x = _current(step, neuron, raw, offset)
    clipped: tuple[str, ...] = ()
    if raw > STATE_MAX:
        bounded = body.op("Clip", x, np.int32(offset - STATE_MAX), np.int32(offset + STATE_MAX))
        clipped, x = (body.op("Not", body.op("Equal", x, bounded)),), bounded
    kind = np.int32 if offset << k + 1 < 2**31 else np.int64
    terms = [step.decays, body.op("Sub", step.state(np.int32, offset), x), x]
    decays, difference, end = terms if kind is np.int32 else [body.cast(term, kind) for term in terms]
    summed = body.op("Add", body.op("Mul", end, kind(1 << k)), body.op("Mul", decays, difference))
    membrane = body.op("Div", summed, kind(1 << k))
    membrane = membrane if kind is np.int32 else body.cast(membrane, np.int32)
    return Fired(_reset(step, membrane, neuron.threshold, np.int32, offset), membrane, offset, clipped)


def _current(step: Step, neuron: RandomTau | Lif | Het, raw: int, offset: int) -> str:
    """(a << f) + b + offset in int32; sums that saturate whatever the bias are cut first, so that nothing overflows."""
    sums, limit = step.sums.name, (1 << 25 >> neuron.f) + 1
    if raw + offset >= 2**31:
        sums = step.body.op("Clip", sums, np.int32(-limit), np.int32(limit))
    bias = (per_channel(neuron.bias, step.sums.shape) + offset).astype(np.int32)
    return step.body.op("Add", step.body.op("Mul", sums, np.int32(1 << neuron.f)), bias)


def _reset(step: Step, membrane: str, threshold: np.ndarray, kind: type[np.generic], offset: int) -> str:
    """Spike where m > theta (strict), and the membrane's next value: 0 there."""
    limit = (per_channel(threshold, step.sums.shape) + offset).astype(kind)
    spike = step.body.op("Greater", membrane, limit)
    step.next.append(step.body.op("Where", spike, np.array(offset, kind), membrane))
    return spike


@fire.register
def _(neuron: Cuba, step: Step) -> Fired:
    """`integer.cuba`, all int64. Where, not Clip and Sign: onnxruntime 1.23.2 gets those wrong beyond 32 bits."""
    body, half = step.body, np.int64(STATE_MAX + 1)
    u, v = step.state(np.int64), step.state(np.int64)
    spread = body.op("Mul", body.cast(step.sums.name, np.int64), np.int64(1 << neuron.f))
    u = body.op("Add", _keep(body, u, UNITY - neuron.current_decay - 1), spread)
    low = body.op("Where", body.op("LessOrEqual", u, -half), body.op("Add", u, 2 * half), u)
    u = body.op("Where", body.op("Greater", u, half), body.op("Sub", u, 2 * half), low)
    step.next.append(u)
    v = body.op("Add", _keep(body, v, UNITY - neuron.voltage_decay), u)
    v = body.op("Add", v, per_channel(neuron.bias, step.sums.shape))
    high, low = body.op("Greater", v, np.int64(STATE_MAX)), body.op("Less", v, np.int64(-STATE_MAX))
    membrane = body.op("Where", high, np.int64(STATE_MAX), body.op("Where", low, np.int64(-STATE_MAX), v))
    spike = _reset(step, membrane, neuron.threshold, np.int64, 0)
    return Fired(spike, membrane, 0, (body.op("Or", high, low),))


def _keep(scope: Scope, state: str, fraction: int) -> str:
    """sign(v) * ((|v| * fraction) >> 12)."""
    kept = scope.op("Div", scope.op("Mul", scope.op("Abs", state), np.int64(fraction)), np.int64(UNITY))
    return scope.op("Where", scope.op("Less", state, np.int64(0)), scope.op("Neg", kept), kept)


@fire.register
def _(neuron: ReadOut, step: Step) -> Fired:
    bias = per_channel(neuron.bias, step.sums.shape).astype(np.int32)
    added = step.body.op("Add", step.sums.name, bias)
    step.next.append(step.body.op("Add", step.state(np.int32), added))
    return Fired(added, step.next[-1])
