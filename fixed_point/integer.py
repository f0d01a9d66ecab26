"""The integer step of every neuron: pure functions on NumPy integer arrays, the definition of the deployed arithmetic.

States are signed 24 bit and saturate; functions that can saturate return how often they did. Source: fixed_point.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

STATE_BITS = 24
STATE_MAX = 2 ** (STATE_BITS - 1) - 1
"""Largest membrane or current, 8,388,607. The range is symmetric: -STATE_MAX..STATE_MAX."""
DECAY_BITS = 12
"""Width of the CUBA decay fields, 0..4095."""


def sat24(value: Int) -> tuple[Int, int]:
    """Saturate to -(2^23-1)..2^23-1; also return how many values lay outside."""
    outside = np.count_nonzero((value > STATE_MAX) | (value < -STATE_MAX))
    return np.clip(value, -STATE_MAX, STATE_MAX), int(outside)


def current(total: Int, bias: Int, f: int) -> tuple[Int, int]:
    """Compute x = sat24((a << f) + b): synaptic sum and bias to a current in membrane units."""
    return sat24((total << f) + bias)


def leak(membrane: Int, x: Int, decay: Int, k: int) -> tuple[Int, int]:
    """Compute m = sat24(x + ((A * (m - x)) >> k)), A in 0..2^k-1, floor shift: the step tau*m + (1-tau)*x."""
    return sat24(x + ((decay * (membrane - x)) >> k))


def leak_after(membrane: Int, x: Int, decay: Int, k: int, spike: Int, threshold: Int, reset: str) -> tuple[Int, int]:
    """Compute `leak` with the reset of the step before, spike s: sat24(x + ((A*(m - x)) >> k) - s*theta), or 0 where s.

    The first for "subtract", the second for "zero"; others raise ValueError.
    """
    moved = x + ((decay * (membrane - x)) >> k)
    return sat24(np.where(spike != 0, reset_to(moved, threshold, reset), moved))


def leak_by_addition(membrane: Int, x: Int, decay: Int, k: int) -> tuple[Int, int]:
    """Compute `leak` by additions and shifts: acc = (acc + (d if bit i of A else 0)) >> 1, i = 0..k-1."""
    difference = membrane - x
    accumulator = difference - difference
    for i in range(k):
        accumulator = (accumulator + np.where((decay >> i) & 1, difference, 0)) >> 1
    return sat24(x + accumulator)


def fire(membrane: Int, threshold: Int, reset: str = "zero") -> tuple[Int, Int]:
    """Return (s, m after it): s = 1 where m > theta (strict); there m becomes 0, or m - theta with "subtract"."""
    spike = membrane > threshold
    return spike.astype(np.int64), np.where(spike, reset_to(membrane, threshold, reset), membrane)


def reset_to(membrane: Int, threshold: Int, reset: str) -> Int | int:
    """Return what a spike leaves of m: 0 ("zero") or m - theta ("subtract"); others raise ValueError."""
    if reset == "zero":
        return 0
    if reset == "subtract":
        return membrane - threshold
    raise ValueError(f"reset is {reset!r}, it must be 'zero' or 'subtract'")


def wrap_once(value: Int) -> Int:
    """Fold one excursion back into (-2^23, 2^23] by +-2^24, exactly as Lava's bit-accurate LIF does (2^23 stays)."""
    half = 1 << (STATE_BITS - 1)
    return np.where(value > half, value - 2 * half, np.where(value <= -half, value + 2 * half, value))


def keep(state: Int, fraction: int) -> Int:
    """Compute sign(v) * ((|v| * fraction) >> 12), fraction 0..4096: a decay truncated toward zero."""
    return np.sign(state) * ((np.abs(state) * fraction) >> DECAY_BITS)


def cuba(u: Int, v: Int, total: Int, bias: Int, current_decay: int, voltage_decay: int, f: int) -> tuple[Int, Int, int]:
    """Compute one step of Loihi's CUBA LIF before its threshold: (u, v, saturations of v).

    u = wrap(keep(u, 4096 - current_decay - 1) + (a << f)); v = sat24(keep(v, 4096 - voltage_decay) + u + b).
    The offset of 1 sits on the current decay only. Source: lava.proc.lif.models.PyLifModelBitAcc, lava-nc 0.10.0.
    """
    unity = 1 << DECAY_BITS
    u = wrap_once(keep(u, unity - current_decay - 1) + (total << f))
    v, saturated = sat24(keep(v, unity - voltage_decay) + u + bias)
    return u, v, saturated
