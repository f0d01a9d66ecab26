"""Activity in the engines' layout, and the layers without weights, an image at a time so that threads share them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.network import Range, Shape
from randhet.fixed_point.plain import refuse
from randhet.fixed_point.shape import window_count

Values = np.ndarray
"""Activity (images, T or 1, pixels, channels); T is 1 where every step is the same."""
Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""How a call is made for every image: `map`, or that of a pool of threads."""


def logical(values: Values, steps: int, shape: Shape) -> np.ndarray:
    """(images, T, *shape) int64 in the order of the definition."""
    wide = np.broadcast_to(values, (len(values), steps, *values.shape[2:])).astype(np.int64)
    return wide.swapaxes(2, 3).reshape(len(values), steps, *shape)


def flat(values: Values, shape: Shape) -> Values:
    """(images, T, pixels, channels) to (images, T, 1, channels*pixels) in channel-major order."""
    if values.shape[2] == 1:
        return values
    return np.ascontiguousarray(values.swapaxes(2, 3).reshape(*values.shape[:2], 1, -1))


def narrow(span: Range) -> type:
    """uint8 where it holds every value of a layer."""
    return np.uint8 if not span.signed and span.high <= 255 else np.int32


def move(
    operation: ir.Operation, read: list[Values], images: np.ndarray, shape: Shape, span: Range, each: Each = map
) -> Values:
    """The values of a layer without weights: shape is that of what it reads, span the range of what it sends."""
    match operation:
        case ir.Input():
            last = images.reshape(*images.shape[:2], -1).swapaxes(1, 2)[:, None]
            return np.ascontiguousarray(last.astype(narrow(span)))
        case ir.Add():
            return _added(read, narrow(span), each)
        case ir.SumPool():
            return _pooled(operation, read[0], shape, narrow(span), each)
        case ir.Flatten():
            return flat(read[0], shape)
        case ir.Conv() | ir.Dense():
            raise TypeError(f"{type(operation).__name__} has weights: its values are summed, not moved")
        case ir.And() | ir.Iand() | ir.Concat() | ir.MaxPool() | ir.Spread():
            refuse(operation)
        case _:
            assert_never(operation)


def _added(read: list[Values], kind: type, each: Each) -> Values:
    total: Values = np.empty(np.broadcast_shapes(*(values.shape for values in read)), kind)

    def add(image: int) -> None:
        first, second, *others = (values[image] for values in read)
        accumulate(first, second, total[image])
        for values in others:
            accumulate(total[image], values, total[image])

    deque(each(add, range(len(total))), maxlen=0)
    return total


def _pooled(operation: ir.SumPool, values: Values, shape: Shape, kind: type, each: Each) -> Values:
    channels, *size = shape
    rows, columns = (window_count(size[a], operation.kernel[a], operation.stride[a], 0, 1) for a in (0, 1))
    steps = values.shape[1]
    pooled: Values = np.zeros((len(values), steps, rows * columns, channels), kind)

    def pool(image: int) -> None:
        grid = values[image].reshape(steps, *size, channels).transpose(0, 3, 1, 2)
        total = pooled[image].reshape(steps, rows, columns, channels).transpose(0, 3, 1, 2)
        for _, _, plane in reference.taps(grid, operation.kernel, operation.stride):
            accumulate(total, plane, total)

    deque(each(pool, range(len(pooled))), maxlen=0)
    return pooled


def accumulate(first: np.ndarray, second: np.ndarray, total: np.ndarray) -> None:
    """total = first + second in the type of total, which holds every sum by the layer's range."""
    # unsafe: the sum is made in the narrow type itself, never in a wider copy
    np.add(first, second, out=total, dtype=total.dtype, casting="unsafe")
