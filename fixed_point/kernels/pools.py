"""Pooling: what the windows of an image hold, summed or the largest of it, 64 channels at a time."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.compiled import inner
from randhet.fixed_point.kernels.lanes import INT64, Lanes, build

LINE, SOME, FEW = 64, 16, 4
"""Channels of one pass, and where fewer are left."""


@inner
def pooled(values, window, out, largest):
    """Set out (steps, pixels, channels) to the sums, or the largest, of what the windows of values (likewise) hold.

    window (output pixels, taps): the input pixel that each tap sees, -1 outside. Sums fit the type of out, and so does
    the largest, which of nothing is the lowest of its type.
    """
    read, written, seen = values.reshape(-1), out.reshape(-1), window.reshape(-1)
    taps, channels = window.shape[1], values.shape[2]
    for t in range(values.shape[0]):
        at = t * values.shape[1] * channels
        for pixel in range(window.shape[0]):
            out_at, window_at, c = (t * window.shape[0] + pixel) * channels, pixel * taps, 0
            while c + LINE <= channels:
                pool_line(read, at + c, channels, seen, window_at, taps, written, out_at + c, largest)
                c += LINE
            while c + SOME <= channels:
                pool_some(read, at + c, channels, seen, window_at, taps, written, out_at + c, largest)
                c += SOME
            while c + FEW <= channels:
                pool_few(read, at + c, channels, seen, window_at, taps, written, out_at + c, largest)
                c += FEW
            while c < channels:
                pool_one(read, at + c, channels, seen, window_at, taps, written, out_at + c, largest)
                c += 1


@intrinsic
def pool_line(typing, values, at, channels, window, window_at, taps, out, out_at, largest):
    """Pool 64 channels of one window, whose pixel 0 begins at `at` and which are `channels` apart, to out_at."""
    return _pool(LINE, values, at, channels, window, window_at, taps, out, out_at, largest)


@intrinsic
def pool_some(typing, values, at, channels, window, window_at, taps, out, out_at, largest):
    """Do so for 16 channels."""
    return _pool(SOME, values, at, channels, window, window_at, taps, out, out_at, largest)


@intrinsic
def pool_few(typing, values, at, channels, window, window_at, taps, out, out_at, largest):
    """Do so for four channels."""
    return _pool(FEW, values, at, channels, window, window_at, taps, out, out_at, largest)


@intrinsic
def pool_one(typing, values, at, channels, window, window_at, taps, out, out_at, largest):
    """Do so for one channel."""
    return _pool(1, values, at, channels, window, window_at, taps, out, out_at, largest)


def _pool(lanes, values, *others):
    signed = values.dtype.signed

    def write(builder, values, at, channels, window, window_at, taps, out, out_at, largest):
        kind, sent = values.data.type.pointee, out.data.type.pointee

        def code(start, of_kind, step):
            slot = cgutils.alloca_once(builder, ir.VectorType(of_kind, lanes))
            builder.store(ir.Constant(slot.type.pointee, [start] * lanes), slot)
            with cgutils.for_range_slice(builder, INT64(0), taps, INT64(1), INT64) as (tap, _):
                pixel = builder.sext(window.item(builder.add(window_at, tap)), INT64)
                with builder.if_then(builder.icmp_signed(">=", pixel, INT64(0))):
                    more = values.load(builder.add(at, builder.mul(pixel, channels)), lanes)
                    builder.store(step(Lanes(builder, builder.load(slot)), more).value, slot)
            out.store(out_at, fitted(Lanes(builder, builder.load(slot)), sent, signed))

        with builder.if_else(largest) as (of_largest, of_sum):
            with of_largest:
                code(-(1 << kind.width - 1) if signed else 0, kind, lambda held, more: _larger(held, more, signed))
            with of_sum:
                code(0, sent, lambda held, more: held + fitted(more, sent, signed))

    return build(types.void, (values, *others), write)


def _larger(first: Lanes, second: Lanes, signed: bool) -> Lanes:
    compare = first.builder.icmp_signed if signed else first.builder.icmp_unsigned
    return Lanes(first.builder, compare(">", first.value, second.value)).where(first, second)


def fitted(lanes: Lanes, kind: ir.IntType, signed: bool) -> Lanes:
    """Lanes in another width."""
    width = lanes.value.type.element.width
    if width == kind.width:
        return lanes
    return lanes.narrow(kind) if width > kind.width else lanes.widen(kind, signed)
