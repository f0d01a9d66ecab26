"""Each operation and each neuron of the integer network as ONNX operators on integer types.

Sums are ConvInteger and MatMulInteger on bytes; a floor shift is a division of a number made non-negative by an offset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.onnx.graph import Scope
from randhet.fixed_point import network as ir
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.network import Range, Shape
from randhet.fixed_point.plain import refuse
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
    span: Range
    varies: bool

    @property
    def small(self) -> bool:
        """Whether it is stored as uint8."""
        return not self.span.signed and self.span.high <= 255


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
    count, signed = -(-wire.span.bits // 8), wire.span.signed
    # Shifting a fourth byte would leave int32
    value, kind = (wire.name, np.int32) if count < 4 else (scope.cast(wire.name, np.int64), np.int64)
    if signed:
        value = scope.op("Add", value, kind(128 << 8 * (count - 1)))
    terms = []
    for i in range(count):
        byte = scope.op("BitwiseAnd", scope.op("Div", value, kind(1 << 8 * i)) if i else value, kind(255))
        terms.append((scope.cast(byte, np.uint8), 128 if signed and i == count - 1 else 0, 1 << 8 * i))
    return terms


def weighted(scope: Scope, kind: str, wire: Wire, weight: np.ndarray, **attributes: Any) -> str:
    """Exact sums of weights (-127..127) times the wire's values, int32, byte by byte."""
    stored = (weight.astype(np.int16) + int(WEIGHT_ZERO)).astype(np.uint8)
    parts = [
        (scope.op(kind, plane, stored, np.uint8(zero), WEIGHT_ZERO, **attributes), factor)
        for plane, zero, factor in planes(scope, wire)
    ]
    if len(parts) == 1:
        return parts[0][0]
    long = [scope.op("Mul", scope.cast(product, np.int64), np.int64(factor)) for product, factor in parts]
    return scope.cast(_total(scope, long), np.int32)


def _total(scope: Scope, names: list[str]) -> str:
    total, *rest = names
    for name in rest:
        total = scope.op("Add", total, name)
    return total


def operate(operation: ir.Operation, scope: Scope, read: list[Wire], out: Wire) -> Wire:
    """Add an operation to the graph; `out` says its shape and range, and gets its name."""
    match operation:
        case ir.Input():
            return out
        case ir.Conv():
            return replace(out, name=_conv(operation, scope, read[0]))
        case ir.Dense():
            return replace(out, name=weighted(scope, "MatMulInteger", _flat(scope, read[0]), operation.weight.T))
        case ir.Add():
            terms = [wire.name if out.small else wide(scope, wire) for wire in read]
            return replace(out, name=_total(scope, terms))
        case ir.SumPool():
            return narrow(scope, _pool(operation, scope, read[0], out.shape), out)
        case ir.Flatten():
            return replace(out, name=_flat(scope, read[0]).name)
        case ir.And() | ir.Iand() | ir.Concat() | ir.MaxPool() | ir.Spread():
            refuse(operation)
        case _:
            assert_never(operation)


def _conv(operation: ir.Conv, scope: Scope, wire: Wire) -> str:
    geometry = {"strides": operation.stride, "dilations": operation.dilation, "pads": operation.padding * 2}
    return weighted(scope, "ConvInteger", wire, operation.weight, group=operation.groups, **geometry)


def _pool(operation: ir.SumPool, scope: Scope, wire: Wire, shape: Shape) -> str:
    """Sums as int32: a convolution with ones on each channel alone; over the whole plane a plain sum."""
    if operation.kernel == wire.shape[1:]:
        return scope.op("ReduceSum", wide(scope, wire), np.array([2, 3], np.int64), keepdims=1)
    single = replace(wire, name=scope.reshape(wire.name, -1, 1, *wire.shape[1:]))
    ones = np.ones((1, 1, *operation.kernel), np.int8)
    return scope.reshape(weighted(scope, "ConvInteger", single, ones, strides=operation.stride), -1, *shape)


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
    """One layer's place in the body of the Scan: its sums, its states, its drawn decays A ("" where none are drawn)."""

    def __init__(self, body: Scope, sums: Wire, drawn: str, state: Callable[..., str]) -> None:
        self.body, self.sums, self.drawn, self._state = body, sums, drawn, state
        self.next: list[str] = []
        """The states after this step, in the order they were asked for."""

    def state(self, kind: type[np.generic], start: int = 0) -> str:
        """A state of the layer's shape that starts at `start`; its next value must be appended to `next`."""
        return self._state(self.sums.shape, kind, start)


def fire(neuron: ir.Neuron, step: Step) -> Fired:
    """Add one step of a layer's neurons to the body."""
    match neuron:
        case ir.Lif():
            return _lif(neuron, step)
        case ir.Cuba():
            return _cuba(neuron, step)
        case ir.ReadOut():
            return _read_out(neuron, step)
        case ir.Leaky():
            refuse(neuron)
        case _:
            assert_never(neuron)


def _lif(neuron: ir.Lif, step: Step) -> Fired:
    """With X = x + o, M = m + o, both in 0..2o: M' = (2^k X + A (M - X)) >> k, a division of a non-negative number.

    x is one end of a convex combination and a reset moves m toward 0, so |m| <= max|x| and m never saturates. int32
    where the bounds allow it.
    """
    body, k = step.body, neuron.k
    raw = (step.sums.span.peak << neuron.f) + int(np.abs(neuron.bias.astype(np.int64)).max())
    offset = min(raw, STATE_MAX)
    x = _current(step, neuron, raw, offset)
    clipped: tuple[str, ...] = ()
    if raw > STATE_MAX:
        bounded = body.op("Clip", x, np.int32(offset - STATE_MAX), np.int32(offset + STATE_MAX))
        clipped, x = (body.op("Not", body.op("Equal", x, bounded)),), bounded
    kind = np.int32 if offset << k + 1 < 2**31 else np.int64
    terms = [_decays(neuron.decay, step), body.op("Sub", step.state(np.int32, offset), x), x]
    decays, difference, end = terms if kind is np.int32 else [body.cast(term, kind) for term in terms]
    summed = body.op("Add", body.op("Mul", end, kind(1 << k)), body.op("Mul", decays, difference))
    membrane = body.op("Div", summed, kind(1 << k))
    membrane = membrane if kind is np.int32 else body.cast(membrane, np.int32)
    return Fired(_reset(step, membrane, neuron.threshold, offset, neuron.reset), membrane, offset, clipped)


def _decays(decay: ir.Decay, step: Step) -> str:
    """The decays A of this step, int32, to be broadcast against (images, *shape)."""
    match decay:
        case ir.Constant():
            return step.body.constant(np.int32(decay.mantissa))
        case ir.PerNeuron():
            return step.body.constant(decay.mantissa.astype(np.int32))
        case ir.Drawn():
            return step.drawn
        case _:
            assert_never(decay)


def _current(step: Step, neuron: ir.Lif, raw: int, offset: int) -> str:
    """(a << f) + b + offset in int32; sums that saturate whatever the bias are cut first, so that nothing overflows."""
    sums, limit = step.sums.name, (1 << 25 >> neuron.f) + 1
    if raw + offset >= 2**31:
        sums = step.body.op("Clip", sums, np.int32(-limit), np.int32(limit))
    bias = (per_channel(neuron.bias, step.sums.shape) + offset).astype(np.int32)
    return step.body.op("Add", step.body.op("Mul", sums, np.int32(1 << neuron.f)), bias)


def _reset(
    step: Step,
    membrane: str,
    threshold: np.ndarray,
    offset: int = 0,
    reset: ir.Reset = "zero",
    kind: type[np.generic] = np.int32,
) -> str:
    """Spike where m > theta (strict), and the membrane's next value there: 0, or m - theta."""
    theta = per_channel(threshold, step.sums.shape)
    spike = step.body.op("Greater", membrane, (theta + offset).astype(kind))
    match reset:
        case "zero":
            after: str | np.ndarray = np.array(offset, kind)
        case "subtract":
            after = step.body.op("Sub", membrane, theta.astype(kind))
        case _:
            assert_never(reset)
    step.next.append(step.body.op("Where", spike, after, membrane))
    return spike


def _cuba(neuron: ir.Cuba, step: Step) -> Fired:
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
    spike = _reset(step, membrane, neuron.threshold, kind=np.int64)
    return Fired(spike, membrane, 0, (body.op("Or", high, low),))


def _read_out(neuron: ir.ReadOut, step: Step) -> Fired:
    bias = per_channel(neuron.bias, step.sums.shape).astype(np.int32)
    added = step.body.op("Add", step.sums.name, bias)
    step.next.append(step.body.op("Add", step.state(np.int32), added))
    return Fired(added, step.next[-1])


def _keep(scope: Scope, state: str, fraction: int) -> str:
    """sign(v) * ((|v| * fraction) >> 12)."""
    kept = scope.op("Div", scope.op("Mul", scope.op("Abs", state), np.int64(fraction)), np.int64(UNITY))
    return scope.op("Where", scope.op("Less", state, np.int64(0)), scope.op("Neg", kept), kept)
