"""Pooling in vectors against the definition: any window, any number of channels, bytes and signed values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randhet.fixed_point import reference
from randhet.fixed_point.engine.moves import logical, move
from randhet.fixed_point.network import MaxPool, Range, SumPool

AXES = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.parametrize("largest", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 3, 4, 7, 16, 21, 64, 149]), AXES, AXES, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_pools_are_the_definition_s(
    largest: bool, channels: int, kernel: tuple[int, int], stride: tuple[int, int], wide: bool, pad: bool, seed: int
) -> None:
    """Values to the ends of their types: 255 in bytes that stay bytes where the largest is sent, signed words else."""
    rng, size = np.random.default_rng(seed), (5, 4)
    low, high = (-(2**20), 2**20) if wide else (0, 255)
    values = rng.integers(low, high + 1, (2, 3, 20, channels)).astype(np.int32 if wide else np.uint8)
    values[0, 0] = low
    values[1, 2] = high
    # no window lies outside altogether
    padding = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
    operation = MaxPool(kernel, stride, padding) if largest else SumPool(kernel, stride)
    times = 1 if largest else kernel[0] * kernel[1]
    found = move(operation, [values], values, (channels, *size), Range(low * times, high * times))
    expected = np.stack([
        reference.operate(operation, [image]) for image in logical(values, 3, (channels, *size))
    ])  # fmt: skip
    assert found.dtype == (np.uint8 if not wide and high * times <= 255 else np.int32)
    np.testing.assert_array_equal(logical(found, 3, expected.shape[2:]), expected)
