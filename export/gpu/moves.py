"""Layers without weights, on tensors (images, steps or 1, pixels, channels) of int8 or int32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from randhet.base.kinds import assert_never
from randhet.export.gpu.launch import DEVICE
from randhet.export.gpu.pools import pooled
from randhet.export.gpu.sums import bytes_or_words
from randhet.fixed_point import network as ir
from randhet.fixed_point.network import Range, Shape


def entered(frames: np.ndarray, span: Range) -> Tensor:
    """Copy frames (images, steps or 1, *shape) to the device, channels last, in the type of their range."""
    kind = np.int8 if bytes_or_words(span) == torch.int8 else np.int32
    last = frames.reshape(*frames.shape[:3], -1).swapaxes(2, 3)
    return torch.from_numpy(np.ascontiguousarray(last.astype(kind))).to(DEVICE)


def move(operation: ir.Operation, read: list[Tensor], shapes: tuple[Shape, Shape], span: Range) -> Tensor:
    """Return the values of a layer without weights.

    shapes: of the first layer that it reads, and of what it sends; span: the range of what it sends.
    """
    kind = bytes_or_words(span)
    match operation:
        case ir.Add():
            return sum(values.to(torch.int32) for values in read).to(kind)  # type: ignore[union-attr]
        case ir.And():
            return torch.minimum(read[0], read[1])
        case ir.Iand():
            return (1 - read[0]) * read[1]
        case ir.Concat():
            steps = max(values.shape[1] for values in read)
            return torch.cat([values.to(kind).expand(-1, steps, -1, -1) for values in read], dim=3)
        case ir.SumPool():
            return pooled(read[0], shapes, operation.kernel, operation.stride, (0, 0), kind, False)
        case ir.MaxPool():
            return pooled(read[0], shapes, operation.kernel, operation.stride, operation.padding, kind, True)
        case ir.Spread():
            return _spread(operation, read[0], shapes)
        case ir.Flatten():
            return read[0].transpose(2, 3).reshape(*read[0].shape[:2], 1, -1)
        case ir.Input() | ir.Conv() | ir.Dense():
            raise TypeError(f"{type(operation).__name__} does not move values that are on the device")
        case _:
            assert_never(operation)


def _spread(operation: ir.Spread, values: Tensor, shapes: tuple[Shape, Shape]) -> Tensor:
    (channels, rows, columns), (_, wide_rows, wide_columns) = shapes
    images, steps = values.shape[:2]
    wide = torch.zeros(images, steps, wide_rows, wide_columns, channels, dtype=values.dtype, device=values.device)
    sy, sx = operation.stride
    last_y, last_x = (rows - 1) * sy + 1, (columns - 1) * sx + 1
    wide[:, :, :last_y:sy, :last_x:sx] = values.reshape(images, steps, rows, columns, channels)
    return wide.reshape(images, steps, wide_rows * wide_columns, channels)
