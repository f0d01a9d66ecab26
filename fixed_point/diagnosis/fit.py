"""Which constants of a layer would explain what it gave: intervals of integers, intersected over all observations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import Conv, Dense
from randhet.fixed_point.reference import taps

Mask = NDArray[np.bool_]
MOST = 6000
"""Observations that weights are fitted to; the result is checked on these."""


@dataclass(frozen=True, eq=False)
class Window:
    """low..high: currents without bias that explain each value; due: what they should be, a << f; all one shape."""

    low: Int
    high: Int
    due: Int
    f: int

    @property
    def shift(self) -> tuple[Int, Int]:
        """Least and largest change of the current."""
        return self.low - self.due, self.high - self.due


def bias_shift(window: Window, odd: Mask) -> tuple[str, int, int] | None:
    """Find one shift per channel that explains all values, else per neuron: (place, least, largest), or None."""
    low, high = window.shift
    places: tuple[tuple[str, tuple[int, ...]], ...] = (("channel", (0, 1, 3, 4)), ("neuron", (0, 1)))
    for name, axes in places:
        over = tuple(axis for axis in axes if axis < odd.ndim)
        least, most, wrong = low.max(axis=over), high.min(axis=over), odd.any(axis=over)
        if (least <= most)[wrong].all():
            index = tuple(np.argwhere(wrong)[0])
            more = f" and {wrong.sum() - 1} others" if wrong.sum() > 1 else ""
            number = int(index[0]) if len(index) == 1 else tuple(map(int, index))
            return f"{name} {number}{more}", int(least[index]), int(most[index])
    return None


def current_window(membrane: Int, before: Int, decay: Int, k: int) -> tuple[Int, Int]:
    """Find the least and largest x with x + ((A*(m - x)) >> k) = M, for an M that is not cut off.

    M*2^k - A*m <= x*(2^k - A) < (M + 1)*2^k - A*m, and 2^k - A > 0.
    """
    rest = (1 << k) - decay
    low = -((decay * before - (membrane << k)) // rest)
    high = -((decay * before - ((membrane + 1) << k)) // rest) - 1
    return low, high


def tau_window(membrane: Int, before: Int, x: Int, k: int) -> tuple[Int, Int]:
    """Find the least and largest A in 0..2^k-1 with (A*(m - x)) >> k = M - x; least > largest where there is none."""
    difference, gained = before - x, membrane - x
    top = (1 << k) - 1
    size = np.maximum(np.abs(difference), 1)
    rising = difference > 0
    # (M - x)*2^k <= A*d < (M - x + 1)*2^k; for d < 0 both ends change places
    low = np.where(rising, -(-(gained << k) // size), ((-(gained + 1)) << k) // size + 1)
    high = np.where(rising, -(-((gained + 1) << k) // size) - 1, (-gained << k) // size)
    still = difference == 0
    low = np.where(still, np.where(gained == 0, 0, 1), np.maximum(low, 0))
    high = np.where(still, np.where(gained == 0, top, 0), np.minimum(high, top))
    return low, high


def start_window(membrane: Int, x: Int, decay: Int, k: int) -> tuple[Int, Int]:
    """Find the least and largest m with x + ((A*(m - x)) >> k) = M, for an M that is not cut off.

    (M - x)*2^k <= A*(m - x) < (M - x + 1)*2^k; where A = 0 any m will do, or none. Without one, least > largest.
    """
    gained, divisor = (membrane - x) << k, np.maximum(decay, 1)
    low = x - (-gained // divisor)
    high = x - (-(gained + (1 << k)) // divisor) - 1
    most = np.where(gained == 0, STATE_MAX, -STATE_MAX)
    return np.where(decay == 0, -most, low), np.where(decay == 0, most, high)


def patches(operation: Conv | Dense, read: Int, channel: int) -> Int:
    """List what each tap of an output channel sees, (images*T*positions, taps), taps in the order of the weights."""
    flat = read.reshape(-1, *read.shape[2:])
    if isinstance(operation, Dense):
        return flat.reshape(len(flat), -1)
    (py, px), (out, per_group, *kernel) = operation.padding, operation.weight.shape
    group = channel // (out // operation.groups)
    own = flat[:, group * per_group : (group + 1) * per_group]
    padded = np.pad(own, ((0, 0), (0, 0), (py, py), (px, px)))
    planes = [plane for _, _, plane in taps(padded, (kernel[0], kernel[1]), operation.stride, operation.dilation)]
    # (taps, images, channels, y, x) to (images, y, x, channels, taps)
    stacked = np.stack(planes).transpose(1, 3, 4, 2, 0)
    return stacked.reshape(-1, per_group * len(planes))


def weight_changes(
    operation: Conv | Dense, read: Int, window: Window, odd: Mask
) -> list[tuple[tuple[int, ...], int]] | None:
    """Find (index, change) of every wrong weight, for all channels with a wrong value; None if none explain."""
    changes: list[tuple[tuple[int, ...], int]] = []
    for channel in np.flatnonzero(odd.any(axis=tuple(i for i in range(odd.ndim) if i != 2))).tolist():
        row = _row(patches(operation, read, channel), window, odd, channel)
        if row is None:
            return None
        shape = operation.weight.shape[1:]
        changes += [((channel, *map(int, np.unravel_index(tap, shape))), int(row[tap])) for tap in np.flatnonzero(row)]
    return changes


def _row(inputs: Int, window: Window, odd: Mask, channel: int) -> Int | None:
    low, high = (side[:, :, channel].ravel() for side in window.shift)
    chosen = _chosen(odd[:, :, channel].ravel())
    inputs, low, high = inputs[chosen] << window.f, low[chosen], high[chosen]
    for attempt in (_one_weight, _many_weights):
        row = attempt(inputs, low, high)
        if row is not None and row.any() and _explains(inputs, row, low, high):
            return row
    return None


def _chosen(odd: Mask) -> Int:
    """Choose all wrong values, or evenly some, and evenly some right ones."""
    parts = [np.flatnonzero(odd), np.flatnonzero(~odd)]
    return np.concatenate([indices[:: max(1, 2 * len(indices) // MOST)] for indices in parts])


def _explains(inputs: Int, row: Int, low: Int, high: Int) -> bool:
    change = inputs @ row
    return bool(((low <= change) & (change <= high)).all())


def _one_weight(inputs: Int, low: Int, high: Int) -> Int | None:
    """Find the change of a single weight, by intersecting low/p .. high/p over all observations that see p > 0."""
    outside = (low > 0) | (high < 0)
    candidates = np.flatnonzero((inputs[outside] != 0).all(axis=0))
    for tap in candidates.tolist():
        active = inputs[:, tap] > 0
        least = int((-(-low[active] // inputs[active, tap])).max())
        most = int((high[active] // inputs[active, tap]).min())
        if least <= most:
            row = np.zeros(inputs.shape[1], np.int64)
            row[tap] = least if abs(least) <= abs(most) else most
            return row
    return None


def _many_weights(inputs: Int, low: Int, high: Int) -> Int:
    """Fit least squares to the middles of the intervals, narrow ones first in weight, rounded to whole weights."""
    narrow = 1 / (high - low + 1.0)
    middle = (low + high) / 2
    return np.rint(np.linalg.lstsq(inputs * narrow[:, None], middle * narrow, rcond=None)[0]).astype(np.int64)
