"""Sums by multiplication where so much is active that adding rows would cost more: four products to an instruction.

Only for processors that multiply unsigned by signed bytes into 32 bits (AVX-512 VNNI); elsewhere `AVAILABLE` is false
and rows are added at any activity. Products are at most 255 * 127 and their sums those of the definition: exact.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fixed_point.engine.blocks import CHUNK, bits_set, loop, marked
from fixed_point.engine.compiled import kernel
from fixed_point.engine.lanes import INT32, INT64, Lanes, broadcast, build, has

STEPS = 4
"""Steps whose sums are made together, so that a weight that was loaded is used as often."""
INPUTS = 4
"""Inputs of one instruction."""
LANES = 16
PARTS = CHUNK // LANES
AVAILABLE = has("avx512vnni")


def dot(builder, sums, unsigned, signed):
    """sums (16 int32) + the products of four unsigned with four signed bytes in every lane."""
    kind, module = sums.type, builder.module
    name = "llvm.x86.avx512.vpdpbusd.512"
    call = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(call, [sums, unsigned, signed])


@intrinsic
def dot_window(typing, values, at, apart, window, window_at, taps, groups, weight, base, sums, sums_at, chunk_at):
    """Sums of 64 output channels at one pixel for four steps, over all taps of its window.

    values: bytes, flat; tap i reads 4*groups of them from at[s] + window[window_at + i] * apart at step s, none where
    the window is negative. weight: as `pack` lays it out, from byte `base`. sums (int32, flat): written from
    sums_at[s] + chunk_at.
    """

    def write(builder, values, at, apart, window, window_at, taps, groups, weight, base, sums, sums_at, chunk_at):
        none = ir.Constant(ir.VectorType(INT32, LANES), None)
        places = [[cgutils.alloca_once(builder, none.type) for _ in range(PARTS)] for _ in range(STEPS)]
        for place in (place for step in places for place in step):
            builder.store(none, place)
        begins = [at.item(INT64(step)) for step in range(STEPS)]
        per_tap = builder.mul(groups, INT64(INPUTS * CHUNK))
        with loop(builder, INT64(0), taps) as (tap, _):
            source = builder.sext(window.item(builder.add(window_at, tap)), INT64)
            with builder.if_then(builder.icmp_signed(">=", source, INT64(0))):
                offset = builder.mul(source, apart)
                seen = [builder.add(begin, offset) for begin in begins]
                weights_at = builder.add(base, builder.mul(tap, per_tap))
                with loop(builder, INT64(0), groups) as (group, _):
                    _four_inputs(builder, values, seen, weight, weights_at, group, places)
        for step, own in enumerate(places):
            first = builder.add(sums_at.item(INT64(step)), chunk_at)
            for part, place in enumerate(own):
                sums.store(builder.add(first, INT64(part * LANES)), Lanes(builder, builder.load(place)))

    arguments = (values, at, apart, window, window_at, taps, groups, weight, base, sums, sums_at, chunk_at)
    return build(types.void, arguments, write)


def _four_inputs(builder, values, seen, weight, weights_at, group, places):
    """Code that adds the products of four inputs of a tap to the sums of all steps and channels."""
    at_weight = builder.add(weights_at, builder.mul(group, INT64(INPUTS * CHUNK)))
    signed = [weight.load(builder.add(at_weight, INT64(part * CHUNK)), LANES, INT32).value for part in range(PARTS)]
    inside = builder.mul(group, INT64(INPUTS))
    for begin, own in zip(seen, places):
        four = values.load(builder.add(begin, inside), 1, INT32).value
        unsigned = broadcast(builder, builder.extract_element(four, INT32(0)), LANES).value
        for part, place in enumerate(own):
            builder.store(dot(builder, builder.load(place), unsigned, signed[part]), place)


def pack(weight: np.ndarray, per_tap: int) -> np.ndarray:
    """Weight rows (taps * per_tap, width) int8 as `dot_window` reads them, flat.

    Chunks of 64 channels one after another; of a chunk every four rows, which are inputs of one tap; of four rows, for
    every channel its four weights. Empty where the inputs of a tap do not come in fours.
    """
    if not AVAILABLE or per_tap % INPUTS:
        return np.empty(0, np.int8)
    rows, width = weight.shape
    chunks = -(-width // CHUNK)
    padded = np.zeros((rows, chunks * CHUNK), np.int8)
    padded[:, :width] = weight
    return np.ascontiguousarray(padded.reshape(rows // INPUTS, INPUTS, chunks, CHUNK).transpose(2, 0, 3, 1)).reshape(-1)


if AVAILABLE:

    @kernel
    def products(values, first, per_tap, window, pixel, wide, fours, totals):
        """Sums of one output pixel at the steps of `fours` (n, 4): rows of totals (steps, padded channels) int32."""
        if len(fours) == 0:
            return
        pixels, channels, taps = values.shape[1], values.shape[2], window.shape[1]
        padded, groups = totals.shape[1], per_tap // INPUTS
        at, sums_at = np.empty(STEPS, np.int64), np.empty(STEPS, np.int64)
        for four in fours:
            for s in range(STEPS):
                at[s] = four[s] * pixels * channels + first
                sums_at[s] = four[s] * padded
            for chunk_at in range(0, padded, CHUNK):
                base = taps * per_tap * chunk_at
                dot_window(
                    values.reshape(-1), at, channels, window.reshape(-1), pixel * taps, taps, groups, wide, base,
                    totals.reshape(-1), sums_at, chunk_at,
                )  # fmt: skip

else:

    @kernel
    def products(values, first, per_tap, window, pixel, wide, fours, totals):
        """Never with a row in `fours` here: tiles have no weights to multiply with."""


@kernel
def crowded(values, first, per_tap, planes, limit):
    """Steps (T,) of values (T, pixels, channels) at which more than `limit` bits of the inputs are set."""
    steps, pixels, channels = values.shape
    found, flat = np.zeros(steps, np.bool_), values.reshape(-1)
    for t in range(steps):
        count = 0
        for pixel in range(pixels):
            at = (t * pixels + pixel) * channels + first
            for plane in range(planes):
                c = 0
                while c + CHUNK <= per_tap:
                    count += bits_set(marked(flat, at + c, plane))
                    c += CHUNK
                while c < per_tap:
                    count += (flat[at + c] >> plane) & 1
                    c += 1
        found[t] = count > limit
    return found


@kernel
def in_fours(chosen):
    """The chosen steps as rows of four; those left over fill a row by repetition, or are dropped where they are few."""
    steps = np.flatnonzero(chosen)
    rest = len(steps) % STEPS
    if rest and rest < STEPS // 2:
        chosen[steps[len(steps) - rest :]] = False
        steps = steps[: len(steps) - rest]
    rows = np.empty(((len(steps) + STEPS - 1) // STEPS, STEPS), np.int64)
    for i in range(rows.size):
        rows[i // STEPS, i % STEPS] = steps[min(i, len(steps) - 1)]
    return rows
