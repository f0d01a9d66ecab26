"""What the kernels rely on without looking: shapes, types and ranges of their arguments. A mistake here is an error in
one sentence; inside a kernel it would write over somebody's memory. What a network keeps is seen when it is loaded,
what a batch brings at every call.
"""

from __future__ import annotations

import numpy as np

from randhet.base.errors import NetworkError
from randhet.fixed_point.kernels import dense
from randhet.fixed_point.kernels.blocks import CHUNK
from randhet.fixed_point.kernels.bundles import (
    NO_RECORD,
    NO_STATE,
    NO_STRIP,
    CubaLevels,
    Decays,
    Levels,
    Output,
    ResetLevels,
    Source,
    State,
    Weights,
)


def array(name: str, value: np.ndarray, dtypes: tuple[type, ...], *shapes: tuple[int, ...]) -> None:
    """Refuse a value that is no C-contiguous array of one of these types and shapes."""
    if not isinstance(value, np.ndarray) or value.dtype.type not in dtypes or value.shape not in shapes:
        given = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise NetworkError(f"kernel argument {name} is {given}, not {' or '.join(map(str, shapes))}")
    if not value.flags.c_contiguous:
        raise NetworkError(f"kernel argument {name} is not contiguous")


def within(name: str, least: int, most: int, low: int, stop: int) -> None:
    """Refuse unless low <= least and most < stop."""
    if least < low or most >= stop:
        raise NetworkError(f"kernel argument {name} lies in {least}..{most}, the limits are {low} to {stop - 1}")


def all_within(name: str, values: np.ndarray, low: int, stop: int) -> None:
    """Refuse unless low <= values < stop."""
    if values.size:
        within(name, int(values.min()), int(values.max()), low, stop)


def weights(given: Weights, reads: Source, size: tuple[int, int]) -> None:
    """Look at what a tile keeps, which reads (pixels, channels) of a size: once, when a network is loaded."""
    pixels, channels = size
    array("window", reads.window, (np.int32,), reads.window.shape[:2])
    rows, width = reads.window.shape[1] * reads.per_tap + 1, given.plain.shape[1]
    array("plain", given.plain, (np.int8,), (rows, width))
    array("packed", given.packed, (np.int8,), (rows * padded(width),))
    array("wide", given.wide, (np.int8,), (0,), (dense.BY.packed_size(rows - 1, padded(width)),))
    within("first", reads.first, reads.first + reads.per_tap - 1, 0, channels)
    all_within("window", reads.window, -1, pixels)
    if reads.strip is not NO_STRIP:
        array("places", reads.strip.places, (np.int32,), reads.window.shape)
        all_within("places", reads.strip.places, 0, len(reads.strip.slots))
        all_within("slots", reads.strip.slots, -1, pixels)


def source(given: Source, rows: int, size: tuple[int, int]) -> None:
    """Look at what a layer reads, (1 or `rows`, *size); `weights` has seen its window."""
    array("values", given.values, (np.uint8, np.int32), (1, *size), (rows, *size))


def multiplied(given: Weights, reads: Source) -> None:
    """Look whether a call that brings weights for products reads what is multiplied."""
    if len(given.wide) and not dense.takes(reads.values, reads.per_tap, reads.planes):
        kind = reads.values.dtype
        read = f"{len(reads.values)} rows of {reads.per_tap} inputs of a tap, {kind} of {reads.planes} bits"
        raise NetworkError(f"kernel argument wide is given for {read}, which are not multiplied: leave it empty")


def levels(given: Levels | ResetLevels, pixels: int, channels: int) -> None:
    """Look at what neurons of the LIF family are told, for so many channels of whole chunks."""
    array("bias", given.bias, (np.int32,), (channels,), (pixels * channels,))
    array("threshold", given.threshold, (np.int32,), (channels,))
    if isinstance(given, ResetLevels):
        array("floor", given.floor, (np.int32,), (channels,))


def cuba_levels(given: CubaLevels, pixels: int, width: int) -> None:
    """Look at what CUBA neurons are told; their channels are not filled up."""
    array("bias", given.bias, (np.int32,), (1, width), (pixels, width))
    array("threshold", given.threshold, (np.int32,), (width,))


def decays(given: Decays, pixels: int, channels: int, width: int) -> None:
    """Look at decays, given or drawn, but for their states; entries lie in the first `width` channels."""
    array("given", given.given, (np.int32,), (0,), (channels,), (pixels * channels,))
    array("table", given.table, (np.uint8,), (512,))
    entries = given.entry_pixel.shape[:1]
    array("entry_pixel", given.entry_pixel, (np.int64,), entries)
    array("entry_channel", given.entry_channel, (np.int64,), entries)
    all_within("entry_channel", given.entry_channel, 0, width)


def states(given: Decays, rows: int, size: int) -> None:
    """Look for a state for every row and entry, and where rows have decays of their own for all `size` of each."""
    if given.step:
        within("step", given.step, given.step, size, size + 1)
        array("given", given.given, (np.int32,), (rows * size,))
    entries = given.entry_pixel.shape[0]
    if entries:
        array("states", given.states, (np.uint32,), (rows, entries))


def output(given: Output, state: State, pixels: int, width: int) -> None:
    """Look at spikes (rows, pixels, channels), where the tile fits, membranes and kept states like them or none."""
    out = given.out
    array("out", out, (np.uint8,), (len(out), pixels, out.shape[-1]))
    within("offset", given.offset, given.offset + width - 1, 0, out.shape[-1])
    within("band", min(given.low, given.high), max(given.low, given.high), 0, pixels + 1)
    if given.record is not NO_RECORD:
        array("record", given.record, (np.int32,), (0, 1, 1), out.shape)
    if state is not NO_STATE:
        one = (1, *out.shape[1:])
        array("membrane", state.membrane, (np.int32,), one, out.shape)
        array("current", state.current, (np.int32,), (0, 0, 0), state.membrane.shape)


def padded(width: int) -> int:
    """Round a number of channels up to whole chunks."""
    return -(-width // CHUNK) * CHUNK
