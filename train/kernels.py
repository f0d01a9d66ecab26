"""LIF neurons over T steps on the CPU, forward and backward each in one pass over memory (numba).

A neuron keeps no state between the passes: backward computes the membranes again from the currents and the decays
again from their counters, block by block in the cache. Currents are float32, or bfloat16 seen as uint16.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from randhet.base.errors import RandhetError
from randhet.train.threads import BLOCK

CONSTANT, STEP, FORWARD = 0, 1, 2
"""Where decays come from: an array; drawn at every step; drawn at step 0 and held."""
BITS = 12
_U32, _U15, _U16 = np.uint32, np.uint32(15), np.uint32(16)
_A, _B = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_SHIFT = np.uint32(32 - BITS)
_EVEN, _ONE = np.uint32(0x7FFF), np.uint32(1)


class Cell(NamedTuple):
    """What a neuron does: threshold, alpha of the surrogate gradient, whether a spike subtracts the threshold."""

    theta: float
    alpha: float
    subtract: bool


class Decays(NamedTuple):
    """Where decays come from: mode, keys of the hash (T, 2), a table of the distribution or of the neurons' own.

    first: number that the hash gives to the batch's first element, which depends on what other processes work on.
    """

    mode: int
    keys: np.ndarray
    table: np.ndarray
    first: int = 0


class Part(NamedTuple):
    """Neurons first..last of each `period` elements, over `steps` steps that lie `stride` elements apart in x."""

    steps: int
    stride: int
    period: int
    first: int
    last: int


def widen(value: Any) -> Any:
    """A stored number as float32."""
    raise RandhetError("widen is for compiled code")


def narrow(value: Any, like: Any) -> Any:
    """A float32 as it is stored: itself, or rounded to the nearest bfloat16, ties to even."""
    raise RandhetError("narrow is for compiled code")


@overload(widen, inline="always", strict=False)
def _widen(value: Any) -> Any:
    if value == types.uint16:
        return lambda value: _U32(_U32(value) << _U16).view(np.float32)
    return lambda value: value


@overload(narrow, inline="always", strict=False)
def _narrow(value: Any, like: Any) -> Any:
    if like == types.uint16:

        def rounded(value: Any, like: Any) -> Any:
            bits = np.float32(value).view(np.uint32)
            return np.uint16(_U32(_U32(bits + _EVEN) + _U32(_U32(bits >> _U16) & _ONE)) >> _U16)

        return rounded
    return lambda value, like: np.float32(value)


@njit(cache=True, nogil=True, inline="always")
def mixed(counter: Any, first: Any, second: Any) -> Any:
    """32 bits from a counter and two keys: the two-round multiply-xorshift hash of C. Wellons (lowbias32)."""
    h = _U32(_U32(counter) ^ first)
    h = _U32(_U32(h ^ _U32(h >> _U16)) * _A)
    h = _U32(h ^ second)
    h = _U32(_U32(h ^ _U32(h >> _U15)) * _B)
    return _U32(h ^ _U32(h >> _U16))


@njit(cache=True, nogil=True)
def hashes(out: np.ndarray, start: int, first: int, second: int) -> None:
    """The upper BITS bits of the hash of start + j under two keys, uint32."""
    for j in range(len(out)):
        out[j] = _U32(mixed(_U32(start + j), first, second) >> _SHIFT)


@njit(cache=True, nogil=True)
def look_up(tau: np.ndarray, table: np.ndarray, index: np.ndarray) -> None:
    """tau[j] = table[index[j]]."""
    for j in range(len(tau)):
        tau[j] = table[index[j]]


@njit(cache=True, nogil=True)
def fill(tau: np.ndarray, t: int, start: int, decays: Decays, index: np.ndarray) -> None:
    """The decays of step t for the neurons from `start` on; the table holds them where the mode is CONSTANT."""
    if decays.mode != CONSTANT:
        hashes(index, decays.first + start, decays.keys[t, 0], decays.keys[t, 1])
        look_up(tau, decays.table, index)
    elif len(decays.table) == 1:
        tau[:] = decays.table[0]
    else:
        tau[:] = decays.table[start : start + len(tau)]


@njit(cache=True, nogil=True, inline="always")
def after_reset(m: Any, theta: Any, subtract: Any) -> Any:
    """What a spike leaves of a membrane potential; the membrane potential itself where there is none."""
    left = m - theta if subtract else np.float32(0)
    return m if m <= theta else left


@njit(cache=True, nogil=True)
def integrate(x: np.ndarray, tau: np.ndarray, m: np.ndarray, theta: Any, subtract: Any) -> None:
    """m <- x + tau*(m after its reset - x), where m is the membrane potential before the reset of the last step."""
    for j in range(len(m)):
        value = widen(x[j])
        m[j] = value + tau[j] * (after_reset(m[j], theta, subtract) - value)


@njit(cache=True, nogil=True)
def spike(m: np.ndarray, spikes: np.ndarray, theta: Any) -> None:
    """1 where the membrane potential exceeds the threshold."""
    for j in range(len(m)):
        spikes[j] = narrow(np.float32(1) if m[j] > theta else np.float32(0), spikes[j])


@njit(cache=True, nogil=True, error_model="numpy")
def slopes(m: np.ndarray, grad: np.ndarray, open_: np.ndarray, theta: Any, alpha: Any, subtract: Any) -> None:
    """m <- grad * surrogate(m - theta); open_ <- 0 where the membrane potential was set to zero, else 1."""
    one, half, scale = np.float32(1), np.float32(alpha / 2), np.float32(np.pi / 2 * alpha)
    for j in range(len(m)):
        slope = scale * (m[j] - theta)
        open_[j] = one if subtract or m[j] <= theta else np.float32(0)
        m[j] = widen(grad[j]) * (half / (one + slope * slope))


@njit(cache=True, nogil=True)
def carry(own: np.ndarray, open_: np.ndarray, tau: np.ndarray, carried: np.ndarray, grad_x: np.ndarray) -> None:
    """d = own + open_*carried is the loss by the membrane; grad_x = (1 - tau)*d and carried <- tau*d."""
    for j in range(len(own)):
        passed = carried[j] * open_[j] + own[j]
        carried[j] = passed * tau[j]
        grad_x[j] = narrow(passed - carried[j], grad_x[j])


@njit(cache=True, nogil=True)
def tau_gradient(
    grad_tau: np.ndarray, own: np.ndarray, open_: np.ndarray, carried: np.ndarray,
    before: np.ndarray, x: np.ndarray, theta: Any, subtract: Any,
) -> None:  # fmt: skip
    """grad_tau += d * (m after the reset of the step before - x)."""
    for j in range(len(own)):
        previous = after_reset(before[j], theta, subtract)
        grad_tau[j] += (carried[j] * open_[j] + own[j]) * (previous - widen(x[j]))


@njit(cache=True, nogil=True)
def forward(x: np.ndarray, spikes: np.ndarray, u: np.ndarray, block: Part, decays: Decays, cell: Cell) -> None:
    """Spikes (T*M,) of currents (T*M,), or (M,) where the stride is 0, for the neurons of a part.

    u (T*M,) float32 becomes the membrane potential before the reset less the threshold; an empty one is left alone.
    """
    m, tau, index = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    total, theta = len(spikes) // block.steps, np.float32(cell.theta)
    for image in range(0, total, block.period):
        for start in range(block.first, block.last, BLOCK):
            # A block's membranes stay in the cache through all steps; they never go to memory
            size, neuron = min(BLOCK, block.last - start), image + start
            m[:] = 0
            for t in range(block.steps):
                if t == 0 or decays.mode == STEP:
                    fill(tau[:size], t, start, decays, index[:size])
                row, out = t * block.stride + neuron, t * total + neuron
                integrate(x[row : row + size], tau[:size], m[:size], theta, cell.subtract)
                spike(m[:size], spikes[out : out + size], theta)
                if len(u):
                    u[out : out + size] = m[:size] - theta


@njit(cache=True, nogil=True)
def backward(
    x: np.ndarray, grad: np.ndarray, grad_x: np.ndarray, grad_tau: np.ndarray, block: Part, decays: Decays, cell: Cell
) -> None:
    """grad_x (T*M,) from grad (T*M,); adds to grad_tau (period,) where that is not empty."""
    steps, drawn = block.steps, block.steps if decays.mode == STEP else 1
    m, tau = np.empty((steps + 1, BLOCK), np.float32), np.empty((drawn, BLOCK), np.float32)
    open_, carried, index = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint32)
    total, theta, subtract = len(grad) // steps, np.float32(cell.theta), cell.subtract
    for image in range(0, total, block.period):
        for start in range(block.first, block.last, BLOCK):
            size, neuron = min(BLOCK, block.last - start), image + start
            m[0] = 0
            for t in range(steps):
                if t < drawn:
                    fill(tau[t, :size], t, start, decays, index[:size])
                m[t + 1] = m[t]
                row = t * block.stride + neuron
                integrate(x[row : row + size], tau[min(t, drawn - 1), :size], m[t + 1, :size], theta, subtract)
            carried[:] = 0
            for t in range(steps - 1, -1, -1):
                own, row, out = m[t + 1, :size], t * block.stride + neuron, t * total + neuron
                # own turns from the membrane into its gradient here; step t - 1 still needs m[t], which stays
                slopes(own, grad[out : out + size], open_[:size], theta, cell.alpha, subtract)
                if len(grad_tau):
                    tau_gradient(
                        grad_tau[start : start + size], own, open_[:size], carried[:size],
                        m[t, :size], x[row : row + size], theta, subtract,
                    )  # fmt: skip
                carry(own, open_[:size], tau[min(t, drawn - 1), :size], carried[:size], grad_x[out : out + size])


@njit(cache=True, nogil=True)
def gated(
    slope: np.ndarray, grad: np.ndarray, spikes: np.ndarray, own: np.ndarray, open_: np.ndarray, subtract: Any
) -> None:
    """own <- grad * slope; open_ <- 0 where a spike set the membrane potential to zero, else 1."""
    one = np.float32(1)
    for j in range(len(own)):
        own[j] = widen(grad[j]) * slope[j]
        open_[j] = one if subtract else one - widen(spikes[j])


@njit(cache=True, nogil=True)
def backward_given(
    slope: np.ndarray, spikes: np.ndarray, grad: np.ndarray, grad_x: np.ndarray,
    block: Part, decays: Decays, subtract: Any,
) -> None:  # fmt: skip
    """grad_x (T*M,) from grad (T*M,) where d spike / d m is given, (T*M,) float32; of the rest tau is made again."""
    steps, drawn = block.steps, block.steps if decays.mode == STEP else 1
    tau, index = np.empty((drawn, BLOCK), np.float32), np.empty(BLOCK, np.uint32)
    own, open_, carried = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    total = len(grad) // steps
    for image in range(0, total, block.period):
        for start in range(block.first, block.last, BLOCK):
            size, neuron = min(BLOCK, block.last - start), image + start
            for t in range(drawn):
                fill(tau[t, :size], t, start, decays, index[:size])
            carried[:] = 0
            for t in range(steps - 1, -1, -1):
                here = slice(t * total + neuron, t * total + neuron + size)
                gated(slope[here], grad[here], spikes[here], own[:size], open_[:size], subtract)
                carry(own[:size], open_[:size], tau[min(t, drawn - 1), :size], carried[:size], grad_x[here])
