"""Geometry: the shape of every layer's output from the shapes it reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from randhet.base.errors import NetworkError
from randhet.base.kinds import assert_never
from randhet.fixed_point.layers import Add, Conv, Dense, Flatten, Input, Layer, Operation, Shape, SumPool


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
        case Add():
            return _add(inputs)
        case SumPool():
            return _pool(operation, inputs[0])
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


def _add(inputs: Sequence[Shape]) -> Shape:
    if len(set(inputs)) != 1:
        raise NetworkError(f"residual sum of different shapes {', '.join(map(str, inputs))}")
    return inputs[0]


def _pool(operation: SumPool, read: Shape) -> Shape:
    (channels, *sizes) = _image(read, "sum pool")
    shape = tuple(map(window_count, sizes, operation.kernel, operation.stride))
    if min(shape) < 1:
        raise NetworkError(f"sum pool kernel {operation.kernel} does not fit its input {read}")
    return (channels, *shape)


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
