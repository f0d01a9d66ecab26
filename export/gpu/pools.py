"""Pools on the device: the sum or the largest value of each window."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from math import prod

import torch
import triton
import triton.language as tl
from torch import Tensor

from randhet.export.gpu.launch import BLOCK, blocks, empty
from randhet.export.gpu.sums import Reading
from randhet.fixed_point.network import Pair, Shape


@triton.jit
def pool_windows(values, out, where, kernel_y, kernel_x, LARGEST: tl.constexpr, B: tl.constexpr):
    """out (rows, pixels, channels) of values (rows, height*width, channels); what is padded is never the largest."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < tl.cast(where.rows, tl.int64) * where.pixels * where.channels
    channel, cell = lane % where.channels, lane // where.channels
    row, pixel = cell // where.pixels, cell % where.pixels
    top = (pixel // where.columns) * where.stride_y - where.pad_y
    left = (pixel % where.columns) * where.stride_x - where.pad_x
    total = tl.full((B,), -2147483648 if LARGEST else 0, tl.int32)
    for i in range(kernel_y):
        for j in range(kernel_x):
            y, x = top + i, left + j
            inside = live & (y >= 0) & (y < where.height) & (x >= 0) & (x < where.width)
            at = ((row * where.height + y) * where.width + x) * where.channels + channel
            value = tl.load(values + at, mask=inside, other=0).to(tl.int32)
            if LARGEST:
                total = tl.where(inside, tl.maximum(total, value), total)
            else:
                total += value
    tl.store(out + lane, total.to(out.dtype.element_ty), mask=live)


def pooled(
    values: Tensor, shapes: tuple[Shape, Shape], kernel: Pair, stride: Pair, padding: Pair, kind: torch.dtype,
    largest: bool,
) -> Tensor:  # fmt: skip
    """Return pools (images, steps, pixels, channels) of a kind; shapes: of what is read, and of what is sent."""
    (channels, height, width), sent = shapes
    images, steps = values.shape[:2]
    out = empty(images, steps, prod(sent[1:]), channels, kind=kind)
    where = Reading(
        images * steps, height, width, channels, prod(sent[1:]), sent[2], *stride, *padding, 1, 1
    )  # fmt: skip
    pool_windows[blocks(out.numel())](values.contiguous(), out, where, *kernel, largest, BLOCK)
    return out
