"""What drawing costs: the same integers, the interval of a median, a line for every rate."""

from __future__ import annotations

import json
import sys
from math import comb
from unittest.mock import patch

import numpy as np
import pytest

from randhet.benchmarks import decay_cost
from randhet.fixed_point import network as ir


def network(decay: ir.Decay) -> ir.Network:
    """Two layers of neurons."""
    ints = lambda value, count: np.full(count, value, np.int32)
    conv = ir.Conv(np.random.default_rng(0).integers(-9, 9, (5, 2, 3, 3)).astype(np.int8), padding=(1, 1))
    layers = (
        ir.Layer("input", ir.Input((2, 4, 4))),
        ir.Layer("conv", conv, (0,), ir.Lif(ints(900 << 6, 5), ints(7, 5), decay)),
        ir.Layer("flat", ir.Flatten(), (1,)),
        ir.Layer("read", ir.Dense(np.ones((3, 80), np.int8)), (2,), ir.ReadOut(ints(0, 3))),
    )
    return ir.Network(layers, steps=3)


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 2, 4, 4), dtype=np.uint8)


def test_every_constant_decay_is_drawn_and_integers_stay() -> None:
    drawn = decay_cost.drawing(network(ir.Constant(200)))
    decay = drawn.layers[1].lif and drawn.layers[1].lif.decay
    assert isinstance(decay, ir.Drawn)
    assert decay.table.tolist() == [200] * 256
    found = decay_cost.measured(network(ir.Constant(200)), IMAGES, rounds=3, threads=1)
    assert found["rounds"] == 3


def test_other_integers_are_refused() -> None:
    """A constant network whose counterpart computes something else has no comparison."""
    other = network(ir.Constant(20))
    with patch.object(decay_cost, "drawing", lambda given: other), pytest.raises(ValueError, match="same integers"):
        decay_cost.measured(network(ir.Constant(255)), IMAGES, rounds=1, threads=1)


@pytest.mark.parametrize("n", [1, 5, 6, 9, 60])
def test_the_interval_misses_the_median_in_at_most_a_twentieth(n: int) -> None:
    """The r-th value from either end is on the wrong side of the median if fewer than r of n are, each with 1 in 2."""
    low, high = decay_cost.interval([float(value) for value in range(n)])
    assert low + high == n - 1
    left_out = int(low)
    missed = lambda rank: 2 * sum(comb(n, i) for i in range(rank)) / 2**n
    # the smallest and largest value, 0 left out, are missed with probability 2 * P(none below)
    assert missed(left_out + 1) <= 0.05 or left_out == 0
    assert missed(left_out + 2) > 0.05


def test_a_line_for_every_rate(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["decay_cost", "--size", "tiny", "--rates", "0.2", "--rounds", "2", "--batch", "2", "--threads", "1"]
    with patch.object(sys, "argv", command):
        decay_cost.main()
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["rate"], found["rounds"], found["threads"]) == (0.2, 2, 1)
    assert found["cpu_ms_constant"] > 0
    assert found["holds"] == (found["cost"] <= decay_cost.LIMIT)
