"""Shapes in a float graph: of one image after each operation."""

from __future__ import annotations

from functools import singledispatch
from math import prod

from randhet.export.graph import (
    AveragePool,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatMaxPool,
    FloatOperation,
    FloatSpread,
)
from randhet.fixed_point.check import MAX_VALUES
from randhet.fixed_point.network import Shape
from randhet.fixed_point.shape import window_count


@singledispatch
def output_shape(operation: FloatOperation, read: tuple[Shape, ...]) -> Shape:
    """Shape after an operation, from the shapes it reads; most keep it. ExportError where they do not fit."""
    return read[0]


@output_shape.register
def _(operation: FloatInput, read: tuple[Shape, ...]) -> Shape:
    return operation.shape


@output_shape.register
def _(operation: FloatAdd, read: tuple[Shape, ...]) -> Shape:
    if len(set(read)) != 1:
        raise ExportError(f"sum of different shapes {', '.join(map(str, read))}")
    return read[0]


@output_shape.register(FloatAnd)
@output_shape.register(FloatIand)
def _(operation: FloatAnd | FloatIand, read: tuple[Shape, ...]) -> Shape:
    if read[0] != read[1]:
        raise ExportError(f"product of different shapes {', '.join(map(str, read))}")
    return read[0]


@output_shape.register
def _(operation: FloatConcat, read: tuple[Shape, ...]) -> Shape:
    if len({shape[1:] for shape in read}) != 1:
        raise ExportError(f"joins different shapes {', '.join(map(str, read))}")
    return (sum(shape[0] for shape in read), *read[0][1:])


@output_shape.register
def _(operation: FloatDense, read: tuple[Shape, ...]) -> Shape:
    out, features = operation.weight.shape
    if read[0] != (features,):
        raise ExportError(f"takes {features} values, its input has shape {read[0]}")
    return (out,)


@output_shape.register
def _(operation: FloatConv, read: tuple[Shape, ...]) -> Shape:
    out, per_group, *kernel = operation.weight.shape
    if len(read[0]) != 3 or read[0][0] != per_group * operation.groups:
        raise ExportError(f"takes {per_group * operation.groups} channels of (y, x), its input has shape {read[0]}")
    geometry = zip(read[0][1:], kernel, operation.stride, operation.padding, operation.dilation)
    return _image(out, [window_count(*numbers) for numbers in geometry], read[0])


@output_shape.register
def _(operation: FloatMaxPool, read: tuple[Shape, ...]) -> Shape:
    if len(read[0]) != 3:
        raise ExportError(f"takes (channel, y, x), its input has shape {read[0]}")
    geometry = zip(read[0][1:], operation.kernel, operation.stride, operation.padding)
    return _image(read[0][0], [window_count(*numbers) for numbers in geometry], read[0])


@output_shape.register
def _(operation: FloatSpread, read: tuple[Shape, ...]) -> Shape:
    if len(read[0]) != 3:
        raise ExportError(f"takes (channel, y, x), its input has shape {read[0]}")
    sizes = [
        (size - 1) * stride + 1 + extra for size, stride, extra in zip(read[0][1:], operation.stride, operation.extra)
    ]
    return _image(read[0][0], sizes, read[0])


@output_shape.register
def _(operation: AveragePool, read: tuple[Shape, ...]) -> Shape:
    if len(read[0]) != 3:
        raise ExportError(f"takes (channel, y, x), its input has shape {read[0]}")
    channels, *sizes = read[0]
    kernel = operation.kernel or (sizes[0], sizes[1])
    return _image(channels, [window_count(*n) for n in zip(sizes, kernel, operation.stride or kernel)], read[0])


def _image(channels: int, sizes: list[int], source: Shape) -> Shape:
    if min(sizes) < 1:
        raise ExportError(f"its kernel does not fit its input {source}")
    if channels * prod(sizes) > MAX_VALUES:
        raise ExportError(f"it has {channels * prod(sizes)} values, the limit is {MAX_VALUES}")
    return (channels, *sizes)


@output_shape.register
def _(operation: FloatFlatten, read: tuple[Shape, ...]) -> Shape:
    return (prod(read[0]),)


def shapes(graph: FloatGraph) -> dict[str, Shape]:
    """Shape after every node, by name."""
    known: dict[str, Shape] = {}
    for node in graph.nodes:
        try:
            known[node.name] = output_shape(node.operation, tuple(known[name] for name in node.inputs))
        except ExportError as error:
            raise ExportError(f"{node.name}: {error}") from None
    return known
