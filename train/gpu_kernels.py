"""LIF neurons over T steps as Triton kernels, forward and backward, operation for operation those of `train.kernels`.

One lane holds one neuron of one image through all steps. Nothing is kept between the passes: backward computes the
membrane potentials again from the currents, into scratch memory, and draws the decays again from their counters.
Kernels use Triton's built-in operations only, so that they run in its interpreter whenever Triton was imported.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from randhet.train.kernels import BITS

CONSTANT: Any = tl.constexpr(0)
STEP: Any = tl.constexpr(1)
FORWARD: Any = tl.constexpr(2)
SHIFT: Any = tl.constexpr(32 - BITS)


class Steps(NamedTuple):
    """Currents x, `stride` elements from one step to the next (0: the same); elements of a step, and steps."""

    x: Any
    stride: Any
    size: Any
    steps: Any


class Draws(NamedTuple):
    """Keys (T, 2) and table of drawn decays, whose first element has the number `first`; or one table per period."""

    keys: Any
    table: Any
    first: Any
    period: Any


class Slopes(NamedTuple):
    """Threshold theta; half and scale of the surrogate gradient half / (1 + (scale * (m - theta))^2)."""

    theta: Any
    half: Any
    scale: Any


@triton.jit
def mixed(counter, first, second):
    """Return 32 bits of a counter and two keys (uint32), as `kernels.mixed`."""
    h = counter ^ first
    h = (h ^ (h >> 16)) * tl.full((1,), 0x7FEB352D, tl.uint32)
    h = h ^ second
    h = (h ^ (h >> 15)) * tl.full((1,), 0x846CA68B, tl.uint32)
    return h ^ (h >> 16)


@triton.jit
def decays_at(draws, t, lane, live, MODE: tl.constexpr):
    """Return the decays of step t: drawn, or given for each element of a period."""
    if MODE == CONSTANT:
        return tl.load(draws.table + lane % draws.period, mask=live, other=0.0)
    else:
        at = draws.keys + (t if MODE == STEP else 0) * 2
        first = tl.load(at).to(tl.uint32, bitcast=True)
        second = tl.load(at + 1).to(tl.uint32, bitcast=True)
        index = mixed((lane + draws.first).to(tl.uint32), first, second) >> SHIFT
        return tl.load(draws.table + index.to(tl.int32))


@triton.jit
def after_reset(m, theta, SUBTRACT: tl.constexpr):
    """Return what a spike leaves of membrane potentials; these themselves where there is none."""
    return tl.where(m > theta, m - theta if SUBTRACT else m * 0.0, m)


@triton.jit
def current(work, t, lane, live):
    """Return the currents of step t as float32."""
    return tl.load(work.x + tl.cast(t, tl.int64) * work.stride + lane, mask=live, other=0.0).to(tl.float32)


@triton.jit
def integrated(m, x, tau, theta, SUBTRACT: tl.constexpr):
    """Return x + tau*(m after its reset - x)."""
    return x + tau * (after_reset(m, theta, SUBTRACT) - x)


@triton.jit
def forward(work, draws, slopes, spikes, MODE: tl.constexpr, SUBTRACT: tl.constexpr, B: tl.constexpr):
    """spikes (T, size) of the currents."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < work.size
    m = tl.full((B,), 0.0, tl.float32)
    for t in range(work.steps):
        m = integrated(m, current(work, t, lane, live), decays_at(draws, t, lane, live, MODE), slopes.theta, SUBTRACT)
        fired = (m > slopes.theta).to(spikes.dtype.element_ty)
        tl.store(spikes + tl.cast(t, tl.int64) * work.size + lane, fired, mask=live)


@triton.jit
def backward(
    work, draws, slopes, grads, MODE: tl.constexpr, SUBTRACT: tl.constexpr, LEARNED: tl.constexpr, B: tl.constexpr
):
    """Gradients by currents, and by decays where they are learned; grads: of the spikes, by x, by tau, scratch."""
    given, by_x, by_tau, scratch = grads
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live, theta = lane < work.size, slopes.theta
    m = tl.full((B,), 0.0, tl.float32)
    for t in range(work.steps):
        m = integrated(m, current(work, t, lane, live), decays_at(draws, t, lane, live, MODE), theta, SUBTRACT)
        tl.store(scratch + tl.cast(t, tl.int64) * work.size + lane, m, mask=live)
    # the lanes that read the scratch may be held by other threads than those that wrote it
    tl.debug_barrier()
    carried, own = tl.full((B,), 0.0, tl.float32), tl.full((B,), 0.0, tl.float32)
    for back in range(work.steps):
        t = work.steps - 1 - back
        at = tl.cast(t, tl.int64) * work.size + lane
        m, tau = tl.load(scratch + at, mask=live, other=0.0), decays_at(draws, t, lane, live, MODE)
        distance = slopes.scale * (m - theta)
        passed = tl.load(given + at, mask=live, other=0.0).to(tl.float32) * (slopes.half / (1.0 + distance * distance))
        # a membrane potential that was set to 0 passes nothing on, m - theta passes all
        passed = (carried if SUBTRACT else tl.where(m > theta, 0.0, carried)) + passed
        if LEARNED:
            before = tl.load(scratch + at - work.size, mask=live & (at >= work.size), other=0.0)
            own += passed * (after_reset(before, theta, SUBTRACT) - current(work, t, lane, live))
        carried = passed * tau
        tl.store(by_x + at, (passed - carried).to(by_x.dtype.element_ty), mask=live)
    if LEARNED:
        tl.store(by_tau + lane, own, mask=live)
