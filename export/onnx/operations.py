"""Each operation of the integer network as ONNX operators on integer types.

Sums are ConvInteger and MatMulInteger on bytes. A value is stored as uint8 where its range allows it, else as int32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.onnx.graph import Scope
from randhet.fixed_point import network as ir
from randhet.fixed_point.network import Range, Shape

WEIGHT_ZERO = np.uint8(128)
"""Weights are stored as w + 128 in uint8: ConvInteger of signed weights is missing or saturating in some runtimes."""


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


def plus(scope: Scope, sums: Wire, read: Wire, weight: np.ndarray) -> Wire:
    """Synaptic sums with those of one more matrix of weights (out, in) on other values added."""
    return replace(sums, name=scope.op("Add", sums.name, weighted(scope, "MatMulInteger", read, weight.T)), varies=True)


def operate(operation: ir.Operation, scope: Scope, read: list[Wire], out: Wire) -> Wire:  # noqa: C901 (a case a kind)
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
        case ir.And():
            return replace(out, name=scope.op("BitwiseAnd", read[0].name, read[1].name))
        case ir.Iand():
            silent = scope.op("BitwiseXor", read[0].name, np.uint8(1))
            return replace(out, name=scope.op("BitwiseAnd", silent, read[1].name))
        case ir.Concat():
            parts = [wire.name if out.small else wide(scope, wire) for wire in read]
            return replace(out, name=scope.op("Concat", *parts, axis=1))
        case ir.MaxPool():
            return replace(out, name=_max_pool(operation, scope, read[0]))
        case ir.Spread():
            return replace(out, name=_spread(operation, scope, read[0]))
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


def _max_pool(operation: ir.MaxPool, scope: Scope, wire: Wire) -> str:
    """MaxPool on bytes; runtimes have none for int32, where it is the maximum of slices, axis by axis."""
    if wire.small:
        geometry: dict[str, Any] = {
            "kernel_shape": operation.kernel,
            "strides": operation.stride,
            "pads": operation.padding * 2,
        }
        return scope.op("MaxPool", wire.name, **geometry)
    pads = np.array([0, 0, *operation.padding] * 2, np.int64)
    name = scope.op("Pad", wire.name, pads, np.int32(wire.span.low)) if any(operation.padding) else wire.name
    for axis in (0, 1):
        size = wire.shape[1 + axis] + 2 * operation.padding[axis]
        starts = range(operation.kernel[axis])
        last = (size - operation.kernel[axis]) // operation.stride[axis] * operation.stride[axis]
        planes = [
            scope.slice(name, start, start + last + 1, 2 + axis, operation.stride[axis]) for start in starts
        ]  # fmt: skip
        name = scope.op("Max", *planes) if len(planes) > 1 else planes[0]
    return name


def _spread(operation: ir.Spread, scope: Scope, wire: Wire) -> str:
    """Each value becomes the first of a cell of zeros; the last cell of a row is cut behind its value and `extra`."""
    channels, rows, columns = wire.shape
    (sy, sx), (ey, ex) = operation.stride, operation.extra
    zero = np.uint8(0) if wire.small else np.int32(0)
    name = scope.reshape(wire.name, -1, channels, rows, 1, columns, 1)
    name = scope.op("Pad", name, np.array([0] * 9 + [sy - 1, 0, sx - 1], np.int64), zero)
    name = scope.reshape(name, -1, channels, rows * sy, columns * sx)
    name = scope.slice(scope.slice(name, 0, (rows - 1) * sy + 1, 2), 0, (columns - 1) * sx + 1, 3)
    return scope.op("Pad", name, np.array([0] * 6 + [ey, ex], np.int64), zero) if ey or ex else name
