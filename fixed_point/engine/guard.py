"""What the kernels rely on without looking: shapes, types and ranges of their arguments. A mistake here is an error in
one sentence; inside a kernel it would write over somebody's memory. What a network keeps is seen when it is loaded,
what a batch brings at every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.kernels.dense import BY


def array(name: str, value: np.ndarray, dtypes: tuple[type, ...], *shapes: tuple[int, ...]) -> None:
    """value is a C-contiguous array of one of these types and shapes."""
    if not isinstance(value, np.ndarray) or value.dtype not in dtypes or value.shape not in shapes:
        found = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise NetworkError(f"kernel argument {name} is {found}, not {' or '.join(map(str, shapes))}")
    if not value.flags.c_contiguous:
        raise NetworkError(f"kernel argument {name} is not contiguous")


def within(name: str, least: int, most: int, low: int, stop: int) -> None:
    """low <= least and most < stop."""
    if least < low or most >= stop:
        raise NetworkError(f"kernel argument {name} lies in {least}..{most}, the limits are {low} to {stop - 1}")


def all_within(name: str, values: np.ndarray, low: int, stop: int) -> None:
    """low <= values < stop."""
    if values.size:
        within(name, int(values.min()), int(values.max()), low, stop)


def weights(
    first: int, per_tap: int, window: np.ndarray, weight: np.ndarray, packed: np.ndarray, wide: np.ndarray,
    source: tuple[int, int],
) -> None:  # fmt: skip
    """What a tile keeps, source being (pixels, channels) of what it reads: looked at once, when a network is loaded."""
    pixels, channels = source
    array("window", window, (np.int32,), window.shape[:2])
    rows, width = window.shape[1] * per_tap + 1, weight.shape[1]
    array("weight", weight, (np.int8,), (rows, width))
    array("packed", packed, (np.int8,), (rows * padded(width),))
    array("wide", wide, (np.int8,), (0,), (BY.packed_size(rows - 1, padded(width)),))
    within("first", first, first + per_tap - 1, 0, channels)
    all_within("window", window, -1, pixels)


def activity(values: np.ndarray, steps: int, source: tuple[int, int]) -> None:
    """What a layer reads: (1 or steps, *source)."""
    array("values", values, (np.uint8, np.int32), (1, *source), (steps, *source))


def levels(bias: np.ndarray, threshold: np.ndarray, pixels: int, width: int) -> None:
    """Bias (1 or pixels, width) and threshold (width,)."""
    array("bias", bias, (np.int32,), (1, width), (pixels, width))
    array("threshold", threshold, (np.int32,), (width,))


def visits(pixel: np.ndarray, channel: np.ndarray, last: np.ndarray, width: int) -> None:
    """Where registers are loaded: one pixel, channel and flag for each entry."""
    count = pixel.shape[:1]
    array("entry_pixel", pixel, (np.int64,), count)
    array("entry_channel", channel, (np.int64,), count)
    array("entry_last", last, (np.bool_,), count)
    all_within("entry_channel", channel, 0, width)


def band(low: int, high: int, pixels: int) -> None:
    """Pixels low..high of a layer."""
    within("band", min(low, high), max(low, high), 0, pixels + 1)


def output(out: np.ndarray, offset: int, record: np.ndarray, size: tuple[int, int], width: int) -> None:
    """Spikes (steps, pixels, channels), whose tile fits, and membranes of the same shape or none."""
    array("out", out, (np.uint8,), (*size, out.shape[2]))
    within("offset", offset, offset + width - 1, 0, out.shape[2])
    if len(record):
        array("record", record, (np.int32,), out.shape)


def lif(source: tuple[int, int], *arguments: Any) -> None:
    """The arguments of `kernels.lif_image` that a batch brings; `weights` and `visits` have seen the others."""
    values, steps, _, _, _, window, weight, _, _, _, low, high, *rest = arguments
    bias, threshold, _, _, _, given, table, starts, pixel, _, _, _, *matrices, out, offset, record = rest
    pixels, width = len(window), weight.shape[1]
    activity(values, steps, source)
    band(low, high, pixels)
    levels(bias, threshold, pixels, padded(width))
    array("given", given, (np.int32,), (0, 0), (1, padded(width)), (pixels, padded(width)))
    array("table", table, (np.uint8,), (512,))
    array("starts", starts, (np.uint32,), pixel.shape)
    for matrix in matrices:
        array("matrix", matrix, (np.uint32,), (32,))
    output(out, offset, record, (steps, pixels), width)


def cuba(source: tuple[int, int], *arguments: Any) -> None:
    """The same of `kernels.cuba_image`."""
    values, steps, _, _, _, window, weight, _, low, high, bias, threshold, *_, out, offset, record = arguments
    activity(values, steps, source)
    band(low, high, len(window))
    levels(bias, threshold, len(window), weight.shape[1])
    output(out, offset, record, (steps, len(window)), weight.shape[1])


def padded(width: int) -> int:
    """Channels filled up to whole chunks."""
    return -(-width // CHUNK) * CHUNK
