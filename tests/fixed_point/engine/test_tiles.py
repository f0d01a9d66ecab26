"""How the channels of a layer are cut into tiles: any number of them alike, and nothing is lost at an uneven end."""

from __future__ import annotations

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import given
from hypothesis import strategies as st

from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.plan import TILE_BYTES, make_synapse, tile_widths


@given(st.integers(1, 5000), st.integers(1, 40_000))
def test_tiles_hold_all_channels_in_whole_chunks_within_the_cache(channels: int, rows: int) -> None:
    widths = tile_widths(channels, rows)
    assert sum(widths) == channels
    assert all(width % 64 == 0 for width in widths[:-1])
    assert min(widths) > 0
    assert all(width * rows <= TILE_BYTES or width <= 64 for width in widths[:-1])
    most = max(TILE_BYTES // rows // 64, 1) * 64
    assert len(widths) <= -(-channels // most) + 1


@pytest.mark.parametrize(("channels", "tiles"), [(127, 2), (128, 2), (113, 2), (64, 1), (512, 8)])
def test_a_prime_number_of_channels_is_cut_as_its_neighbour(channels: int, tiles: int) -> None:
    """600 inputs of 3x3 taps; version 0.1 cut 127 channels into 127 tiles, 16 times slower than 128."""
    synapse = make_synapse(ir.Conv(np.ones((channels, 600, 3, 3), np.int8)), (600, 5, 5), 1)
    assert len(synapse.tiles) == tiles
    assert synapse.tiles[-1].channels.stop == channels


@pytest.mark.parametrize("groups", [1, 2])
def test_uneven_tiles_give_the_reference_s_integers(groups: int) -> None:
    """Two tiles a group, the second narrower, registers that begin inside a tile."""
    rng = np.random.default_rng(groups)
    inputs, channels = 300 * groups, 127 * groups
    weight = rng.integers(-127, 128, (channels, 300, 3, 3)).astype(np.int8)
    level = rng.integers(2**10, 2**14, channels), rng.integers(-999, 999, channels)
    neuron = ir.Lif(*level, ir.Drawn(neurons_per_core=37), f=2, reset="subtract")
    last = rng.integers(-9, 9, (3, 9 * channels)).astype(np.int8)
    layers = (
        ir.Layer("input", ir.Input((inputs, 3, 3), bits=1)),
        ir.Layer("conv", ir.Conv(weight, padding=(1, 1), groups=groups), (0,), neuron),
        ir.Layer("out", ir.Dense(last), (1,), ir.ReadOut(np.zeros(3, np.int64))),
    )
    network = ir.Network(layers, 3)
    images = (rng.random((2, inputs, 3, 3)) < 0.2).astype(np.uint8)
    names = [layer.name for layer in layers]
    expected = reference.run(network, images, seed=7, probes=names)
    for run in (engine.run, add_only.run):
        assert_equal(expected, run(network, images, seed=7, probes=names))
