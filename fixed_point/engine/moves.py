"""Activity in the engines' layout, and the layers without weights, an image at a time so that threads share them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.plan import windows_of
from randhet.fixed_point.kernels.pools import pooled
from randhet.fixed_point.network import Pair, Range, Shape

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


def move(  # noqa: C901 (a case a kind)
    operation: ir.Operation, read: list[Values], frames: np.ndarray, shape: Shape, span: Range, each: Each = map
) -> Values:
    """The values of a layer without weights: shape is that of what it reads, span the range of what it sends.

    frames (images, T or 1, *shape of the input).
    """
    kind = narrow(span)
    match operation:
        case ir.Input():
            last = frames.reshape(*frames.shape[:3], -1).swapaxes(2, 3)
            return np.ascontiguousarray(last.astype(kind))
        case ir.Add():
            return _combined(read, kind, accumulate, each)
        case ir.And():
            return _combined(read, kind, both, each)
        case ir.Iand():
            return _combined(read, kind, second_alone, each)
        case ir.Concat():
            return _joined(read, kind)
        case ir.SumPool():
            return _pooled(operation, (0, 0), read[0], shape, kind, each)
        case ir.MaxPool():
            return _pooled(operation, operation.padding, read[0], shape, kind, each)
        case ir.Spread():
            return _spread(operation, read[0], shape)
        case ir.Flatten():
            return flat(read[0], shape)
        case ir.Conv() | ir.Dense():
            raise TypeError(f"{type(operation).__name__} has weights: its values are summed, not moved")
        case _:
            assert_never(operation)


# --- two arrays to one, in the type of the third, which holds every result by the layer's range -----------------------

Combine = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def accumulate(first: np.ndarray, second: np.ndarray, total: np.ndarray) -> None:
    """total = first + second."""
    # unsafe: the sum is made in the narrow type itself, never in a wider copy
    np.add(first, second, out=total, dtype=total.dtype, casting="unsafe")


def both(first: np.ndarray, second: np.ndarray, total: np.ndarray) -> None:
    """total = first and second, of spikes."""
    np.minimum(first, second, out=total, dtype=total.dtype, casting="unsafe")


def second_alone(first: np.ndarray, second: np.ndarray, total: np.ndarray) -> None:
    """total = second and not first, of spikes."""
    np.greater(second, first, out=total, casting="unsafe")


def _combined(read: list[Values], kind: type, combine: Combine, each: Each) -> Values:
    total: Values = np.empty(np.broadcast_shapes(*(values.shape for values in read)), kind)

    def add(image: int) -> None:
        first, second, *others = (values[image] for values in read)
        combine(first, second, total[image])
        for values in others:
            combine(total[image], values, total[image])

    deque(each(add, range(len(total))), maxlen=0)
    return total


def _joined(read: list[Values], kind: type) -> Values:
    """Channels one after another; what is the same at every step is repeated where others are not."""
    steps = max(values.shape[1] for values in read)
    wide = [np.broadcast_to(values, (len(values), steps, *values.shape[2:])) for values in read]
    return np.concatenate(wide, axis=3, dtype=kind, casting="unsafe")


@lru_cache(maxsize=8)
def _windows(kernel: Pair, stride: Pair, padding: Pair, size: tuple[int, ...]) -> np.ndarray:
    """The windows of a pool, kept from one span to the next; not to be written to."""
    return windows_of(kernel, stride, padding, size)


def _pooled(
    pool: ir.SumPool | ir.MaxPool, padding: Pair, values: Values, shape: Shape, kind: type, each: Each
) -> Values:
    window = _windows(pool.kernel, pool.stride, padding, shape[1:])
    result: Values = np.empty((*values.shape[:2], len(window), values.shape[3]), kind)
    read, largest = np.ascontiguousarray(values), isinstance(pool, ir.MaxPool)

    def one(image: int) -> None:
        pooled(read[image], window, result[image], largest)

    deque(each(one, range(len(result))), maxlen=0)
    return result


def _spread(operation: ir.Spread, values: Values, shape: Shape) -> Values:
    """Zeros between values and at the ends."""
    (channels, rows, columns), (sy, sx), (ey, ex) = shape, operation.stride, operation.extra
    height, width = (rows - 1) * sy + 1, (columns - 1) * sx + 1
    wide = np.zeros((*values.shape[:2], height + ey, width + ex, channels), values.dtype)
    wide[:, :, :height:sy, :width:sx] = values.reshape(*values.shape[:2], rows, columns, channels)
    return wide.reshape(*values.shape[:2], -1, channels)
