"""Sums by instructions that multiply vectors of bytes (AVX-512 VNNI): four products in each of 16 lanes.

Unsigned by signed bytes into 32 bits; products are at most 255 * 128 and their sums those of the definition: exact.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import CHUNK, loop
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.lanes import INT32, INT64, Lanes, broadcast, build, has, instruction

STEPS = 4
"""Steps whose sums are made together, so that a weight that was loaded is used as often."""
INPUTS = 4
"""Inputs of one instruction."""
LANES = 16
PARTS = CHUNK // LANES
AVAILABLE = has("avx512vnni")


def dot(builder, sums, unsigned, signed):
    """sums (16 int32) + the products of four unsigned with four signed bytes in every lane."""
    return instruction(builder, "avx512.vpdpbusd.512", sums.type, sums, unsigned, signed)


class Seen(NamedTuple):
    """What one pixel's window sees at four steps.

    values: bytes, flat; tap i reads 4*groups of them from at[four + s] + window[window_at + i] * apart for step s, none
    where the window is negative; it has `taps` taps.
    """

    values: Any
    at: Any
    four: Any
    apart: Any
    window: Any
    window_at: Any
    taps: Any
    groups: Any


@intrinsic
def dot_window(typing, view, weight, base, sums, sums_at, sums_apart):
    """Sums of 64 output channels at one pixel for four steps, over all taps of its window.

    view: `Seen`. weight: as `pack` lays it out, from byte `base`. sums (int32, flat): written from
    sums_at + s * sums_apart for step s.
    """

    def write(builder, view, weight, base, sums, sums_at, sums_apart):
        none = ir.Constant(ir.VectorType(INT32, LANES), None)
        # four steps of 64 channels are 16 vectors of sums; with four of weights they stay in the 32 registers
        places = [[cgutils.alloca_once(builder, none.type) for _ in range(PARTS)] for _ in range(STEPS)]
        for slot in (slot for step in places for slot in step):
            builder.store(none, slot)
        begins = [view.at.item(builder.add(view.four, INT64(step))) for step in range(STEPS)]
        per_tap = builder.mul(view.groups, INT64(INPUTS * CHUNK))
        with loop(builder, INT64(0), view.taps) as (tap, _):
            source = builder.sext(view.window.item(builder.add(view.window_at, tap)), INT64)
            with builder.if_then(builder.icmp_signed(">=", source, INT64(0))):
                offset = builder.mul(source, view.apart)
                inputs = [builder.add(begin, offset) for begin in begins]
                weights_at = builder.add(base, builder.mul(tap, per_tap))
                with loop(builder, INT64(0), view.groups) as (group, _):
                    _four_inputs(builder, view.values, inputs, weight, weights_at, group, places)
        for step, own in enumerate(places):
            first = builder.add(sums_at, builder.mul(sums_apart, INT64(step)))
            for number, slot in enumerate(own):
                sums.store(builder.add(first, INT64(number * LANES)), Lanes(builder, builder.load(slot)))

    return build(types.void, (view, weight, base, sums, sums_at, sums_apart), write)


def _four_inputs(builder, values, inputs, weight, weights_at, group, places):
    """Code that adds the products of four inputs of a tap to the sums of all steps and channels."""
    at_weight = builder.add(weights_at, builder.mul(group, INT64(INPUTS * CHUNK)))
    signed = [weight.load(builder.add(at_weight, INT64(number * CHUNK)), LANES, INT32).value for number in range(PARTS)]
    inside = builder.mul(group, INT64(INPUTS))
    for begin, own in zip(inputs, places):
        # four bytes as one number, put into every lane: a lane multiplies them by the four weights of its channel
        four = values.load(builder.add(begin, inside), 1, INT32).value
        unsigned = broadcast(builder, builder.extract_element(four, INT32(0)), LANES).value
        for number, slot in enumerate(own):
            builder.store(dot(builder, builder.load(slot), unsigned, signed[number]), slot)


def pack(weight: np.ndarray, per_tap: int) -> np.ndarray:
    """Weight rows (taps * per_tap, width) int8 as `dot_window` reads them, flat.

    Chunks of 64 channels one after another; of a chunk every four rows, which are inputs of one tap; of four rows, for
    every channel its four weights. Empty where the inputs of a tap do not come in fours.
    """
    if per_tap % INPUTS:
        return np.empty(0, np.int8)
    rows, width = weight.shape
    chunks = -(-width // CHUNK)
    padded = np.zeros((rows, chunks * CHUNK), np.int8)
    padded[:, :width] = weight
    return np.ascontiguousarray(padded.reshape(rows // INPUTS, INPUTS, chunks, CHUNK).transpose(2, 0, 3, 1)).reshape(-1)


@inner
def products(source, wide, begins, activity, pixel, count, sums, sums_at):
    """Sums of the output pixels from `pixel`, `count` of them, at n steps: row j*n + i is of pixel + j and step i.

    source: `bundles.Source` of bytes, in which step i begins at begins[i], steps as `arranged`. wide: as `pack` lays it
    out. sums: int32, flat, rows of whole chunks of channels from `sums_at`. activity: nothing here.
    """
    values, window, taps, n = source.values.reshape(-1), source.window.reshape(-1), source.window.shape[1], len(begins)
    inputs, groups = taps * source.per_tap, source.per_tap // INPUTS
    padded = len(wide) // inputs
    for j in range(count):
        for four in range(0, n, STEPS):
            view = Seen(values, begins, four, source.values.shape[2], window, (pixel + j) * taps, taps, groups)
            for chunk in range(0, padded, CHUNK):
                dot_window(view, wide, inputs * chunk, sums, sums_at + (j * n + four) * padded + chunk, padded)


@kernel
def arranged(chosen):
    """The chosen steps in fours; those left over fill four by repetition, or are dropped where they are few."""
    steps = np.flatnonzero(chosen)
    rest = len(steps) % STEPS
    if rest and rest < STEPS // 2:
        chosen[steps[len(steps) - rest :]] = False
        steps = steps[: len(steps) - rest]
    # the repeated step is made twice, which costs less than code for fewer steps
    rows = np.empty((len(steps) + STEPS - 1) // STEPS * STEPS, np.int64)
    for i in range(len(rows)):
        rows[i] = steps[min(i, len(steps) - 1)]
    return rows


@kernel
def together(steps, inputs):
    """Pixels of one call, rows of sums and bytes of activity that it needs, for windows of so many inputs."""
    return 1, len(steps), 0


def packed_size(inputs: int, padded: int) -> int:
    """Bytes that `pack` makes for so many inputs of all taps and channels of whole chunks."""
    return inputs * padded
