"""The add-only engine against the reference, its counts by brute force."""

from __future__ import annotations

import numpy as np
from equality import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cases

from randhet.fixed_point import add_only, reference
from randhet.fixed_point.network import (
    Constant,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
)


@settings(max_examples=80, deadline=None)
@given(cases(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**64 - 1), st.integers(0, 1000))
def test_any_network_equals_the_reference(
    case: tuple[Network, np.ndarray], batch: int, threads: int, seed: int, first: int
) -> None:
    network, images = case
    probes = [layer.name for layer in network.layers]
    expected = reference.run(network, images, seed=seed, first_image=first, probes=probes)
    found = add_only.run(network, images, seed=seed, first_image=first, probes=probes, batch=batch, threads=threads)
    assert_equal(found, expected)


def test_counts_are_those_of_the_spikes() -> None:
    """Additions of a padded, strided convolution counted spike by spike, tap by tap, bit by bit."""
    rng = np.random.default_rng(4)
    stem = Conv(rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8), stride=(2, 1), padding=(1, 1))
    layers = (
        Layer("input", Input((2, 5, 4))),
        Layer("stem", stem, (0,), Lif(np.full(3, 400, np.int32), np.zeros(3, np.int32), Constant(9), k=5)),
        Layer("flat", Flatten(), (1,)),
        Layer("read", Dense(rng.integers(-9, 9, (4, 36)).astype(np.int8)), (2,), ReadOut(np.zeros(4, np.int32))),
    )
    network = Network(layers, steps=3)
    images = rng.integers(0, 256, (2, 2, 5, 4), dtype=np.uint8)
    result, counts = add_only.run_counted(network, images, probes=["stem"], threads=1)
    bits = inside = 0
    for y in range(3):
        for x in range(4):
            for i in range(3):
                for j in range(3):
                    row, column = 2 * y + i - 1, x + j - 1
                    if 0 <= row < 5 and 0 <= column < 4:
                        inside += 1
                        bits += sum(int(value).bit_count() for value in images[:, :, row, column].ravel())
    assert counts["stem"].accumulates.tolist() == [3 * bits] * 3
    assert counts["stem"].dense_macs.tolist() == [2 * inside * 2 * 3] * 3
    assert counts["stem"].doublings.tolist() == [2 * 36 * 7] * 3
    assert counts["stem"].shifts.tolist() == [2 * 36 * (1 + 2 * 5)] * 3
    spikes = result.traces["stem"].output.sum(axis=(0, 2, 3, 4))
    assert counts["read"].accumulates.tolist() == (4 * spikes).tolist()
    assert result.operations is not None
    assert result.operations["multiply"] == 0
    assert result.operations["fetch"] == counts["stem"].accumulates.sum() + counts["read"].accumulates.sum()


def test_flattened_values_are_not_written_over_while_they_are_read() -> None:
    """A flattened layer of one pixel is a view of the one before, whose memory must not serve the layer that reads it.

    That layer has two tiles: the second reads what the first might have written over.
    """
    rng, size = np.random.default_rng(7), 1024
    neuron = Lif(np.full(size, 900, np.int32), np.full(size, 300, np.int32), Constant(128), k=8)
    layers = (
        Layer("input", Input((3, 1, 1))),
        Layer("first", Conv(rng.integers(-9, 9, (size, 3, 1, 1)).astype(np.int8)), (0,), neuron),
        Layer("flat", Flatten(), (1,)),
        Layer("second", Dense(rng.integers(-9, 9, (size, size)).astype(np.int8)), (2,), neuron),
        Layer("read", Dense(rng.integers(-9, 9, (4, size)).astype(np.int8)), (3,), ReadOut(np.zeros(4, np.int32))),
    )
    network, images = Network(layers, steps=6), rng.integers(0, 256, (3, 3, 1, 1), dtype=np.uint8)
    expected = reference.run(network, images, seed=0)
    assert min(expected.spikes.values()) > 0
    assert_equal(add_only.run(network, images, seed=0, batch=1, threads=1), expected)
