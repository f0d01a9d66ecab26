"""Synaptic sums: convolutions and dense layers as products of bytes, exact in 32 bits.

    out[row, pixel, o] = sum_k values[row, tap(pixel, k), channel(k)] * weight[k, o]

A value wider than a byte is spent in digits of 8 bits, -128..127, lowest first: v = sum_j digit_j * 256^j modulo 2^32.
Sums of a checked network fit 32 bits, so arithmetic modulo 2^32 gives them exactly.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from randhet.export.gpu.launch import empty, placed
from randhet.fixed_point.network import Conv, Dense, Pair, Range, Shape

ROWS, DEPTH = 64, 32
"""Output pixels of a program, and how many products it adds up at a time."""
COLUMNS = (16, 64)
"""Fewest and most output channels of a program."""
CHUNK: Any = tl.constexpr(1 << 16)
"""Terms that one accumulator takes: 2^16 products below 2^14 stay in 31 bits, where some GPUs would saturate."""


class Reading(NamedTuple):
    """Where a window lies: rows of the source, sizes of source and output, and steps of the window, all in (y, x)."""

    rows: Any
    height: Any
    width: Any
    channels: Any
    pixels: Any
    columns: Any
    stride_y: Any
    stride_x: Any
    pad_y: Any
    pad_x: Any
    step_y: Any
    step_x: Any


@triton.jit
def digits(values, LIMB: tl.constexpr, LIMBS: tl.constexpr):
    """Return digit number LIMB of values, as bytes -128..127."""
    if LIMBS == 1:
        return values.to(tl.int8)
    else:
        # 128 added to every digit up to this one makes them digits 0..255 without a borrow between them
        lifted = values.to(tl.int64) + (0x80808080 >> (8 * (3 - LIMB)))
        return (((lifted >> (8 * LIMB)) & 255) - 128).to(tl.int8)


@triton.jit
def tap_of(k, pixel, where, per_group, kernel_x):
    """Return the source's pixel under tap k of an output pixel, and whether it lies inside."""
    tap = k // per_group
    y = (pixel // where.columns) * where.stride_y - where.pad_y + (tap // kernel_x) * where.step_y
    x = (pixel % where.columns) * where.stride_x - where.pad_x + (tap % kernel_x) * where.step_x
    return y * where.width + x, (y >= 0) & (y < where.height) & (x >= 0) & (x < where.width)


@triton.jit
def synaptic_sums(
    values, weight, out, where, sizes, LIMBS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr
):
    """out (rows, pixels, groups*out) of values (rows, height*width, channels) and weight (groups, depth, out)."""
    outputs, depth, per_group, kernel_x, groups = sizes
    across = (outputs + BN - 1) // BN
    program = tl.program_id(0)
    group, column = (program // across) % groups, program % across
    cell = (program // (across * groups)).to(tl.int64) * BM + tl.arange(0, BM)
    channel = column * BN + tl.arange(0, BN)
    live = cell < tl.cast(where.rows, tl.int64) * where.pixels
    row, pixel = cell // where.pixels, (cell % where.pixels).to(tl.int32)
    source = values + row * where.height * where.width * where.channels + group * per_group
    total = tl.full((BM, BN), 0, tl.int32)
    for limb in tl.static_range(LIMBS):
        for begin in range(0, depth, CHUNK):
            part = tl.full((BM, BN), 0, tl.int32)
            for first in range(begin, tl.minimum(begin + CHUNK, depth), BK):
                k = first + tl.arange(0, BK)
                at, inside = tap_of(k[None, :], pixel[:, None], where, per_group, kernel_x)
                mask = inside & live[:, None] & (k[None, :] < depth)
                read = tl.load(source[:, None] + at * where.channels + k[None, :] % per_group, mask=mask, other=0)
                place = weight + (group * depth + k[:, None]).to(tl.int64) * outputs + channel[None, :]
                taken = tl.load(place, mask=(k[:, None] < depth) & (channel[None, :] < outputs), other=0)
                part = tl.dot(digits(read, limb, LIMBS), taken, part, out_dtype=tl.int32)
            total += part << (8 * limb)
    place = out + cell[:, None] * (groups * outputs) + group * outputs + channel[None, :]
    tl.store(place, total, mask=live[:, None] & (channel[None, :] < outputs))


def limbs_of(span: Range) -> int:
    """Return how many digits of 8 bits hold every value of a range; four hold any value of 32 bits modulo 2^32."""
    for count in (1, 2, 3):
        ones = (256**count - 1) // 255
        if -128 * ones <= span.low and span.high <= 127 * ones:
            return count
    return 4


@dataclass(frozen=True, eq=False)
class Synapse:
    """The weights of a layer on the device, (groups, taps * channels of a group, outputs of a group) int8.

    source: (y, x, channels) of what it reads; pixels: (y, x) of the output; window: kernel, stride, padding, dilation.
    """

    weight: Tensor
    source: tuple[int, int, int]
    pixels: Pair
    window: tuple[Pair, Pair, Pair, Pair]
    limbs: int

    @property
    def outputs(self) -> int:
        """Count the output channels of all groups."""
        return self.weight.shape[0] * self.weight.shape[2]

    def sums(self, values: Tensor) -> Tensor:
        """Return the sums (images, steps, pixels, outputs) int32 of values (images, steps, pixels, channels)."""
        images, steps = values.shape[:2]
        out = empty(images, steps, prod(self.pixels), self.outputs)
        groups, depth, outputs = self.weight.shape
        kernel, stride, padding, dilation = self.window
        where = Reading(
            images * steps, *self.source, prod(self.pixels), self.pixels[1], *stride, *padding, *dilation
        )  # fmt: skip
        wide = min(max(triton.next_power_of_2(outputs), COLUMNS[0]), COLUMNS[1])
        programs = triton.cdiv(images * steps * prod(self.pixels), ROWS) * groups * triton.cdiv(outputs, wide)
        sizes = (outputs, depth, depth // prod(kernel), kernel[1], groups)
        values = values.contiguous()
        synaptic_sums[(programs,)](values, self.weight, out, where, sizes, self.limbs, ROWS, wide, DEPTH)
        return out


def convolution(operation: Conv, read: Shape, sent: Shape, span: Range) -> Synapse:
    """Load a convolution of values whose range is `span`."""
    out, per_group, *kernel = operation.weight.shape
    # outputs last, so that a program's loads lie side by side; channels of a tap before the next tap, as values lie
    split = operation.weight.reshape(operation.groups, out // operation.groups, per_group, -1)
    weight = split.transpose(0, 3, 2, 1).reshape(operation.groups, -1, out // operation.groups)
    window = ((kernel[0], kernel[1]), operation.stride, operation.padding, operation.dilation)
    return Synapse(placed(weight), (read[1], read[2], read[0]), (sent[1], sent[2]), window, limbs_of(span))


def dense(weight: np.ndarray, read: Shape, span: Range) -> Synapse:
    """Load a dense layer (out, in), in flattened (channel, y, x), as one tap over all values (pixel, channel)."""
    out, features = weight.shape
    laid = weight.reshape(out, read[0], -1).transpose(2, 1, 0).reshape(1, features, out)
    return Synapse(placed(laid), (1, 1, features), (1, 1), ((1, 1), (1, 1), (0, 0), (1, 1)), limbs_of(span))


def make_synapse(operation: Conv | Dense, read: Shape, sent: Shape, span: Range) -> Synapse:
    """Load the weights on what a layer reads, which are not those on its own spikes."""
    if isinstance(operation, Conv):
        return convolution(operation, read, sent, span)
    return dense(operation.weight, read, span)


def spread_over(values: Tensor, pixels: int) -> Tensor:
    """View values (images, steps, pixels, channels) as (images, steps, pixels', rest)."""
    return values.reshape(*values.shape[:2], pixels, -1)


def bytes_or_words(span: Range) -> torch.dtype:
    """Return the type that holds every value of a layer: int8, else int32."""
    return torch.int8 if span.low >= -128 and span.high <= 127 else torch.int32
