"""Geometry: the shape of every layer's output from the shapes it reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from randhet.base.errors import NetworkError
from randhet.base.kinds import assert_never
from randhet.fixed_point.layers import (
    Add,
    And,
    Concat,
    Conv,
    Dense,
    Flatten,
    Iand,
    Input,
    Layer,
    MaxPool,
    Operation,
    Pair,
    Shape,
    Spread,
    SumPool,
)


def window_count(size: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1) -> int:
    """Output length along one axis: floor((size + 2*padding - dilation*(kernel-1) - 1) / stride) + 1."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def output_shape(operation: Operation, inputs: Sequence[Shape]) -> Shape:
    """Shape of an operation's output from the shapes it reads; NetworkError where they do not fit."""
    match operation:
        case Input():
            return operation.shape
        case Conv():
            return _conv(operation, inputs[0])
        case Dense():
            return _dense(operation, inputs[0])
        case Add() | And() | Iand():
            return _alike(inputs)
        case Concat():
            return _concat(inputs)
        case SumPool():
            return _pool("sum pool", operation.kernel, operation.stride, (0, 0), inputs[0])
        case MaxPool():
            return _pool("max pool", operation.kernel, operation.stride, operation.padding, inputs[0])
        case Spread():
            return _spread(operation, inputs[0])
        case Flatten():
            return (prod(inputs[0]),)
        case _:
            assert_never(operation)


def _conv(operation: Conv, read: Shape) -> Shape:
    (channels, *sizes) = _image(read, "conv")
    out, per_group, *kernel = operation.weight.shape
    if channels != per_group * operation.groups:
        raise NetworkError(f"conv takes {per_group * operation.groups} channels, its input has {channels}")
    if out % operation.groups:
        raise NetworkError(f"conv has {out} output channels, not a multiple of its {operation.groups} groups")
    shape = tuple(map(window_count, sizes, kernel, operation.stride, operation.padding, operation.dilation))
    if min(shape) < 1:
        raise NetworkError(f"conv kernel {tuple(kernel)} does not fit its input {read}")
    return (out, *shape)


def _dense(operation: Dense, read: Shape) -> Shape:
    out, features = operation.weight.shape
    if prod(read) != features:
        raise NetworkError(f"dense takes {features} values, its input has {prod(read)}")
    return (out,)


def _alike(inputs: Sequence[Shape]) -> Shape:
    if len(set(inputs)) != 1:
        raise NetworkError(f"residual sum of different shapes {', '.join(map(str, inputs))}")
    return inputs[0]


def _concat(inputs: Sequence[Shape]) -> Shape:
    if len({shape[1:] for shape in inputs}) != 1:
        raise NetworkError(f"concatenation of shapes {', '.join(map(str, inputs))}, only channels may differ")
    return (sum(shape[0] for shape in inputs), *inputs[0][1:])


def _pool(name: str, kernel: Pair, stride: Pair, padding: Pair, read: Shape) -> Shape:
    (channels, *sizes) = _image(read, name)
    shape = tuple(map(window_count, sizes, kernel, stride, padding))
    if min(shape) < 1:
        raise NetworkError(f"{name} kernel {kernel} does not fit its input {read}")
    return (channels, *shape)


def _spread(operation: Spread, read: Shape) -> Shape:
    (channels, *sizes) = _image(read, "spread")
    lengths = [(n - 1) * step + 1 + more for n, step, more in zip(sizes, operation.stride, operation.extra)]
    return (channels, *lengths)


def _image(shape: Shape, reader: str) -> Shape:
    if len(shape) != 3:
        raise NetworkError(f"{reader} reads (channel, y, x), its input has shape {shape}")
    return shape


def shapes(layers: Sequence[Layer]) -> tuple[Shape, ...]:
    """Output shape of every layer."""
    known: list[Shape] = []
    for layer in layers:
        try:
            known.append(output_shape(layer.operation, [known[i] for i in layer.inputs]))
        except NetworkError as error:
            raise NetworkError(f"layer {layer.name}: {error}") from None
    return tuple(known)
