"""Messages between Lava processes: pools of packed spikes are those of the definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from randhet.fixed_point import reference
from randhet.fixed_point.network import MaxPool, SumPool
from randhet.lava_runtime.wire import Wire, any_of, in_order, summed

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 19), PAIRS, PAIRS, st.tuples(st.integers(0, 1), st.integers(0, 1)))
def test_a_pool_of_packed_spikes_is_the_reference_s(
    seed: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    padding = min(padding[0], kernel[0] // 2), min(padding[1], kernel[1] // 2)
    shape = (channels, 5, 4)
    spikes = (np.random.default_rng(seed).random((2, *shape)) < 0.2).astype(np.int64)
    pool = MaxPool(kernel, stride, padding)
    wanted = reference.operate(pool, [spikes])
    message = Wire(2, shape, 1).encode(spikes.reshape(2, channels, -1).swapaxes(1, 2).astype(np.uint8))
    out = Wire(2, wanted.shape[1:], 1)
    pooled = any_of(pool, message, shape)
    assert pooled.shape == out.packet
    assert np.array_equal(in_order(out.decode(pooled), wanted.shape[1:]), wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), PAIRS, st.one_of(PAIRS, st.none()))
def test_a_sum_pool_is_the_reference_s(seed: int, kernel: tuple[int, int], stride: tuple[int, int] | None) -> None:
    values = np.random.default_rng(seed).integers(-9, 10, (2, 3, 5, 4))
    pool = SumPool(kernel, stride or kernel)
    assert np.array_equal(summed(pool, values), reference.operate(pool, [values]))
