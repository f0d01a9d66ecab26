"""The fast engine against the reference: any network, any batch, any number of threads; its kernels by themselves."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from strategies import runs

from hardware_tests.random_networks import Run
from randhet.base.errors import RandhetError
from randhet.fixed_point import engine, reference
from randhet.fixed_point.engine import calls, choice
from randhet.fixed_point.engine.plan import columns, make_synapse
from randhet.fixed_point.generator import core_seed, draw, jump
from randhet.fixed_point.kernels import dense, matrix, registers, vectors
from randhet.fixed_point.kernels import draws as blocks
from randhet.fixed_point.kernels.blocks import fire_drawn, fire_given
from randhet.fixed_point.kernels.bundles import Levels, Row, Source
from randhet.fixed_point.network import (
    Add,
    Constant,
    Conv,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
    Reset,
    Sampling,
    SumPool,
)

LIMITS = {"measured": choice.limit, "always": lambda inputs: -1, "half": lambda inputs: inputs // 2}
"""Where the engine multiplies: where it is quicker here, at every step it can, at the fuller ones."""


@settings(max_examples=120, deadline=None)
@given(runs(), st.integers(1, 4), st.integers(1, 3), st.sampled_from(sorted(LIMITS)))
def test_any_network_equals_the_reference(run: Run, batch: int, threads: int, multiplied: str) -> None:
    place = {"seed": run.seed, "first_image": run.first_image, "probes": run.names}
    expected = reference.run(run.network, run.images, **place)
    with patch.object(choice, "limit", LIMITS[multiplied]):
        found = engine.run(run.network, run.images, **place, batch=batch, threads=threads)
    assert_equal(found, expected)


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def wide(width: int = 96, pixels: int = 8, per_core: int = 128, reset: Reset = "zero") -> Network:
    """Wide enough for several tiles, cores of several channels, a fuller and a smaller last core, graded sums."""
    rng = np.random.default_rng(2)

    def conv(out: int, into: int) -> Conv:
        return Conv(rng.integers(-127, 128, (out, into, 3, 3)).astype(np.int8), padding=(1, 1))

    def neuron(level: int) -> Lif:
        return Lif(ints(level << 6, width), ints(500, width), Drawn(neurons_per_core=per_core), reset=reset)

    spread = int(60 * width**0.5)

    layers = (
        Layer("input", Input((3, pixels, pixels))),
        Layer("stem", conv(width, 3), (0,), neuron(30_000)),
        Layer("a", conv(width, width), (1,), neuron(2 * spread)),
        Layer("sum", Add(), (1, 2)),
        Layer("b", conv(width, width), (3,), neuron(3 * spread)),
        Layer("sum2", Add(), (3, 4)),
        Layer("pool", SumPool((pixels, pixels), (pixels, pixels)), (5,)),
        Layer("flat", Flatten(), (6,)),
        Layer("read", Dense(rng.integers(-9, 9, (10, width)).astype(np.int8)), (7,), ReadOut(ints(0, 10))),
    )
    return Network(layers, steps=2)


@pytest.mark.parametrize("multiplied", ["measured", "always"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("width", "per_core"), [(96, 128), (97, 1024), (320, 192), (40, 64), (33, 48)])
def test_wide_layers_equal_the_reference(width: int, per_core: int, threads: int, multiplied: str) -> None:
    # both resets, each with every other way of making sums
    network = wide(width, per_core=per_core, reset="subtract" if (threads == 2) == (multiplied == "always") else "zero")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    probes = ["a", "b", "sum2"]
    expected = reference.run(network, images, seed=1, probes=probes, first_image=7)
    assert 0 < expected.spikes["b"] < 3 * 2 * width * 64
    with patch.object(choice, "limit", LIMITS[multiplied]):
        found = engine.run(network, images, seed=1, probes=probes, first_image=7, threads=threads)
    assert_equal(found, expected)


def test_sums_beyond_sixteen_bits_and_saturation() -> None:
    """5,000 inputs at weight 127: every int16 chunk is filled to its limit, and the current leaves 24 bits."""
    weight = np.full((2, 5000), 127, np.int8)
    weight[1] = -127
    layers = (
        Layer("input", Input((5000, 1, 1))),
        Layer("one", Dense(np.eye(5000, dtype=np.int8)), (0,), Lif(ints(1, 5000), ints(9000, 5000), Constant(0))),
        Layer("all", Dense(weight), (1,), Lif(ints(5, 2), ints(0, 2), f=6)),
    )
    network = Network(layers, steps=2)
    images = np.full((1, 5000, 1, 1), 255, np.uint8)
    expected = reference.run(network, images, probes=["all"])
    assert expected.saturations == 4
    assert_equal(engine.run(network, images, probes=["all"]), expected)


@pytest.mark.skipif(not dense.AVAILABLE, reason="this processor has no instruction for it")
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([1, 3, 4, 8, 60, 64, 68, 81, 128, 516]),
    st.sampled_from([1, 63, 64, 65, 130]),
    st.sampled_from([1, 3, 7, 15, 100, 127, 255]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_products_of_windows(steps: int, inputs: int, width: int, top: int, ends: bool, seed: int) -> None:
    """Sums by multiplication at chosen steps against a sum over the taps in 64 bit; nothing else is written."""
    rng = np.random.default_rng(seed)
    shape = width, inputs, 3, 2
    # where every weight and value is at its end, so are sums in short numbers
    weight = np.full(shape, rng.choice([-128, 127])) if ends else rng.integers(-128, 128, shape)
    operation = Conv(weight.astype(np.int8), (2, 1), (1, 0))
    (tile, *_), window = (synapse := make_synapse(operation, (inputs, 4, 3), top)).tiles, synapse.window
    if not dense.fits(inputs, steps, synapse.planes):
        assert dense.BY is vectors
        assert (inputs % vectors.INPUTS and steps > 1) or (vectors.FORM.short and top == 255)
        return
    values = rng.integers(top if ends else 0, top + 1, (steps, 12, inputs), dtype=np.uint8)
    chosen = rng.random(steps) < 0.7
    source = Source(values, window, tile.first, inputs, synapse.planes)
    multiplied, rank = dense.arranged(chosen), np.cumsum(chosen) - 1
    assert set(multiplied) == set(np.flatnonzero(chosen))
    group, space, seen = dense.together(multiplied, 6 * inputs)
    planes = values.astype(np.int64).reshape(steps, 4, 3, inputs).transpose(0, 3, 1, 2)
    expected = reference.operate(operation, [planes]).reshape(steps, width, -1)
    padded, activity = -(-tile.weight.shape[1] // 64) * 64, np.full(seen, 7, np.uint8)
    if dense.BY is matrix:
        clear(activity, 6 * inputs)
    sums = np.full((2 + space) * padded, 99, np.int32)
    for pixel in range(0, synapse.pixels if len(multiplied) else 0, group):
        count = min(group, synapse.pixels - pixel)
        dense.products(source, tile.wide, multiplied * 12 * inputs, activity, pixel, count, sums, padded)
        rows = sums.reshape(-1, padded)
        for j in range(count):
            found = rows[1 + j * len(multiplied) + rank[chosen], : tile.weight.shape[1]]
            np.testing.assert_array_equal(found, expected[chosen][:, tile.channels, pixel + j])
        assert (rows[0] == 99).all()
        assert (rows[-1] == 99).all()


def clear(activity: np.ndarray, inputs: int) -> None:
    """Zeros behind the inputs of every row, as the kernel has them; what stands before is written by it."""
    apart, start = matrix.row_bytes(-(-inputs // matrix.BLOCK)), -activity.ctypes.data % matrix.BLOCK
    for row in range(matrix.ROWS):
        activity[start + row * apart + inputs : start + (row + 1) * apart] = 0


@njit
def collected(
    source: Source, at: np.ndarray, start: int, stop: int, pixel: int, activity: np.ndarray, apart: int
) -> None:
    """One call of `matrix.collect`, which any processor can make."""
    values, window, taps = source.values.reshape(-1), source.window.reshape(-1), source.window.shape[1]
    seen = matrix.Seen(values, at, start, stop, source.values.shape[2], window, pixel * taps, taps, source.per_tap)
    matrix.collect(seen, activity, 5, apart, source.per_tap)


@pytest.mark.parametrize("inputs", [3, 64, 81, 128])
def test_rows_of_activity_are_what_a_window_sees(inputs: int) -> None:
    """Taps outside are zeros, rows of steps lie apart, nothing else is written."""
    rng, window = np.random.default_rng(inputs), np.array([[0, 0, 0], [2, -1, 1]], np.int32)
    values, row = rng.integers(1, 255, (4, 3, inputs + 2), dtype=np.uint8), 3 * inputs
    source, at = Source(values, window, 1, inputs, 1), np.array([0, 2, 3]) * 3 * (inputs + 2) + 1
    activity, apart = np.full(5 + 2 * (row + 9), 7, np.uint8), row + 9
    collected(source, at, 1, 3, 1, activity, apart)
    rows = activity[5:].reshape(2, apart)
    for found, step in zip(rows, (2, 3)):
        assert found[:inputs].tolist() == values[step, 2, 1 : 1 + inputs].tolist()
        assert not found[inputs : 2 * inputs].any()
        assert found[2 * inputs : row].tolist() == values[step, 1, 1 : 1 + inputs].tolist()
        assert (found[row:] == 7).all()
    assert (activity[:5] == 7).all()


def test_vectors_multiply_steps_in_fours_where_enough_are_left() -> None:
    """Nine steps are two fours and one left over, too few; eleven fill a four by repeating the last."""
    nine, eleven = np.ones(9, np.bool_), np.ones(11, np.bool_)
    assert vectors.arranged(nine).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert nine.tolist() == [True] * 8 + [False]
    assert vectors.arranged(eleven).tolist() == [*range(11), 10]


def crowded(values: np.ndarray, inputs: int, limit: int) -> np.ndarray:
    found = np.ones(len(values), np.bool_)
    dense.crowded(Source(values, np.zeros((1, 1), np.int32), 0, inputs, 2), limit, found)
    return found


def test_steps_with_more_bits_than_the_limit_are_crowded() -> None:
    values = np.zeros((3, 5, 70), np.uint8)
    values[1, 2, 3:8] = 1
    values[2, 4, 66:69] = 3
    assert crowded(values, 70, 4).tolist() == [False, True, True]
    assert crowded(values, 70, 5).tolist() == [False, False, True]
    assert crowded(values, 68, 3).tolist() == [False, True, True]
    assert not crowded(values, 68, 6).any()


def test_the_choice_is_a_share() -> None:
    assert choice.LOWEST <= choice.break_even() <= choice.HIGHEST
    assert choice.limit(1000) == (int(1000 * choice.break_even()) if dense.AVAILABLE else 2**62)


@njit
def fire(table: np.ndarray, draws: np.ndarray, phase: int, k: int, before: np.ndarray) -> int:
    """One step of silent neurons whose membranes are 2^22: m = A * 2^22 >> k."""
    none, spikes = np.zeros(len(before), np.int32), np.zeros(len(before), np.uint8)
    threshold, membrane = np.full(len(before), 2**23 - 1, np.int32), np.full(len(before), 2**22, np.int32)
    row = Row(none, 0, 0, membrane, before, 0, spikes, 0, len(before))
    return fire_drawn(Levels(none, threshold, 6, k, 0), row, table, draws, phase * blocks.TOGETHER)


@njit
def entered(states: np.ndarray, phase: int) -> np.ndarray:
    """Blocks of registers of which `phase` pixels are over."""
    words, made = blocks.unrolled(states), np.zeros(len(states) * blocks.AHEAD, np.uint8)
    for channel in range(len(states)):
        blocks.put(made, blocks.place(channel), words[channel], phase)
    return made


@njit
def moved_on(draws: np.ndarray, by_shifts: bool) -> None:
    if by_shifts:
        blocks.draw_ahead_by_shifts(draws, len(draws))
    else:
        blocks.draw_ahead(draws, len(draws))


REGISTERS = st.lists(st.integers(1, 2**32 - 1), min_size=128, max_size=128)


@settings(deadline=None)
@given(REGISTERS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 2**32), st.booleans())
def test_draws_and_looked_up_decays(states: list[int], k: int, phase: int, seed: int, by_shifts: bool) -> None:
    """Nine draws in a row, from any of four pixels on, are those of registers clocked bit by bit, as are decays."""
    decays = np.random.default_rng(seed).integers(0, 2**k, 256)
    table, before = np.concatenate([decays & 0xFF, decays >> 8]).astype(np.uint8), np.zeros(128, np.int32)
    draws = entered(np.array(states, np.uint32), phase)
    for pixel in range(phase, phase + 9):
        if pixel % blocks.AHEAD == 0 and pixel > phase:
            moved_on(draws, by_shifts)
        states = [draw(state)[0] for state in states]
        assert fire(table, draws, pixel % blocks.AHEAD, k, before) == 0
        assert before.tolist() == [int(decays[state & 0xFF]) * 2**22 >> k for state in states]


@njit
def leaked(bias: np.ndarray, membrane: np.ndarray, decays: np.ndarray, k: int, before: np.ndarray) -> int:
    """One step of neurons whose current is their bias and that never fire."""
    none, spikes = np.zeros(len(before), np.int32), np.zeros(len(before), np.uint8)
    threshold = np.full(len(before), 2**23 - 1, np.int32)
    row = Row(none, 0, 0, membrane, before, 0, spikes, 0, len(before))
    return fire_given(Levels(bias, threshold, 6, k, 0), row, decays, 0)


STATES = st.one_of(
    st.integers(-(2**23) + 1, 2**23 - 1), st.sampled_from([-(2**23) + 1, -4097, -4096, -1, 0, 2**23 - 1])
)


@settings(deadline=None)
@given(
    st.lists(STATES, min_size=64, max_size=64),
    st.lists(STATES, min_size=64, max_size=64),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_the_leak_in_short_products_is_the_definition(x: list[int], m: list[int], k: int, seed: int) -> None:
    """m <- x + ((A*(m - x)) >> k) with Python's integers, to the ends of 24 bits and of every k."""
    decays = np.random.default_rng(seed).integers(0, 2**k, 64)
    decays[:2] = 0, 2**k - 1
    before = np.zeros(64, np.int32)
    leaked(np.array(x, np.int32), np.array(m, np.int32), decays.astype(np.int32), k, before)
    assert before.tolist() == [a + (int(decay) * (b - a) >> k) for a, b, decay in zip(x, m, decays)]


@njit
def reset(membrane: np.ndarray, threshold: np.ndarray, keep: int, before: np.ndarray, spikes: np.ndarray) -> int:
    """One step of neurons without leak whose current is their membrane potential, which then stays what it is."""
    none = np.zeros(len(before), np.int32)
    row = Row(none, 0, 0, membrane, before, 0, spikes, 0, len(before))
    return fire_given(Levels(membrane.copy(), threshold, 0, 12, keep), row, none, 0)


@settings(deadline=None)
@given(
    st.lists(STATES, min_size=64, max_size=64),
    st.lists(st.integers(1, 2**23 - 1), min_size=64, max_size=64),
    st.sampled_from(["zero", "subtract"]),
)
def test_what_a_spike_leaves(m: list[int], threshold: list[int], kind: Reset) -> None:
    """Zero or m - theta with Python's integers, to the ends of 24 bits."""
    membrane, before, spikes = np.array(m, np.int32), np.zeros(64, np.int32), np.zeros(64, np.uint8)
    tally = reset(membrane, np.array(threshold, np.int32), calls.kept(kind), before, spikes)
    fired = [a > b for a, b in zip(m, threshold)]
    assert before.tolist() == m
    assert (spikes == fired).all()
    assert tally == sum(fired) << 32
    left = {"zero": [0] * 64, "subtract": [a - b for a, b in zip(m, threshold)]}[kind]
    assert membrane.tolist() == [rest if spike else a for rest, spike, a in zip(left, fired, m)]


def signed_network() -> Network:
    """A signed input of four bits behind a sum and a pool, read as an image by a dense layer without a flatten."""
    layers = (
        Layer("input", Input((1, 2, 2), bits=4, signed=True)),
        Layer("sum", Add(), (0, 0)),
        Layer("pool", SumPool((1, 2), (1, 1)), (1,)),
        Layer("read", Dense(np.array([[1, 10], [0, -1]], np.int8)), (2,), ReadOut(ints(0, 2))),
    )
    return Network(layers, steps=1)


def test_signed_values_keep_their_sign_through_sums_and_pools() -> None:
    images = np.array([[[[-3, -3], [7, -8]]]], np.int8)
    found = engine.run(signed_network(), images, probes=["sum", "pool"])
    assert found.traces["sum"].output.ravel().tolist() == [-6, -6, 14, -16]
    assert found.traces["pool"].output.ravel().tolist() == [-12, -2]
    assert found.sums.tolist() == [[-32, 2]]


def test_a_dense_layer_reads_an_image_channel_by_channel() -> None:
    weight = np.array([[1, 10, 100, 0]], np.int8)
    layers = Layer("input", Input((2, 1, 2))), Layer("read", Dense(weight), (0,), ReadOut(ints(0, 1)))
    assert engine.run(Network(layers, 1), np.array([[[[1, 2]], [[3, 4]]]], np.uint8)).sums.tolist() == [[321]]


@pytest.mark.parametrize("sampling", ["step", "forward"])
def test_draws_to_the_last_image_that_has_a_number(sampling: Sampling) -> None:
    """Registers of image 2^62 - 2, whose draws have numbers beyond 64 bits, by Python's integers; and the one after."""
    count, steps, first, per_core = 5, 7, 2**62 - 2, 3
    table = np.arange(256).astype(np.uint16)
    # A = the draw, on a difference of 2^8 that is new at every step: what is left shows the draw
    neuron = Lif(ints(2**22, count), ints(2**8, count), Drawn(table, sampling, neurons_per_core=per_core), f=0)
    layers = Layer("input", Input((1, 1, 1))), Layer("it", Dense(np.zeros((count, 1), np.int8)), (0,), neuron)
    found = engine.run(
        Network(layers, steps), np.zeros((2, 1, 1, 1), np.uint8), seed=3, first_image=first, probes=["it"]
    )
    membrane = found.traces["it"].membrane
    assert membrane is not None
    for image, t, n in np.ndindex(2, steps, count):
        core, size = n // per_core, min(per_core, count - n // per_core * per_core)
        turn = (first + image) * steps + t if sampling == "step" else first + image
        state = jump(core_seed(3, 1, core), turn * size + n % per_core)
        before = int(membrane[image, t - 1, n]) if t else 0
        assert membrane[image, t, n] == 2**8 + (draw(state)[1] * (before - 2**8) >> 8)


@given(st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=9), st.integers(0, 2**40))
def test_the_jump_kernel_is_the_jump(states: list[int], distance: int) -> None:
    moved = np.array(states, np.uint32)
    registers.jump(moved, columns(distance))
    assert moved.tolist() == [jump(state, distance) for state in states]


def test_wrong_arguments_are_refused() -> None:
    network, images = wide(), np.zeros((1, 3, 8, 8), np.uint8)
    with pytest.raises(RandhetError, match="threads -1"):
        engine.run(network, images, threads=-1)
    with pytest.raises(RandhetError, match="first_image is -1"):
        engine.run(network, images, first_image=-1)
    with pytest.raises(RandhetError, match="first_image is 4611686018427387904"):
        engine.run(network, images, first_image=2**62)
