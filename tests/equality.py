"""Integers are compared for equality, never with a tolerance."""

from __future__ import annotations

import numpy as np

from randhet.fixed_point.result import Result


def assert_equal(found: Result, expected: Result) -> None:
    """Two runs gave the same integers: sums, spikes, saturations and all traces."""
    assert np.array_equal(found.sums, expected.sums)
    assert np.array_equal(found.predictions, expected.predictions)
    assert found.spikes == expected.spikes
    assert found.saturations == expected.saturations
    assert found.traces.keys() == expected.traces.keys()
    for name, trace in expected.traces.items():
        assert np.array_equal(found.traces[name].output, trace.output), name
        assert (found.traces[name].membrane is None) == (trace.membrane is None), name
        if trace.membrane is not None:
            assert np.array_equal(found.traces[name].membrane, trace.membrane), name
