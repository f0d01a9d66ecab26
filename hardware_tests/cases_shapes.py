"""Shapes, residual sums, resets by subtraction, resets between images."""

from __future__ import annotations

import numpy as np

from hardware_tests.case import TOP, alone, byte, case, chain, column, ints, noise, pictures, plain, random
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
    PerNeuron,
    ReadOut,
    SumPool,
)

# --- shapes -----------------------------------------------------------------------------------------------------------


def _geometry(conv: Conv, *shape: int) -> tuple[Network, np.ndarray]:
    """Two such layers would hide a transposed axis no better than one: sides differ."""
    return chain(Input(shape), 3, (conv, plain(len(conv.weight), 30_000, 11, decay=128))), pictures(11, 2, *shape)


@case
def _conv_stride_padding_dilation_groups() -> tuple[Network, np.ndarray]:
    return _geometry(Conv(noise(12, 6, 2, 3, 2), (2, 1), (1, 2), (1, 2), 2), 4, 7, 6)


@case
def _conv_1x1_stride_2() -> tuple[Network, np.ndarray]:
    return _geometry(Conv(noise(13, 3, 2, 1, 1), (2, 2)), 2, 5, 4)


@case
def _conv_padding_wider_than_the_kernel() -> tuple[Network, np.ndarray]:
    return _geometry(Conv(noise(14, 2, 1, 2, 2), padding=(3, 2)), 1, 2, 3)


@case
def _depthwise_conv_and_a_bias_map() -> tuple[Network, np.ndarray]:
    bias = np.random.default_rng(15).integers(-9000, 9000, (4, 5, 6)).astype(np.int32)
    neuron = Lif(ints(1000, 5000, 9000, 20000), bias, Constant(120))
    conv = Conv(noise(16, 4, 1, 3, 3), padding=(1, 1), groups=4)
    return chain(Input((4, 5, 6)), 4, (conv, neuron)), pictures(17, 2, 4, 5, 6)


@case
def _pools_flatten_and_order() -> tuple[Network, np.ndarray]:
    """Overlapping windows that leave a rest; graded sums into a conv; channel slowest when flattened."""
    return chain(
        Input((2, 7, 8)), 3,
        (Conv(noise(18, 3, 2, 3, 3), padding=(1, 1)), plain(3, 9000, decay=128)),
        (SumPool((3, 2), (2, 1)), None),
        (Conv(noise(19, 3, 3, 2, 2)), plain(3, 5000, decay=128)),
        (SumPool((2, 3), (2, 3)), None),
        (Flatten(), None),
        (Dense(noise(20, 5, 6)), ReadOut(ints(1, -2, 3, -4, 5))),
    ), pictures(21, 3, 2, 7, 8)  # fmt: skip


@case
def _residual_branches_of_unequal_depth() -> tuple[Network, np.ndarray]:
    """Branches of depth 0 to 3 meet in sums of two and three; sums of sums are graded spikes up to 5."""
    same = lambda seed: Conv(noise(seed, 3, 3, 3, 3), padding=(1, 1))
    layers = (
        Layer("input", Input((2, 4, 5))),
        Layer("stem", Conv(noise(22, 3, 2, 3, 3), padding=(1, 1)), (0,), plain(3, 20_000, decay=140)),
        Layer("a", same(23), (1,), plain(3, 3000, decay=100)),
        Layer("b", same(24), (2,), random(3, 2500, 100, neurons_per_core=7)),
        Layer("sum2", Add(), (1, 3)),
        Layer("c", same(25), (4,), plain(3, 3000, decay=30)),
        Layer("sum3", Add(), (4, 1, 5)),
        Layer("twice", Add(), (6, 6)),
        Layer("d", Conv(noise(26, 2, 3, 1, 1), (2, 2)), (7,), plain(2, 4000, 50, decay=128)),
    )
    return Network(layers, 6), pictures(27, 3, 2, 4, 5)


@case
def _read_out_sums_ties_and_many_steps() -> tuple[Network, np.ndarray]:
    """Equal classes (lowest wins), negative sums, a bias near 2^31 / T."""
    weight = byte([[0, 0], [127, -127], [0, 0], [-127, 127]])
    bias = ints(2**24, 2**24, 2**24, -(2**24))
    return alone(ReadOut(bias), weight, 64), np.concatenate([column(0, 0), column(3, 3), column(0, 255)])


# --- reset by subtraction ---------------------------------------------------------------------------------------------


def _subtracting(neuron: Lif, first: int = 0) -> tuple[Network, np.ndarray, int, int]:
    """Currents several times the threshold: the membrane potential stays above it and fires at every step."""
    weight = byte([[1], [3], [40], [127], [-9], [2]])
    images = np.concatenate([column(255), column(90), column(0), column(255)])
    return alone(neuron, weight, 7), images, 31, first


@case
def _subtract_with_a_constant_decay() -> tuple[Network, np.ndarray, int, int]:
    return _subtracting(Lif(ints(1, 5000, 700, 2**20, 3, 32_640), ints(0, 9, -9, 0, 700, 0), reset="subtract"))


@case
def _subtract_with_a_decay_per_neuron() -> tuple[Network, np.ndarray, int, int]:
    """Decays 0 and 2^12 - 1 too: of what a spike leaves, all goes, or nearly all stays."""
    decay = PerNeuron(np.array([0, 4095, 2048, 4095, 4095, 1], np.uint16))
    return _subtracting(Lif(ints(1, 5000, 700, 900, 3, 100), ints(0, 0, 5, 0, 700, 0), decay, 12, reset="subtract"))


@case
def _subtract_with_a_draw_every_step() -> tuple[Network, np.ndarray, int, int]:
    decay = Drawn(neurons_per_core=4)
    return _subtracting(Lif(ints(1, 900, 700, 70_000, 3, 9000), ints(0, 0, 5, 0, 700, 0), decay, reset="subtract"), 12)


@case
def _subtract_with_a_draw_every_image() -> tuple[Network, np.ndarray, int, int]:
    decay = Drawn(sampling="forward", neurons_per_core=5)
    return _subtracting(Lif(ints(1, 900, 700, 70_000, 3, 9000), ints(0, 0, 5, 0, 700, 0), decay, reset="subtract"), 12)


@case
def _subtract_at_the_ends_of_the_range() -> tuple[Network, np.ndarray]:
    """A saturated membrane potential less thresholds 1, TOP - 1 and TOP (never fires); biases at both ends."""
    neuron = Lif(ints(1, TOP - 1, TOP, 1, TOP // 2), ints(TOP, TOP, TOP, -TOP, TOP), Constant(255), reset="subtract")
    return alone(neuron, byte([[127], [127], [127], [0], [-127]]), 6), np.concatenate([column(255), column(0)])


@case
def _subtract_in_a_residual_network() -> tuple[Network, np.ndarray, int, int]:
    """Both resets side by side, with every decay, before and behind a sum."""
    conv = lambda seed, into: Conv(noise(seed, 3, into, 3, 3, top=40), padding=(1, 1))
    own = PerNeuron(np.random.default_rng(100).integers(0, 256, (3, 4, 5)).astype(np.uint16))
    level = lambda theta: (np.full(3, theta, np.int32), ints(-50, 0, 50))
    layers = (
        Layer("input", Input((2, 4, 5))),
        Layer("a", conv(101, 2), (0,), Lif(*level(9000), Drawn(neurons_per_core=13), reset="subtract")),
        Layer("b", conv(102, 3), (1,), Lif(*level(900), own, reset="subtract")),
        Layer("c", conv(103, 3), (1,), Lif(*level(900), own, reset="zero")),
        Layer("sum", Add(), (1, 2, 3)),
        Layer("d", conv(104, 3), (4,), plain(3, 1500, reset="subtract")),
        Layer("pool", SumPool((2, 3), (2, 2)), (5,)),
        Layer("read", Dense(noise(105, 4, 12)), (6,), ReadOut(ints(1, -1, 0, 40))),
    )
    return Network(layers, 6), pictures(106, 3, 2, 4, 5), 8, 3


# --- resets and images ------------------------------------------------------------------------------------------------


@case
def _a_reset_for_every_image() -> tuple[Network, np.ndarray]:
    """Forty images that leave membranes charged, dark ones between: nothing may leak into the next."""
    images = pictures(28, 40, 3, 1, 1)
    images[1::2] = 0
    net = chain(
        Input((3, 1, 1)), 3,
        (Dense(noise(29, 4, 3)), plain(4, 20_000, decay=250)),
        (Dense(noise(30, 3, 4)), plain(3, 40, 20, decay=250)),
    )  # fmt: skip
    return net, images


@case
def _one_step() -> tuple[Network, np.ndarray]:
    net = chain(
        Input((3, 1, 1)), 1,
        (Dense(noise(31, 4, 3)), random(4, 3000)),
        (Dense(noise(32, 2, 4)), ReadOut(ints(0, 0))),
    )  # fmt: skip
    return net, pictures(33, 5, 3, 1, 1)
