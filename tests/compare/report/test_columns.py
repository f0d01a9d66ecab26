"""Long runs are shown in stretches of steps with their means; short ones step by step."""

from __future__ import annotations

import numpy as np

from randhet.compare.report.figures import columns


def test_short_runs_stay_as_they_are() -> None:
    values, starts = columns(np.arange(16.0).reshape(2, 8))
    assert values.tolist() == np.arange(16.0).reshape(2, 8).tolist() and starts == list(range(8))


def test_long_runs_are_means_of_stretches_that_hold_every_step_once() -> None:
    for steps in (9, 18, 100, 301):
        given = np.random.default_rng(steps).random((3, steps))
        values, starts = columns(given)
        ends = [*starts[1:], steps]
        right = [[row[a:b].sum() / (b - a) for a, b in zip(starts, ends)] for row in given]
        assert np.allclose(values, right) and starts[0] == 0 and values.shape == (3, 8)
        lengths = np.diff([*starts, steps])
        assert lengths.max() - lengths.min() <= 1
