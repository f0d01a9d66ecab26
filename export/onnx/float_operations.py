"""Each operation without a state of the float model as ONNX operators."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod

import numpy as np

from randhet.export.graph import (
    Affine,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatIand,
    FloatMaxPool,
    FloatOperation,
    FloatSpread,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.onnx.graph import Scope
from randhet.fixed_point.network import Shape


@dataclass(frozen=True)
class Wire:
    """A float32 value: its name, the shape of one image, and whether it changes with the step."""

    name: str
    shape: Shape
    varies: bool = False


@singledispatch
def operate(operation: FloatOperation, scope: Scope, read: list[Wire]) -> Wire:
    """Add an operation without a state to the graph."""
    raise ExportError(f"float ONNX cannot represent {type(operation).__name__}")


def channels(value: np.ndarray, wire: Wire) -> np.ndarray:
    """A value per channel, to be broadcast over (N, *shape)."""
    return value.astype(np.float32).reshape(-1, *[1] * (len(wire.shape) - 1))


@operate.register
def _(operation: Normalisation, scope: Scope, read: list[Wire]) -> Wire:
    centred = scope.op("Sub", read[0].name, channels(operation.mean, read[0]))
    return replace(read[0], name=scope.op("Div", centred, channels(operation.std, read[0])))


@operate.register
def _(operation: Affine, scope: Scope, read: list[Wire]) -> Wire:
    scaled = scope.op("Mul", read[0].name, channels(operation.gain, read[0]))
    return replace(read[0], name=scope.op("Add", scaled, channels(operation.shift, read[0])))


@operate.register
def _(operation: FloatConv, scope: Scope, read: list[Wire]) -> Wire:
    """A bias map, (out, y, x), is added after the convolution."""
    flat = operation.bias.ndim == 1
    name = scope.op(
        "Conv",
        read[0].name,
        operation.weight.astype(np.float32),
        *([operation.bias.astype(np.float32)] if flat else []),
        strides=operation.stride,
        pads=operation.padding * 2,
        dilations=operation.dilation,
        group=operation.groups,
    )
    name = name if flat else scope.op("Add", name, operation.bias.astype(np.float32))
    return replace(read[0], name=name)


@operate.register
def _(operation: FloatDense, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=matrix(scope, read[0].name, operation.weight, operation.bias))


def matrix(scope: Scope, read: str, weight: np.ndarray, bias: np.ndarray) -> str:
    """weight (out, in) times values (N, in), plus bias (out,)."""
    return scope.op("Gemm", read, weight.astype(np.float32), bias.astype(np.float32), transB=1)


@operate.register
def _(operation: FloatAdd, scope: Scope, read: list[Wire]) -> Wire:
    total = read[0].name
    for wire in read[1:]:
        total = scope.op("Add", total, wire.name)
    return replace(read[0], name=total)


@operate.register
def _(operation: FloatAnd, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=scope.op("Mul", read[0].name, read[1].name))


@operate.register
def _(operation: FloatIand, scope: Scope, read: list[Wire]) -> Wire:
    silent = scope.op("Sub", np.float32(1), read[0].name)
    return replace(read[0], name=scope.op("Mul", silent, read[1].name))


@operate.register
def _(operation: FloatConcat, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=scope.op("Concat", *(wire.name for wire in read), axis=1))


@operate.register
def _(operation: AveragePool, scope: Scope, read: list[Wire]) -> Wire:
    kernel = operation.kernel or (read[0].shape[1], read[0].shape[2])
    pooled = scope.op("AveragePool", read[0].name, kernel_shape=kernel, strides=operation.stride or kernel)
    return replace(read[0], name=pooled)


@operate.register
def _(operation: FloatMaxPool, scope: Scope, read: list[Wire]) -> Wire:
    kernel, stride, pads = operation.kernel, operation.stride, operation.padding * 2
    return replace(read[0], name=scope.op("MaxPool", read[0].name, kernel_shape=kernel, strides=stride, pads=pads))


@operate.register
def _(operation: FloatSpread, scope: Scope, read: list[Wire]) -> Wire:
    """A transposed convolution with a weight of 1 for each channel."""
    ones = np.ones((read[0].shape[0], 1, 1, 1), np.float32)
    strides, extra = operation.stride, operation.extra
    wide = scope.op(
        "ConvTranspose", read[0].name, ones, group=len(ones), strides=strides, pads=(0, 0, 0, 0), output_padding=(0, 0)
    )
    if any(extra):
        wide = scope.op("Pad", wide, np.array([0, 0, 0, 0, 0, 0, *extra], np.int64), np.float32(0))
    return replace(read[0], name=wide)


@operate.register
def _(operation: FloatFlatten, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=scope.reshape(read[0].name, -1, prod(read[0].shape)))


@operate.register(Encoding)
@operate.register(TimeMean)
@operate.register(TimeRead)
def _(operation: Encoding | TimeMean | TimeRead, scope: Scope, read: list[Wire]) -> Wire:
    """The Scan is what these mean."""
    return read[0]
