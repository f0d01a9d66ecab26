"""How the input of a convolution is laid out so that neighbouring windows share their bytes."""

from __future__ import annotations

import numpy as np

from randhet.fixed_point.kernels.bundles import NO_STRIP, Strip
from randhet.fixed_point.network import Conv, Shape
from randhet.fixed_point.shape import window_count


def make_strip(operation: Conv, shape_in: Shape) -> Strip:
    """The `Strip` of a convolution; `NO_STRIP` where its windows do not overlap, so that nothing is saved."""
    (ky, kx), (sy, sx), (dy, dx) = operation.weight.shape[2:], operation.stride, operation.dilation
    if ky * kx <= sy * sx:
        return NO_STRIP
    axes = zip(shape_in[1:], (ky, kx), operation.stride, operation.padding, operation.dilation)
    rows, line = (window_count(*axis) for axis in axes)
    tall = (ky - 1) * dy + 1
    row = -(-((line - 1) * sx + (kx - 1) * dx + 1) // sx) * sx
    y, x = _seen(rows, sy, ky, dy), _seen(line, sx, kx, dx)
    # of a row of slots every sx-th pixel lies side by side: the next window sees the next slot of each
    x = x % sx * (row // sx) + x // sx
    places = (y * row)[:, None, :, None] + x[None, :, None, :]
    slots = _slots((rows - 1) * sy + tall, row, operation, shape_in).reshape(-1, row // sx, sx).swapaxes(1, 2)
    return Strip(_flat(slots.reshape(-1)), _flat(places.reshape(-1, ky * kx)), line, row, tall, sy)


def _seen(count: int, stride: int, kernel: int, dilation: int) -> np.ndarray:
    """(windows, taps) along one axis of the padded image."""
    return np.arange(count)[:, None] * stride + np.arange(kernel) * dilation


def _slots(rows: int, row: int, operation: Conv, shape_in: Shape) -> np.ndarray:
    """(rows, row) of the padded image: the flat input pixel, -1 outside."""
    (_, height, width), (py, px) = shape_in, operation.padding
    y, x = np.arange(rows)[:, None] - py, np.arange(row) - px
    return np.where((y >= 0) & (y < height) & (x >= 0) & (x < width), y * width + x, -1)


def _flat(values: np.ndarray) -> np.ndarray:
    """As kernels read it."""
    return np.ascontiguousarray(values, np.int32)
