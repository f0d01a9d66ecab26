"""The integer step functions against Python's unbounded integers and Lava's own model."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from randhet.fixed_point import integer

TOP = 2**23 - 1
state = st.integers(-TOP, TOP)


def one(value: int) -> np.ndarray:
    return np.array([value], np.int64)


def clip(value: int) -> tuple[int, int]:
    return max(-TOP, min(TOP, value)), int(abs(value) > TOP)


@given(state, state, st.integers(1, 12), st.data())
@example(TOP, -TOP, 12, None)
def test_leak_is_the_floor_of_the_exact_fraction(m: int, x: int, k: int, data: st.DataObject | None) -> None:
    decay = 2**k - 1 if data is None else data.draw(st.integers(0, 2**k - 1))
    expected = clip(x + floor(Fraction(decay * (m - x), 2**k)))
    for leak in (integer.leak, integer.leak_by_addition):
        got, saturated = leak(one(m), one(x), one(decay), k)
        assert (int(got[0]), saturated) == expected


def test_both_leaks_agree_for_every_decay_at_the_edges() -> None:
    edges = np.array([-TOP, -TOP + 1, -2, -1, 0, 1, 2, TOP - 1, TOP], np.int64)
    m, x, decay = (axis.ravel() for axis in np.meshgrid(edges, edges, np.arange(4096)))
    assert (integer.leak(m, x, decay, 12)[0] == integer.leak_by_addition(m, x, decay, 12)[0]).all()


@given(st.integers(-(2**31) + 1, 2**31 - 1), state, st.integers(0, 16))
def test_current_saturates_and_counts(total: int, bias: int, f: int) -> None:
    got, saturated = integer.current(one(total), one(bias), f)
    assert (int(got[0]), saturated) == clip(total * 2**f + bias)


@given(state, st.integers(1, TOP))
def test_threshold_is_strict_and_a_spike_resets(m: int, threshold: int) -> None:
    for reset, left in (("zero", 0), ("subtract", m - threshold)):
        spike, after = integer.fire(one(m), one(threshold), reset)
        assert (int(spike[0]), int(after[0])) == ((1, left) if m > threshold else (0, m))
    assert integer.fire(one(threshold), one(threshold))[0][0] == 0


@given(st.integers(-(2**23) + 1, 2**23), state, st.integers(-(2**18), 2**18), state, st.data())
@example(2**23, TOP, 2**18, TOP, None)
@example(-(2**23) + 1, -TOP, -(2**18), -TOP, None)
def test_cuba_against_python_integers(u: int, v: int, total: int, bias: int, data: st.DataObject | None) -> None:
    """Currents up to |a << 6| = 2^24, decays to both ends: one fold brings every current back into 24 bits."""
    du, dv = (-1, 0) if data is None else (data.draw(st.integers(-1, 4095)), data.draw(st.integers(0, 4096)))

    def kept(value: int, fraction: int) -> int:
        return (abs(value) * fraction // 4096) * (1 if value >= 0 else -1)

    wide = kept(u, 4095 - du) + total * 64
    current = wide - 2**24 if wide > 2**23 else wide + 2**24 if wide <= -(2**23) else wide
    voltage, saturated = clip(kept(v, 4096 - dv) + current + bias)
    got = integer.cuba(one(u), one(v), one(total), one(bias), du, dv, 6)
    assert (int(got[0][0]), int(got[1][0]), got[2]) == (current, voltage, saturated)
    assert -(2**23) < current <= 2**23
