"""Sums by instructions that multiply vectors of bytes: four products in each lane of 32 bits.

Unsigned by signed bytes. AVX-512 VNNI has 16 lanes, AVX-VNNI 8 and ARM's dot products 4, which add the products to 32
bits at once; AVX2 has 8 lanes of two sums of 16 bits each and NEON 4 of four, which are added up before they could
leave these. All sums are exact.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels import arm
from randhet.fixed_point.kernels.blocks import CHUNK, loop
from randhet.fixed_point.kernels.compiled import inner, kernel
from randhet.fixed_point.kernels.lanes import INT8, INT16, INT32, INT64, Lanes, broadcast, build, has, instruction

STEPS = 4
"""Steps whose sums are made together, so that a weight that was loaded is used as often."""
INPUTS = 4
"""Inputs of one lane of an instruction."""


def dot(builder, sums, unsigned, signed):
    """sums (int32) + the products of four unsigned with four signed bytes in every lane."""
    return instruction(builder, f"avx512.vpdpbusd.{32 * LANES}", sums.type, sums, unsigned, signed)


def dot_short(builder, sums, unsigned, signed):
    """sums (int16, two in every lane) + the products of two unsigned with two signed bytes each, modulo 2^16."""
    return builder.add(sums, instruction(builder, "avx2.pmadd.ub.sw", sums.type, unsigned, signed))


def widened(builder, sums):
    """The two sums of 16 bits in every lane, added in 32 bits."""
    ones = ir.Constant(sums.type, [1] * sums.type.count)
    return instruction(builder, "avx2.pmadd.wd", ir.VectorType(INT32, LANES), sums, ones)


class Form(NamedTuple):
    """What a processor multiplies vectors of bytes with.

    name: of its instructions. lanes: of 32 bits. parts: vectors of weights that are held at once; with the sums of four
    steps they stay in 32 registers, or in 16. planes: bits of the largest value that it multiplies exactly. short: how
    many products an instruction adds to one sum of 16 bits, 0 where it adds to 32 bits at once.

    multiply(builder, sums, unsigned, signed): sums and the products of bytes. widen(builder, sums): sums of 16 bits in
    32. seen: how `multiply` reads the bytes, as numbers of 32 bits or one by one.
    """

    name: str
    lanes: int
    parts: int
    planes: int
    short: int
    multiply: Callable[..., Any] = dot
    widen: Callable[..., Any] = widened
    seen: ir.IntType = INT8


NONE = Form("", 8, 2, 0, 0)
FORMS = {
    "avx512vnni": Form("AVX-512 VNNI", 16, 4, 8, 0, seen=INT32),
    "avxvnni": Form("AVX-VNNI", 8, 3, 8, 0, seen=INT32),
    # two products of 8 bit values would leave 16 bits
    "avx2": Form("AVX2", 8, 3, 7, 2, dot_short),
    "i8mm": Form("ARM dot products of mixed signs", 4, 4, 8, 0, arm.dot_mixed),
    # values are read as signed
    "dotprod": Form("ARM dot products", 4, 4, 7, 0, arm.dot_signed),
    "neon": Form("NEON", 4, 2, 7, 1, arm.products, arm.added),
}
"""By LLVM's name of what the processor must have, the best first."""
FORM = next((form for feature, form in FORMS.items() if has(feature) or arm.has(feature)), NONE)
AVAILABLE = FORM is not NONE
LANES, PARTS, MOST_PLANES = FORM.lanes, FORM.parts, FORM.planes
ADDED = max(FORM.short, 1)


class Seen(NamedTuple):
    """What one pixel's window sees at four steps.

    values: bytes, flat; tap i reads 4*groups of them from at[four + s] + window[window_at + i] * apart for step s, none
    where the window is negative; it has `taps` taps. flush: groups whose sums 16 bits hold.
    """

    values: Any
    at: Any
    four: Any
    apart: Any
    window: Any
    window_at: Any
    taps: Any
    groups: Any
    flush: Any


@intrinsic
def dot_window(typing, view, weight, base, sums, sums_at, sums_apart):
    """Sums of 64 output channels at one pixel for four steps, over all taps of its window.

    view: `Seen`. weight: as `pack` lays it out, from byte `base`. sums (int32, flat): written from
    sums_at + s * sums_apart for step s.
    """

    return build(types.void, (view, weight, base, sums, sums_at, sums_apart), _dot)


@intrinsic
def dot_rows(typing, activity, groups, flush, weight, base, sums, sums_at, sums_apart):
    """Do so for four rows of activity that lie side by side, each of 4*groups bytes: one tap of all inputs."""

    def write(builder, activity, groups, flush, weight, base, sums, sums_at, sums_apart):
        begins = Rule(lambda row: builder.mul(row, builder.mul(groups, INT64(INPUTS))))
        one = Rule(lambda tap: INT32(0))
        view = Seen(activity, begins, INT64(0), INT64(0), one, INT64(0), INT64(1), groups, flush)
        _dot(builder, view, weight, base, sums, sums_at, sums_apart)

    kinds = activity, groups, flush, weight, base, sums, sums_at, sums_apart
    return build(types.void, kinds, write)


class Rule(NamedTuple):
    """Stands for an array whose items follow from their positions."""

    item: Callable[[Any], Any]


def _dot(builder, view, weight, base, sums, sums_at, sums_apart):
    every = range(CHUNK // LANES)
    for first in every[::PARTS]:
        parts = every[first : first + PARTS]
        _some_channels(builder, view, weight, base, Sums(builder, parts, sums, sums_at, sums_apart))


class Sums:
    """Code of the sums of some channels at four steps: `slots` of 32 bits, `short` of 16 where the form has these."""

    def __init__(self, builder, parts, out, at, apart) -> None:
        self.builder, self.parts, self.out, self.at, self.apart = builder, parts, out, at, apart
        self.slots = self._places(ir.VectorType(INT32, LANES))
        self.short = self._places(ir.VectorType(INT16, INPUTS // FORM.short * LANES)) if FORM.short else self.slots

    def _places(self, kind):
        places = [[cgutils.alloca_once(self.builder, kind) for _ in self.parts] for _ in range(STEPS)]
        self.clear(places)
        return places

    def clear(self, places) -> None:
        for slot in (slot for step in places for slot in step):
            self.builder.store(ir.Constant(slot.type.pointee, None), slot)

    def add(self, step, number, unsigned, signed) -> None:
        slot = self.short[step][number]
        kind = ir.VectorType(FORM.seen, INPUTS * LANES * INT8.width // FORM.seen.width)
        seen = (self.builder.bitcast(value, kind) for value in (unsigned, signed))
        self.builder.store(FORM.multiply(self.builder, self.builder.load(slot), *seen), slot)

    def flush(self) -> None:
        """Add what 16 bits hold to the sums of 32."""
        if not FORM.short:
            return
        for slots, shorts in zip(self.slots, self.short):
            for slot, short in zip(slots, shorts):
                more = FORM.widen(self.builder, self.builder.load(short))
                self.builder.store(self.builder.add(self.builder.load(slot), more), slot)
        self.clear(self.short)

    def write(self) -> None:
        for step, own in enumerate(self.slots):
            first = self.builder.add(self.at, self.builder.mul(self.apart, INT64(step)))
            for number, slot in zip(self.parts, own):
                position = self.builder.add(first, INT64(number * LANES))
                self.out.store(position, Lanes(self.builder, self.builder.load(slot)))


def _some_channels(builder, view, weight, base, sums):
    """Code of the sums of some vectors of the chunk's channels."""
    begins = [view.at.item(builder.add(view.four, INT64(step))) for step in range(STEPS)]
    per_tap = builder.mul(view.groups, INT64(INPUTS * CHUNK))
    with loop(builder, INT64(0), view.taps) as (tap, _):
        source = builder.sext(view.window.item(builder.add(view.window_at, tap)), INT64)
        with builder.if_then(builder.icmp_signed(">=", source, INT64(0))):
            offset = builder.mul(source, view.apart)
            inputs = [builder.add(begin, offset) for begin in begins]
            weights_at = builder.add(base, builder.mul(tap, per_tap))
            with _blocks(builder, view) as (start, stop):
                with loop(builder, start, stop) as (group, _):
                    _four_inputs(builder, view.values, inputs, weight, weights_at, group, sums)
                sums.flush()
    sums.write()


@contextmanager
def _blocks(builder, view):
    """The groups of a tap: all, or in blocks of `flush`."""
    if not FORM.short:
        yield INT64(0), view.groups
        return
    blocks = builder.sdiv(builder.add(view.groups, builder.sub(view.flush, INT64(1))), view.flush)
    with loop(builder, INT64(0), blocks) as (block, _):
        start = builder.mul(block, view.flush)
        stop = builder.add(start, view.flush)
        yield start, builder.select(builder.icmp_signed("<", stop, view.groups), stop, view.groups)


def _four_inputs(builder, values, inputs, weight, weights_at, group, sums):
    """Code that adds the products of four inputs of a tap to the sums of all steps and channels."""
    at_weight = builder.add(weights_at, builder.mul(group, INT64(INPUTS * CHUNK)))
    signed = [weight.load(builder.add(at_weight, INT64(n * INPUTS * LANES)), LANES, INT32).value for n in sums.parts]
    inside = builder.mul(group, INT64(INPUTS))
    for step, begin in enumerate(inputs):
        # four bytes as one number, put into every lane: a lane multiplies them by the four weights of its channel
        four = values.load(builder.add(begin, inside), 1, INT32).value
        unsigned = broadcast(builder, builder.extract_element(four, INT32(0)), LANES).value
        for number, weights in enumerate(signed):
            sums.add(step, number, unsigned, weights)


def pack(weight: np.ndarray, per_tap: int) -> np.ndarray:
    """Weight rows (taps * per_tap, width) int8 as `dot_window` reads them, flat.

    Chunks of 64 channels one after another; of a chunk every four rows, the last filled up; of four rows, for every
    channel its four weights. Where the inputs of a tap come in fours, four rows are inputs of one tap.
    """
    rows, width = weight.shape
    chunks, fours = -(-width // CHUNK), -(-rows // INPUTS)
    padded = np.zeros((fours * INPUTS, chunks * CHUNK), np.int8)
    padded[:rows, :width] = weight
    return np.ascontiguousarray(padded.reshape(fours, INPUTS, chunks, CHUNK).transpose(2, 0, 3, 1)).reshape(-1)


def fits(per_tap: int, rows: int) -> bool:
    """Whether so many inputs of a tap can be multiplied: in fours, or where the source has one row only."""
    return per_tap % INPUTS == 0 or rows == 1


@inner
def products(source, wide, begins, activity, pixel, count, sums, sums_at):
    """Sums of the output pixels from `pixel`, `count` of them, at n steps: row j*n + i is of pixel + j and step i.

    source: `bundles.Source` of bytes, in which step i begins at begins[i], steps as `arranged`. wide: as `pack` lays it
    out. sums: int32, flat, rows of whole chunks of channels from `sums_at`. activity: bytes that `together` asks for.
    """
    if len(source.values) == 1:
        one_row_products(source, wide, begins[0], activity, pixel, count, sums, sums_at)
        return
    values, window, taps, n = source.values.reshape(-1), source.window.reshape(-1), source.window.shape[1], len(begins)
    inputs, groups = taps * source.per_tap, source.per_tap // INPUTS
    # the products of a group add at most 128 * (2^planes - 1) each to a sum of 16 bits
    flush = (2**15 - 1) // (ADDED * 128 * ((1 << source.planes) - 1))
    padded = len(wide) // inputs
    for j in range(count):
        for four in range(0, n, STEPS):
            view = Seen(values, begins, four, source.values.shape[2], window, (pixel + j) * taps, taps, groups, flush)
            for chunk in range(0, padded, CHUNK):
                dot_window(view, wide, inputs * chunk, sums, sums_at + (j * n + four) * padded + chunk, padded)


@inner
def one_row_products(source, wide, begin, activity, pixel, count, sums, sums_at):
    """Do so for a source of one row, which begins at `begin`: up to four pixels in place of as many steps."""
    inputs = source.window.shape[1] * source.per_tap
    groups = (inputs + INPUTS - 1) // INPUTS
    for j in range(count):
        collect(source, begin, pixel + j, activity, j * groups * INPUTS)
    flush = (2**15 - 1) // (ADDED * 128 * ((1 << source.planes) - 1))
    padded = len(wide) // (groups * INPUTS)
    for chunk in range(0, padded, CHUNK):
        dot_rows(activity, groups, flush, wide, groups * INPUTS * chunk, sums, sums_at + chunk, padded)


@inner(forceinline=True)
def collect(source, begin, pixel, activity, at):
    """Write what the window of an output pixel sees to activity from `at` on, zeros where it sees nothing."""
    values, channels = source.values.reshape(-1), source.values.shape[2]
    for tap in range(source.window.shape[1]):
        seen = source.window[pixel, tap]
        for c in range(source.per_tap):
            activity[at] = values[begin + seen * channels + c] if seen >= 0 else 0
            at += 1


@inner
def ahead(source, wide, full, pixel, stop, sums, sums_at):
    """Sums of as many output pixels before `stop` as are made together, of `sums.Crowded`. Returns how many."""
    count = min(full.group, stop - pixel)
    products(source, wide, full.at, full.activity, pixel, count, sums, sums_at)
    return count


@kernel
def strip_rows(source, n, group):
    """Rows of the output that are laid out in advance: vectors read the inputs where they are."""
    return 0


@kernel
def strip_bytes(source, n, rows):
    """Bytes of them."""
    return 0


def shares(per_tap: int) -> bool:
    """Whether neighbouring windows may share bytes, laid out anew."""
    return False


@kernel
def arranged(chosen):
    """The chosen steps in fours; those left over fill four by repetition, or are dropped where they are few.

    The step of a source of one row stands alone: its pixels are multiplied in fours.
    """
    steps = np.flatnonzero(chosen)
    if len(chosen) == 1:
        return steps
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
    if len(steps) == 1:
        return STEPS, STEPS, STEPS * INPUTS * ((inputs + INPUTS - 1) // INPUTS)
    return 1, len(steps), 0


def packed_size(inputs: int, padded: int) -> int:
    """Bytes that `pack` makes for so many inputs of all taps and channels of whole chunks."""
    return -(-inputs // INPUTS) * INPUTS * padded
