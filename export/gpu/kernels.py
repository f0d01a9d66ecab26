"""The neurons' kernels: all steps of a span in one pass, one lane for each neuron of each image.

Every value fits 32 bits but the current before it saturates. The product of the decay keeps to 32 bits because
(A*d) >> k = A*(d >> k) + ((A*(d mod 2^k)) >> k), d mod 2^k >= 0, exactly. Kernels use Triton's built-in
operations only: functions of its library keep to the mode, compiled or interpreted, that held when Triton was imported.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from randhet.export.gpu.registers import moved, number_of
from randhet.fixed_point.integer import STATE_BITS
from randhet.fixed_point.integer import STATE_MAX as LARGEST

STATE_MAX: Any = tl.constexpr(LARGEST)
HALF: Any = tl.constexpr(1 << (STATE_BITS - 1))
CONSTANT: Any = tl.constexpr(0)
PER_NEURON: Any = tl.constexpr(1)
REGISTER: Any = tl.constexpr(2)
CIPHER: Any = tl.constexpr(3)


class Steps(NamedTuple):
    """What a span reads and writes: images and steps, pointers, and how far one step of the sums is from the next.

    sums (images, steps or 1, size) int32; out, record (images, steps, size), spikes int8 and membrane potentials int32;
    clipped (images, size) int32: how often each neuron saturated.
    """

    images: Any
    steps: Any
    size: Any
    sums: Any
    per_image: Any
    per_step: Any
    out: Any
    record: Any
    clipped: Any


class Levels(NamedTuple):
    """Threshold and floor (channels,), bias (channels,) or (size,) as its period says; k and f; decays of a Cuba.

    state: membrane potentials (images, size), which move on; current: those of a Cuba.
    """

    threshold: Any
    floor: Any
    bias: Any
    period: Any
    k: Any
    f: Any
    state: Any
    current: Any
    keep_current: Any
    keep_voltage: Any


class Decays(NamedTuple):
    """Decays: one, one per neuron, or a table (256,); states (images, size) and tables of the registers, or draws.

    per_image: bytes of an image's draws, padded: those of a round.
    """

    mantissa: Any
    states: Any
    tables: Any
    draws: Any
    per_image: Any
    padded: Any
    order: Any


@triton.jit
def saturated(value):
    """Return values within 24 bits, symmetric, and 1 where they were outside."""
    clipped = tl.minimum(tl.maximum(value, -STATE_MAX), STATE_MAX)
    return clipped.to(tl.int32), (clipped != value).to(tl.int32)


@triton.jit
def product(factor, value, bits):
    """Return (factor * value) >> bits, floor, for factors up to 2^bits and values of 25 bits, without leaving 32."""
    return factor * (value >> bits) + ((factor * (value & ((1 << bits) - 1))) >> bits)


@triton.jit
def kept(state, fraction):
    """Return sign(v) * ((|v| * fraction) >> 12), fraction 0..4096: a decay truncated toward zero."""
    size = product(fraction, tl.abs(state), 12)
    return tl.where(state < 0, -size, size)


@triton.jit
def lanes_of(work, B: tl.constexpr):
    """Return lanes, which of them are alive, image and place within it."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < tl.cast(work.images, tl.int64) * work.size
    return lane, live, lane // work.size, (lane % work.size).to(tl.int32)


@triton.jit
def summed(work, image, t, place, live):
    """Return the synaptic sums of step t."""
    at = work.sums + image * work.per_image + tl.cast(t, tl.int64) * work.per_step + place
    return tl.load(at, mask=live, other=0)


@triton.jit
def decay_of(decays, register, t, neuron, live, MODE: tl.constexpr):
    """Return the decays of round t; neuron: image, place within it, number in the order of draws."""
    image, place, number = neuron
    if MODE == CONSTANT:
        return tl.load(decays.mantissa + place * 0)
    elif MODE == PER_NEURON:
        return tl.load(decays.mantissa + place, mask=live, other=0)
    elif MODE == REGISTER:
        return tl.load(decays.mantissa + (register & 255).to(tl.int32))
    else:
        at = decays.draws + image * decays.per_image + tl.cast(t, tl.int64) * decays.padded + number
        return tl.load(decays.mantissa + tl.load(at, mask=live, other=0).to(tl.int32))


@triton.jit
def left_of(m, theta, SUBTRACT: tl.constexpr):
    """Return what a spike leaves of membrane potentials."""
    return m - theta if SUBTRACT else m * 0


@triton.jit
def lif_steps(
    work, levels, decays, MODE: tl.constexpr, HELD: tl.constexpr, SUBTRACT: tl.constexpr, LATE: tl.constexpr,
    FIRES: tl.constexpr, RECORD: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Move Lif neurons over a span: `integer.current`, `leak` or `leak_after`, floor, `fire`."""
    lane, live, image, place = lanes_of(work, B)
    theta = tl.load(levels.threshold + place % decays.order.channels, mask=live, other=STATE_MAX)
    floor = tl.load(levels.floor + place % decays.order.channels, mask=live, other=0)
    bias = tl.load(levels.bias + place % levels.period, mask=live, other=0).to(tl.int64)
    m = tl.load(levels.state + lane, mask=live, other=0)
    register, number = tl.full((B,), 0, tl.uint32), number_of(place, decays.order)
    if MODE == REGISTER:
        register = tl.load(decays.states + lane, mask=live, other=0).to(tl.uint32, bitcast=True)
    far, neuron = (number >= decays.order.first).to(tl.int32), (image, place, number)
    decay, clips = decay_of(decays, register, 0, neuron, live, MODE), tl.full((B,), 0, tl.int32)
    for t in range(work.steps):
        x, outside = saturated((summed(work, image, t, place, live).to(tl.int64) << levels.f) + bias)
        clips += outside
        if not HELD:
            decay = decay_of(decays, register, t, neuron, live, MODE)
        after = x + product(decay, m - x, levels.k)
        if LATE:
            after = tl.where(m > theta, left_of(after, theta, SUBTRACT), after)
        m, outside = saturated(after)
        clips += outside
        m = tl.maximum(m, floor)
        at = (image * work.steps + t) * work.size + place
        if FIRES:
            tl.store(work.out + at, (m > theta).to(tl.int8), mask=live)
        if RECORD:
            tl.store(work.record + at, m, mask=live)
        if not LATE:
            m = tl.where(m > theta, left_of(m, theta, SUBTRACT), m)
        if MODE == REGISTER and not HELD:
            register = moved(register, decays.tables, far)
    tl.store(levels.state + lane, m, mask=live)
    if MODE == REGISTER:
        tl.store(decays.states + lane, register.to(tl.int32, bitcast=True), mask=live)
    tl.store(work.clipped + lane, clips, mask=live)


@triton.jit
def wrapped(value):
    """Return values with one excursion from (-2^23, 2^23] folded back by 2^24."""
    return tl.where(value > HALF, value - 2 * HALF, tl.where(value <= -HALF, value + 2 * HALF, value))


@triton.jit
def cuba_steps(work, levels, channels, FIRES: tl.constexpr, RECORD: tl.constexpr, B: tl.constexpr):
    """Move Cuba neurons over a span: `integer.cuba`, then `fire`."""
    lane, live, image, place = lanes_of(work, B)
    theta = tl.load(levels.threshold + place % channels, mask=live, other=STATE_MAX)
    bias = tl.load(levels.bias + place % levels.period, mask=live, other=0)
    u = tl.load(levels.current + lane, mask=live, other=0)
    v = tl.load(levels.state + lane, mask=live, other=0)
    clips = tl.full((B,), 0, tl.int32)
    for t in range(work.steps):
        total = summed(work, image, t, place, live)
        u = wrapped(kept(u, levels.keep_current) + (total << levels.f))
        v, clipped = saturated(kept(v, levels.keep_voltage) + u + bias)
        clips += clipped
        fired = v > theta
        at = (image * work.steps + t) * work.size + place
        if FIRES:
            tl.store(work.out + at, fired.to(tl.int8), mask=live)
        if RECORD:
            tl.store(work.record + at, v, mask=live)
        v = tl.where(fired, 0, v)
    tl.store(levels.current + lane, u, mask=live)
    tl.store(levels.state + lane, v, mask=live)
    tl.store(work.clipped + lane, clips, mask=live)
