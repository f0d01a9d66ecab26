"""Convolutions of torch, transposed and one-dimensional ones and pools too, as what the float graph has for (C, Y, X).

A transposed convolution is a convolution on values with zeros between (`FloatSpread`), its kernel flipped, its padding
gap*(k - 1) - p at the sides. What has one axis is an image of one row, (C, 1, X).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from randhet.export.graph import Array, AveragePool, ExportError, FloatConv, FloatMaxPool, FloatSpread, Pair


def pair(value: Any) -> Pair:
    """One number for both axes, or two, as (y, x)."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    return int(both[0]), int(both[1])


def across(value: Any) -> int:
    """The one number of an axis."""
    return int(value if isinstance(value, int) else value[0])


def array(tensor: Any, size: int = 0) -> Array:
    """float64 values, zeros where there is no tensor."""
    return np.zeros(size) if tensor is None else np.asarray(tensor.detach().cpu().double().numpy())


def convolution(module: nn.Conv2d) -> FloatConv:
    """A convolution of images."""
    if module.padding_mode != "zeros":
        raise ExportError(f", which pads with {module.padding_mode}: pad with zeros")
    weight, padding = _padded(module)
    bias = array(module.bias, module.out_channels)
    return FloatConv(weight, bias, pair(module.stride), padding, pair(module.dilation), module.groups)


def _padded(module: nn.Conv2d) -> tuple[Array, Pair]:
    """Weights and padding; "same" pads one more at the end where the kernel is even, as a zero before a kernel does."""
    weight = array(module.weight)
    if not isinstance(module.padding, str):
        return weight, pair(module.padding)
    if module.padding == "valid":
        return weight, (0, 0)
    total = [gap * (length - 1) for gap, length in zip(pair(module.dilation), weight.shape[2:])]
    odd = [size % 2 for size in total]
    if any(more and gap > 1 for more, gap in zip(odd, pair(module.dilation))):
        raise ExportError(f', which pads with "same" at dilation {module.dilation}: give its padding in numbers')
    wide = np.pad(weight, ((0, 0), (0, 0), (odd[0], 0), (odd[1], 0)))
    return wide, ((total[0] + odd[0]) // 2, (total[1] + odd[1]) // 2)


def transposed(module: nn.ConvTranspose2d) -> FloatConv:
    """The convolution that a transposed one is behind `spread_before` it."""
    if not isinstance(module.padding, tuple):
        raise ExportError(f", which pads {module.padding!r}: give its padding in numbers")
    gaps, groups = pair(module.dilation), module.groups
    reach = [gap * (length - 1) for gap, length in zip(gaps, pair(module.kernel_size))]
    padding = [whole - cut for whole, cut in zip(reach, pair(module.padding))]
    if min(padding) < 0:
        raise ExportError(
            f", which cuts {module.padding} at its sides, more than its kernel reaches: cut at most {reach}"
        )
    weight = array(module.weight)[:, :, ::-1, ::-1]
    inner, outer, *kernel = weight.shape
    apart = weight.reshape(groups, inner // groups, outer, *kernel).swapaxes(1, 2)
    flipped = np.ascontiguousarray(apart.reshape(groups * outer, inner // groups, *kernel))
    return FloatConv(flipped, array(module.bias, len(flipped)), (1, 1), (padding[0], padding[1]), gaps, groups)


def spread_before(module: nn.Module) -> FloatSpread | None:
    """The zeros that a transposed convolution puts between what it reads; None for any other module."""
    if not isinstance(module, nn.ConvTranspose2d):
        return None
    spread = FloatSpread(pair(module.stride), pair(module.output_padding))
    return None if (spread.stride, spread.extra) == ((1, 1), (0, 0)) else spread


def conv_of_a_row(module: nn.Conv1d) -> FloatConv:
    """A convolution along the one row of an image."""
    if module.padding_mode != "zeros":
        raise ExportError(f", which pads with {module.padding_mode}: pad with zeros")
    weight, gap, padding = array(module.weight), across(module.dilation), module.padding
    reach = gap * (weight.shape[2] - 1)
    if padding == "same" and reach % 2:
        raise ExportError(f', which pads with "same" at a kernel of {weight.shape[2]}: give its padding in numbers')
    sides = {"same": reach // 2, "valid": 0}[padding] if isinstance(padding, str) else across(padding)
    bias = array(module.bias, module.out_channels)
    return FloatConv(weight[:, :, None], bias, (1, across(module.stride)), (0, sides), (1, gap), module.groups)


def average_of_a_row(module: nn.AvgPool1d) -> AveragePool:
    """Means along the one row of an image."""
    if across(module.padding) or module.ceil_mode:
        raise ExportError(", which has padding or ceil_mode")
    return AveragePool((1, across(module.kernel_size)), (1, across(module.stride)))


def maximum_of_a_row(module: nn.MaxPool1d) -> FloatMaxPool:
    """Largest values along the one row of an image."""
    if across(module.dilation) != 1 or module.ceil_mode or module.return_indices:
        raise ExportError(", which has dilation, ceil_mode or return_indices")
    sides = across(module.padding)
    return FloatMaxPool((1, across(module.kernel_size)), (1, across(module.stride)), (0, sides))
