"""One convolution of one image in float64."""

from __future__ import annotations

import numpy as np

from randhet.export.graph import Array, FloatConv
from randhet.fixed_point.reference import taps


def conv(operation: FloatConv, image: Array) -> Array:
    """The convolution without its bias of one image (C, Y, X) in float64, zero padded."""
    (py, px), groups = operation.padding, operation.groups
    padded = np.pad(image, ((0, 0), (py, py), (px, px)))[None]
    out, per_group, *kernel = operation.weight.shape
    weight = operation.weight.reshape(groups, out // groups, per_group, *kernel)
    total: Array = np.zeros(())
    for i, j, plane in taps(padded, (kernel[0], kernel[1]), operation.stride, operation.dilation):
        split = plane.reshape(groups, per_group, *plane.shape[2:])
        total = total + np.einsum("goc,gcyx->goyx", weight[..., i, j], split)
    return total.reshape(out, *total.shape[2:])
