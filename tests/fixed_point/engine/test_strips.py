"""Windows that share their bytes: how they lie in memory, and that products of them equal the definition."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba import njit

from randhet.fixed_point import engine, reference
from randhet.fixed_point.engine import choice
from randhet.fixed_point.engine.plan import Tile, make_synapse, windows
from randhet.fixed_point.engine.strips import make_strip
from randhet.fixed_point.engine.sums import Crowded, multiplied
from randhet.fixed_point.kernels import dense, matrix
from randhet.fixed_point.kernels.bundles import NO_STRIP, Source, Weights
from randhet.fixed_point.network import Constant, Conv, Drawn, Input, Layer, Lif, Network, ReadOut

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
needs_matrices = pytest.mark.skipif(not matrix.AVAILABLE, reason="this processor does not multiply matrices of bytes")


@st.composite
def convolutions(draw: st.DrawFn, width: int = 1, inputs: int = 1) -> tuple[Conv, tuple[int, int, int]]:
    """Any convolution, and what it reads, of which it sees at least one window."""
    kernel, stride, dilation = draw(PAIRS), draw(PAIRS), draw(PAIRS)
    padding, size = draw(st.tuples(*[st.integers(0, 2)] * 2)), draw(st.tuples(*[st.integers(1, 11)] * 2))
    assume(all(size[a] + 2 * padding[a] >= (kernel[a] - 1) * dilation[a] + 1 for a in (0, 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = rng.integers(-128, 128, (width, inputs, *kernel)).astype(np.int8)
    return Conv(weight, stride, padding, dilation=dilation), (inputs, *size)


@settings(max_examples=200, deadline=None)
@given(convolutions())
def test_slots_hold_what_windows_see(case: tuple[Conv, tuple[int, int, int]]) -> None:
    """Every tap's slot is its input pixel; the next pixel of a row sees the next; a strip's rows hold its windows."""
    strip, window, operation = make_strip(*case), windows(*case), case[0]
    if window.shape[1] <= np.prod(operation.stride):
        assert strip is NO_STRIP
        return
    np.testing.assert_array_equal(strip.slots[strip.places], window)
    lines = strip.places.reshape(-1, strip.line, window.shape[1])
    np.testing.assert_array_equal(np.diff(lines, axis=1), 1)
    first = np.arange(len(lines)) * strip.stride * strip.row
    assert (lines.min(axis=(1, 2)) >= first).all()
    assert (lines.max(axis=(1, 2)) < first + strip.tall * strip.row).all()
    assert len(strip.slots) == first[-1] + strip.tall * strip.row


@njit
def made(source: Source, wide: np.ndarray, full: Crowded, low: int, high: int, sums: np.ndarray) -> int:
    """Sums of the pixels low..high - 1, each call's behind those of the one before."""
    pixel, n, padded = low, len(full.at), len(sums) // (len(source.window) * len(full.at) + matrix.ROWS)
    while pixel < high:
        pixel += dense.ahead(source, wide, full, pixel, high, sums, (pixel - low) * n * padded)
    return pixel


def sums_of(source: Source, tile: Tile, low: int, high: int) -> tuple[np.ndarray, int]:
    """Sums (steps, channels, pixels low..high - 1) of all steps, and how many rows were laid out at once."""
    full, _ = multiplied(source, Weights(tile.weight, tile.packed, tile.wide, -1))
    steps, padded = len(source.values), -(-tile.width // 64) * 64
    sums = np.zeros((len(source.window) * steps + matrix.ROWS) * padded, np.int32)
    assert made(source, tile.wide, full, low, high, sums) == high
    found = sums.reshape(-1, padded)[: (high - low) * steps].reshape(high - low, steps, padded)
    return found.transpose(1, 2, 0)[:, : tile.width], full.rows


@needs_matrices
@settings(max_examples=60, deadline=None)
@given(convolutions(70, 64), st.integers(1, 40), st.data())
def test_products_of_strips(case: tuple[Conv, tuple[int, int, int]], steps: int, data: st.DataObject) -> None:
    """Any band of pixels against a sum over the taps in 64 bit, whether windows are shared or collected."""
    operation, shape = case
    synapse = make_synapse(operation, shape, 255)
    high = data.draw(st.integers(1, synapse.pixels))
    low = data.draw(st.integers(0, high - 1))
    values = np.random.default_rng(steps).integers(0, 256, (steps, shape[1] * shape[2], 64), dtype=np.uint8)
    shown = values.astype(np.int64).reshape(steps, *shape[1:], 64).transpose(0, 3, 1, 2)
    expected = reference.operate(operation, [shown]).reshape(steps, 70, -1)[:, :, low:high]
    for tile in synapse.tiles:
        found, _ = sums_of(synapse.reads(tile, values), tile, low, high)
        np.testing.assert_array_equal(found, expected[:, tile.channels])


@needs_matrices
@pytest.mark.parametrize(
    ("steps", "size", "stride", "inputs", "rows"),
    [
        (8, (32, 32), 1, 128, 5),
        (8, (8, 8), 1, 512, 4),
        # one row of 32 steps; rows that are too short to fill the matrices; a row that no cache holds
        (32, (32, 32), 1, 128, 1),
        (8, (9, 2), 1, 64, 0),
        (32, (3, 200), 1, 128, 0),
        (8, (8, 8), 1, 96, 0),
        (8, (17, 16), 2, 256, 3),
    ],
)
def test_when_windows_are_shared(steps: int, size: tuple[int, int], stride: int, inputs: int, rows: int) -> None:
    """How many rows are laid out at once, by hand; what is laid out gives the same sums."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (64, inputs, 3, 3)).astype(np.int8)
    operation = Conv(weight, (stride, stride), (1, 1))
    synapse = make_synapse(operation, (inputs, *size), 1)
    values = (rng.random((steps, size[0] * size[1], inputs)) < 0.2).astype(np.uint8)
    shown = values.astype(np.int64).reshape(steps, *size, inputs).transpose(0, 3, 1, 2)
    found, laid = sums_of(synapse.reads(synapse.tiles[0], values), synapse.tiles[0], 0, synapse.pixels)
    assert laid == rows
    expected = reference.operate(operation, [shown]).reshape(steps, 64, -1)
    np.testing.assert_array_equal(found, expected[:, synapse.tiles[0].channels])


def network(steps: int, stride: int) -> Network:
    """Layers of 64 and 128 channels behind each other, strides, groups, two kinds of decay, a core inside a channel."""
    rng, ints = np.random.default_rng(steps), lambda value, count: np.full(count, value, np.int32)

    def conv(out: int, into: int, stride: int = 1, groups: int = 1) -> Conv:
        weight = rng.integers(-127, 128, (out, into // groups, 3, 3)).astype(np.int8)
        return Conv(weight, (stride, stride), (1, 1), groups=groups)

    drawn = Drawn(neurons_per_core=200)
    layers = (
        Layer("input", Input((3, 12, 12))),
        Layer("stem", conv(64, 3), (0,), Lif(ints(20_000 << 6, 64), ints(500, 64), drawn)),
        Layer("a", conv(128, 64, stride), (1,), Lif(ints(600 << 6, 128), ints(500, 128), drawn)),
        Layer("b", conv(128, 128, groups=2), (2,), Lif(ints(100 << 6, 128), ints(500, 128), Constant(190))),
        Layer("c", conv(65, 128, 2), (3,), Lif(ints(300 << 6, 65), ints(500, 65), drawn, reset="subtract")),
        Layer("read", conv(3, 65), (4,), ReadOut(ints(0, 3))),
    )
    return Network(layers, steps=steps)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("steps", "stride"), [(1, 1), (3, 2), (8, 1), (11, 2), (35, 1)])
def test_networks_of_wide_layers_equal_the_reference(steps: int, stride: int, threads: int) -> None:
    """Every step multiplied, and those that are fuller than others; one image is split into bands by three threads."""
    net, probes = network(steps, stride), ["a", "b", "c"]
    images = np.random.default_rng(1).integers(0, 256, (1, 3, 12, 12), dtype=np.uint8)
    expected = reference.run(net, images, seed=1, probes=probes)
    assert all(expected.spikes[name] > 0 for name in probes)
    for share in (-1.0, 0.1):
        with patch.object(choice, "limit", lambda inputs, share=share: int(share * inputs)):
            assert_equal(engine.run(net, images, seed=1, probes=probes, threads=threads), expected)
