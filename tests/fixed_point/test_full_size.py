"""SEW-ResNet19 as large as it is timed: 128-256-512 channels, T = 8, an image of 32x32, one neuron in ten firing."""

from __future__ import annotations

import pytest
from equality import assert_equal

from randhet.benchmarks.networks import SIZES, at_rate, integer, patches
from randhet.fixed_point import add_only, engine, reference

RATE = 0.1


def test_the_engines_equal_the_reference_at_full_size() -> None:
    image = patches(1, SIZES["full"].image_size)
    network, activity = integer(at_rate(SIZES["full"], RATE, image), image)
    assert activity.mean == pytest.approx(RATE, rel=0.1)
    # every other layer: traces of all would take another gigabyte, and spikes are counted in each
    probes = [layer.name for layer in network.layers][::2]
    expected = reference.run(network, image, seed=3, first_image=5, probes=probes)
    assert expected.traces.keys() == set(probes)
    assert min(expected.spikes.values()) > 0
    for run in (engine.run, add_only.run):
        assert_equal(run(network, image, seed=3, first_image=5, probes=probes, threads=2), expected)
