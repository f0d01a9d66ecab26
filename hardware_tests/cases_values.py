"""Neurons at the ends of their ranges, weights and inputs at theirs."""

from __future__ import annotations

import numpy as np

from hardware_tests.case import TOP, alone, byte, case, chain, column, ints, noise, pictures, plain, random
from randhet.fixed_point.network import (
    Add,
    Constant,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    PerNeuron,
    ReadOut,
    SumPool,
)

# --- saturation, threshold, decay -------------------------------------------------------------------------------------


@case
def _saturation_of_the_current() -> tuple[Network, np.ndarray]:
    """x one below, at, and one above each end of 24 bits, and far outside: (1 << 6) + b."""
    edges = (TOP - 65, TOP - 64, TOP - 63, TOP, -TOP + 63, -TOP + 64, -TOP + 65, -TOP)
    weight = byte([[1]] * 4 + [[-1]] * 4)
    neuron = Lif(np.full(8, TOP, np.int32), ints(*edges), Constant(77))
    return alone(neuron, weight, 6), column(1)


@case
def _saturation_by_the_sum() -> tuple[Network, np.ndarray]:
    """Sums of 512 * 127 * 255 shifted by 6 leave 24 bits both ways; the membrane walks from one end to the other."""
    weight = byte([[127] * 512, [-127] * 512, [127, -127] * 256, [127] * 511 + [-127]])
    images = np.concatenate([np.full((1, 512, 1, 1), 255, np.uint8), pictures(3, 2, 512, 1, 1)])
    return alone(plain(4, TOP, decay=200), weight, 5), images


@case
def _spikes_at_the_end_of_the_range() -> tuple[Network, np.ndarray]:
    """A saturated membrane against thresholds TOP (never), TOP - 1 (every step) and 1."""
    neuron = Lif(ints(TOP, TOP - 1, 1), ints(TOP, TOP, TOP), Constant(0))
    return alone(neuron, byte([[127]] * 3), 4), column(255)


@case
def _threshold_is_strict() -> tuple[Network, np.ndarray]:
    """m = x = 6400 + b without decay; thresholds one below, at and one above m."""
    neuron = Lif(ints(6399, 6400, 6401, 6406, 6407, 6408), ints(0, 0, 0, 7, 7, 7), Constant(0))
    return alone(neuron, byte([[1]] * 6), 3), column(100)


@case
def _threshold_one_and_negative_membranes() -> tuple[Network, np.ndarray]:
    neuron = Lif(ints(1, 1, 1, 1), ints(1, 2, 0, -1), Constant(0))
    return alone(neuron, byte([[0]] * 4), 3), column(9)


def _decays(k: int) -> tuple[Network, np.ndarray]:
    """Decays 0, 1, the middle, largest - 1, largest, with currents whose floor is not their truncation."""
    decay = np.array([0, 1, 2 ** (k - 1), max(0, 2**k - 2), 2**k - 1] * 2, np.uint16)
    weight = byte([[3]] * 5 + [[-3]] * 5)
    bias = ints(*[5] * 5, *[-5] * 5)
    neuron = Lif(np.full(10, 9000, np.int32), bias, PerNeuron(decay), k=k)
    return alone(neuron, weight, 9), column(77)


@case
def _decays_of_1_bit() -> tuple[Network, np.ndarray]:
    return _decays(1)


@case
def _decays_of_8_bits() -> tuple[Network, np.ndarray]:
    return _decays(8)


@case
def _decays_of_12_bits() -> tuple[Network, np.ndarray]:
    return _decays(12)


@case
def _largest_difference_times_largest_decay() -> tuple[Network, np.ndarray]:
    """A (m - x) near 2^36: m at one end, x at the other, A = 4095; needs more than 32 bits or an adder in 26.

    One gate fires at every step and two at every second, so x changes sides; a drawn decay of 0 takes m to x, one of
    4095 leaves it there while x goes to the other side.
    """
    weight = byte([[127, -127, -127], [-127, 127, 127]])
    drawn = random(2, TOP, table=np.where(np.arange(256) % 2, 4095, 0).astype(np.uint16), k=12, f=16)
    gate = Cuba(ints(64, 64, 64), ints(0, 0, 0), 4095, 0)
    layers = (
        Layer("input", Input((1, 1, 1), 1)),
        Layer("gate", Dense(byte([[2], [1], [1]])), (0,), gate),
        Layer("slow", Dense(weight), (1,), Lif(ints(TOP, TOP), ints(0, 0), Constant(4095), k=12, f=16)),
        Layer("fast", Dense(weight), (1,), Lif(ints(TOP, TOP), ints(0, 0), Constant(1), k=12, f=16)),
        Layer("drawn", Dense(weight), (1,), drawn),
    )
    return Network(layers, 12), np.concatenate([column(1), column(1), column(0)])


@case
def _fractions_0_and_16() -> tuple[Network, np.ndarray]:
    first = Lif(ints(300, 300), ints(1, -1), Constant(100), f=0)
    second = Lif(ints(2**20, 2**20), ints(3, -3), Constant(100), f=16)
    size = chain(Input((3, 1, 1)), 6, (Dense(noise(4, 2, 3, top=5)), first), (Dense(noise(5, 2, 2)), second))
    return size, pictures(6, 3, 3, 1, 1)


# --- weights and inputs -----------------------------------------------------------------------------------------------


@case
def _zero_weights_and_bias_alone() -> tuple[Network, np.ndarray]:
    neuron = Lif(ints(100, 100, 100, 100), ints(0, 101, 300, -300), Constant(128))
    return alone(neuron, byte([[0, 0]] * 4), 8), np.concatenate([column(0, 0), column(255, 255)])


@case
def _all_positive_and_all_negative_weights() -> tuple[Network, np.ndarray]:
    conv = Conv(
        np.concatenate([np.full((2, 3, 3, 3), 127), np.full((2, 3, 3, 3), -127)]).astype(np.int8), padding=(1, 1)
    )
    neuron = Lif(ints(2**21, TOP, 1, 2**20), ints(0, 0, 0, 10**6), Constant(60))
    images = np.concatenate([np.full((1, 3, 4, 5), 255, np.uint8), np.zeros((1, 3, 4, 5), np.uint8)])
    return chain(Input((3, 4, 5)), 5, (conv, neuron)), images


@case
def _every_bit_of_a_pixel() -> tuple[Network, np.ndarray]:
    """Pixels with one bit set, none, and all; weights -127, -1, 1, 127 and odd ones that a chip might truncate."""
    weight = byte([[-127], [-1], [1], [127], [63], [-85]])
    images = np.array([0, 1, 2, 4, 8, 16, 32, 64, 128, 255], np.uint8).reshape(-1, 1, 1, 1)
    return alone(plain(6, 4000, 3, decay=90), weight, 3), images


@case
def _inputs_of_1_bit() -> tuple[Network, np.ndarray]:
    return alone(plain(5, 500, decay=128), noise(8, 5, 7), 6, bits=1), pictures(9, 4, 7, 1, 1, bits=1)


@case
def _signed_inputs_of_12_bits() -> tuple[Network, np.ndarray]:
    layers = (
        Layer("input", Input((3, 1, 1), 12, signed=True)),
        Layer("neuron", Dense(noise(10, 4, 3)), (0,), plain(4, 100_000, decay=128)),
    )
    return Network(layers, 4), np.array([[-2048, 2047, 0], [-1, 1, -1000]], np.int32).reshape(2, 3, 1, 1)


@case
def _signed_inputs_behind_weights() -> tuple[Network, np.ndarray]:
    """A negative pixel that only a convolution sees, behind another weighted layer, and straight."""
    layers = (
        Layer("input", Input((1, 2, 2), 4, signed=True)),
        Layer("first", Conv(byte([[[[1]]], [[[-1]]]])), (0,), plain(2, 150, decay=0)),
        Layer("second", Dense(noise(110, 3, 8)), (1,), plain(3, 600)),
        Layer("straight", Dense(byte([[-8, 1, 7, 0], [1, 1, 1, 1]])), (0,), ReadOut(ints(0, 0))),
    )
    return Network(layers, 3), np.array([[[[-3, 7], [-8, 0]]], [[[-1, -1], [-1, -1]]]], np.int8)


@case
def _sums_and_pools_of_signed_inputs() -> tuple[Network, np.ndarray]:
    """-3 added to itself is -6, and 244 nowhere; sums of pools, pools of sums, the lowest 4 bit number four times."""
    layers = (
        Layer("input", Input((1, 2, 2), 4, signed=True)),
        Layer("twice", Add(), (0, 0)),
        Layer("pool", SumPool((2, 2), (1, 1)), (0,)),
        Layer("both", SumPool((2, 1), (1, 1)), (1,)),
        Layer("more", Add(), (3, 3, 3)),
        Layer("flat", Flatten(), (4,)),
        Layer("conv", Conv(byte([[[[1, -1]]], [[[127, 127]]]])), (4,), plain(2, 400, reset="subtract")),
        Layer("dense", Dense(byte([[1], [-1], [127]])), (2,), plain(3, 300)),
        Layer("read", Dense(byte([[1, 0], [-1, 2]])), (5,), ReadOut(ints(0, 5))),
    )
    images = np.array([[[[-3, -3], [-3, -3]]], [[[-8, -8], [-8, -8]]], [[[7, -1], [0, -8]]]], np.int8)
    return Network(layers, 2), images


@case
def _signed_inputs_of_16_bits() -> tuple[Network, np.ndarray]:
    """Pixels at both ends, -2^15 and 2^15 - 1."""
    weight = byte([[127, -127, 1], [-1, 0, 1]])
    images = np.array([[-32768, 32767, 0], [32767, -32768, -1]], np.int16).reshape(2, 3, 1, 1)
    first = Layer("input", Input((3, 1, 1), 16, signed=True))
    return Network((first, Layer("neuron", Dense(weight), (0,), plain(2, TOP - 1))), 3), images


@case
def _signed_inputs_of_1_bit() -> tuple[Network, np.ndarray]:
    layers = (
        Layer("input", Input((2, 1, 1), 1, signed=True)),
        Layer("sum", Add(), (0, 0)),
        Layer("neuron", Dense(byte([[1, 2], [-3, -4]])), (1,), plain(2, 100)),
    )
    return Network(layers, 3), np.array([[0, -1], [-1, -1]], np.int8).reshape(2, 2, 1, 1)


@case
def _dense_on_a_picture() -> tuple[Network, np.ndarray]:
    """Channel slowest, then y, then x, with no Flatten before: 1 + 2*10 + 3*100 + 0*4 = 321."""
    layers = (
        Layer("input", Input((2, 1, 2))),
        Layer("read", Dense(byte([[1, 10, 100, 0]])), (0,), ReadOut(ints(0))),
    )
    return Network(layers, 1), np.array([[[[1, 2]], [[3, 4]]]], np.uint8)


@case
def _dense_on_pictures_of_spikes_sums_and_pools() -> tuple[Network, np.ndarray]:
    """Sides differ, so that a transposed axis shows; a dense layer on each kind of picture."""
    layers = (
        Layer("input", Input((2, 3, 4))),
        Layer("conv", Conv(noise(111, 3, 2, 2, 1)), (0,), plain(3, 9000)),
        Layer("sum", Add(), (1, 1)),
        Layer("pool", SumPool((1, 2), (1, 1)), (2,)),
        Layer("on spikes", Dense(noise(112, 4, 24)), (1,), plain(4, 3000)),
        Layer("on sums", Dense(noise(113, 4, 24)), (2,), plain(4, 3000, reset="subtract")),
        Layer("on pixels", Dense(noise(114, 4, 24)), (0,), random(4, 90_000, neurons_per_core=3)),
        Layer("read", Dense(noise(115, 3, 18)), (3,), ReadOut(ints(0, 1, 2))),
    )
    return Network(layers, 4), pictures(116, 2, 2, 3, 4)


@case
def _sums_that_fill_32_bits() -> tuple[Network, np.ndarray]:
    """2^31 - 1 and less: 24 bit pixels summed 128 times, sums of 127 * 2^24, and a read-out that reaches them at T."""
    layers = (
        Layer("input", Input((1, 8, 8), 24)),
        Layer("pool", SumPool((8, 8), (8, 8)), (0,)),
        Layer("twice", Add(), (1, 1)),
        Layer("flat", Flatten(), (2,)),
        Layer("lif", Dense(byte([[1], [-1]])), (3,), plain(2, TOP)),
        Layer("read", Conv(byte([[[[127]]], [[[-127]]]]), (8, 8)), (0,), ReadOut(ints(2**24 - 1, 1 - 2**24))),
    )
    images = np.stack([np.full((1, 8, 8), 2**24 - 1, np.int32), np.arange(64, dtype=np.int32).reshape(1, 8, 8)])
    return Network(layers, 1), images
