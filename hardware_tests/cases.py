"""The cases: every neuron and synapse at the edges of its ranges, as networks and images. Data, no expected values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from randhet.fixed_point.network import (
    Add,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    ReadOut,
    Reset,
    SumPool,
)

TOP = 2**23 - 1
"""Largest state."""


@dataclass(frozen=True, eq=False)
class Case:
    """Images (N, C, Y, X) through a network; the first has the logical number first_image."""

    name: str
    network: Network
    images: np.ndarray
    seed: int = 1
    first_image: int = 0


Maker = Callable[[], Case]
CASES: dict[str, Maker] = {}


def case(make: Callable[[], tuple[Network, np.ndarray] | tuple[Network, np.ndarray, int, int]]) -> None:
    """Enter a maker under its function's name."""
    name = make.__name__.strip("_").replace("_", "-")
    CASES[name] = lambda: Case(name, *make())


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def byte(values: object) -> np.ndarray:
    return np.array(values, np.int8)


def column(*pixels: int) -> np.ndarray:
    """One image of one pixel row, (1, n, 1, 1)."""
    return np.array(pixels, np.uint8).reshape(1, -1, 1, 1)


def alone(neuron: Neuron, weight: np.ndarray, steps: int, bits: int = 8) -> Network:
    """An input and one dense layer."""
    layers = (
        Layer("input", Input((weight.shape[1], 1, 1), bits)),
        Layer("neuron", Dense(weight), (0,), neuron),
    )
    return Network(layers, steps)


def chain(first: Input, steps: int, *rest: tuple[Operation, Neuron | None]) -> Network:
    """Each layer reads the one before."""
    layers = [Layer("input", first)]
    layers += [Layer(f"l{i}", operation, (i,), neuron) for i, (operation, neuron) in enumerate(rest)]
    return Network(tuple(layers), steps)


def noise(seed: int, *shape: int, top: int = 127) -> np.ndarray:
    return np.random.default_rng(seed).integers(-top, top + 1, shape).astype(np.int8)


def pictures(seed: int, count: int, *shape: int, bits: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, (count, *shape)).astype(np.uint8)


def plain(channels: int, threshold: int, bias: int = 0, decay: int = 128, reset: Reset = "zero") -> Lif:
    levels = np.full(channels, threshold, np.int32), np.full(channels, bias, np.int32)
    return Lif(*levels, Constant(decay), reset=reset)


def random(channels: int, threshold: int, bias: int = 0, k: int = 8, f: int = 6, **drawn: object) -> Lif:
    levels = np.full(channels, threshold, np.int32), np.full(channels, bias, np.int32)
    return Lif(*levels, Drawn(**drawn), k, f)  # type: ignore[arg-type]


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


# --- decays drawn at random -------------------------------------------------------------------------------------------


@case
def _a_draw_every_step() -> tuple[Network, np.ndarray, int, int]:
    return alone(random(9, 9000, neurons_per_core=4), noise(34, 9, 2), 5), pictures(35, 6, 2, 1, 1), 2**64 - 1, 0


@case
def _a_draw_every_image() -> tuple[Network, np.ndarray, int, int]:
    neuron = random(9, 9000, neurons_per_core=4, sampling="forward")
    return alone(neuron, noise(36, 9, 2), 5), pictures(37, 6, 2, 1, 1), 0, 0


@case
def _a_core_for_every_neuron() -> tuple[Network, np.ndarray, int, int]:
    return alone(random(5, 9000, neurons_per_core=1), noise(38, 5, 2), 4), pictures(39, 3, 2, 1, 1), 12345, 0


@case
def _cores_that_end_inside_a_channel() -> tuple[Network, np.ndarray, int, int]:
    neuron = random(3, 20_000, 77, neurons_per_core=7)
    conv = Conv(noise(40, 3, 2, 3, 3), padding=(1, 1))
    return chain(Input((2, 3, 4)), 4, (conv, neuron)), pictures(41, 3, 2, 3, 4), 7, 0


@case
def _images_from_number_1000() -> tuple[Network, np.ndarray, int, int]:
    net = chain(
        Input((2, 1, 1)), 3,
        (Dense(noise(42, 5, 2)), random(5, 9000, neurons_per_core=2)),
        (Dense(noise(43, 4, 5)), random(4, 2000, 30, sampling="forward")),
    )  # fmt: skip
    return net, pictures(44, 4, 2, 1, 1), 99, 1000


@case
def _image_numbers_to_their_end() -> tuple[Network, np.ndarray, int, int]:
    """The last image is number 2^62 - 1: numbers of draws pass 64 bits, those of both samplings and of odd cores."""
    net = chain(
        Input((2, 1, 1)), 7,
        (Dense(noise(117, 5, 2)), random(5, 9000, neurons_per_core=3)),
        (Dense(noise(118, 4, 5)), random(4, 2000, 30, sampling="forward")),
    )  # fmt: skip
    return net, pictures(119, 3, 2, 1, 1), 2**63, 2**62 - 3


@case
def _tables_at_their_ends() -> tuple[Network, np.ndarray, int, int]:
    """Tables that hold only 0, only the largest, and both."""
    both = np.where(np.arange(256) % 2, 4095, 0).astype(np.uint16)
    tables = (np.zeros(256, np.uint16), np.full(256, 4095, np.uint16), both)
    layers = [Layer("input", Input((3, 1, 1)))]
    for i, table in enumerate(tables):
        neuron = random(3, 2500, 9, table=table, k=12)
        layers.append(Layer(f"n{i}", Dense(noise(45 + i, 3, 3)), (0,), neuron))
    return Network(tuple(layers), 5), pictures(48, 3, 3, 1, 1), 3, 5


@case
def _a_whole_small_network() -> tuple[Network, np.ndarray, int, int]:
    """Stem with a bias map, two residual blocks, the second with stride, pool, classifier; all decays drawn."""
    bias = np.random.default_rng(50).integers(-4000, 4000, (4, 6, 6)).astype(np.int32)
    stem = Lif(np.full(4, 30_000, np.int32), bias, Drawn(neurons_per_core=50))
    conv = lambda seed, out, into, **more: Conv(noise(seed, out, into, 3, 3, top=60), padding=(1, 1), **more)
    drawn = lambda channels, level: random(channels, level, 40, neurons_per_core=50)
    layers = (
        Layer("input", Input((3, 6, 6))),
        Layer("stem", conv(51, 4, 3), (0,), stem),
        Layer("1.a", conv(52, 4, 4), (1,), drawn(4, 2500)),
        Layer("1.b", conv(53, 4, 4), (2,), drawn(4, 2500)),
        Layer("1", Add(), (1, 3)),
        Layer("2.a", conv(54, 5, 4, stride=(2, 2)), (4,), drawn(5, 2500)),
        Layer("2.b", conv(55, 5, 5), (5,), drawn(5, 2500)),
        Layer("2.skip", Conv(noise(56, 5, 4, 1, 1), (2, 2)), (4,), drawn(5, 1500)),
        Layer("2", Add(), (7, 6)),
        Layer("pool", SumPool((3, 3), (3, 3)), (8,)),
        Layer("flat", Flatten(), (9,)),
        Layer("read", Dense(noise(57, 3, 5)), (10,), ReadOut(ints(9, -9, 0))),
    )
    return Network(layers, 8), pictures(58, 4, 3, 6, 6), 2024, 17


# --- Loihi's own neuron -----------------------------------------------------------------------------------------------
# Those called cuba-chip are within what stock Lava processes, and so a chip without microcode of ours, can run: chains
# of dense layers, inputs of one bit, even weights (stock Dense drops the lowest bit where signs are mixed), one
# threshold per layer.


def even(seed: int, *shape: int) -> np.ndarray:
    return 2 * noise(seed, *shape, top=63)


def _cuba(weight: np.ndarray, steps: int, threshold: int, bias: np.ndarray, du: int, dv: int) -> Network:
    return alone(Cuba(np.full(len(weight), threshold, np.int32), bias, du, dv), weight, steps, bits=1)


@case
def _cuba_decays_0_and_largest() -> tuple[Network, np.ndarray]:
    layers = [Layer("input", Input((3, 1, 1), 1))]
    for i, (du, dv) in enumerate(((0, 0), (0, 4095), (4095, 0), (4095, 4095), (1, 1), (2048, 100))):
        neuron = Cuba(np.full(4, 500 << 6, np.int32), np.zeros(4, np.int32), du, dv)
        layers.append(Layer(f"n{i}", Dense(noise(60 + i, 4, 3)), (0,), neuron))
    return Network(tuple(layers), 10), np.array([[1, 1, 1], [1, 0, 0]], np.uint8).reshape(2, 3, 1, 1)


@case
def _cuba_wrap_at_its_edges() -> tuple[Network, np.ndarray]:
    """u one below, at and one above +-2^23, where a wrap of Lava's kind and a plain modulo part; v takes u's place."""
    weight = byte([[127, 1], [127, 2], [-127, -1], [-127, -2], [127, 127]])
    neuron = Cuba(np.full(5, TOP, np.int32), np.zeros(5, np.int32), 0, 4095, f=16)
    return alone(neuron, weight, 6, bits=1), np.array([[1, 0], [1, 1]], np.uint8).reshape(2, 2, 1, 1)


@case
def _cuba_decays_beyond_the_field() -> tuple[Network, np.ndarray]:
    """Current decay -1 keeps all of u, voltage decay 4096 nothing of v; biases and thresholds at their ends."""
    layers = [Layer("input", Input((3, 1, 1), 1))]
    for i, (du, dv) in enumerate(((-1, 0), (-1, 4096), (4095, 4096), (0, 4096), (-1, 4095))):
        neuron = Cuba(ints(1, TOP, 500 << 6, TOP - 1), ints(0, TOP, -TOP, 0), du, dv)
        layers.append(Layer(f"n{i}", Dense(noise(90 + i, 4, 3)), (0,), neuron))
    return Network(tuple(layers), 10), np.array([[1, 1, 1], [1, 0, 0]], np.uint8).reshape(2, 3, 1, 1)


@case
def _cuba_currents_at_their_bound() -> tuple[Network, np.ndarray]:
    """a << f is 2^24, -2^24 and one step less: twice around 24 bits at most, which one fold brings back."""
    weight = byte([[-128, -128], [127, 127], [-128, 0], [127, -128], [-127, -128]])
    layers = [Layer("input", Input((2, 1, 1), 1))]
    for i, (du, dv) in enumerate(((-1, 0), (0, 0), (4095, 4096))):
        neuron = Cuba(np.full(5, TOP, np.int32), np.zeros(5, np.int32), du, dv, f=16)
        layers.append(Layer(f"n{i}", Dense(weight), (0,), neuron))
    return Network(tuple(layers), 9), np.array([[1, 1], [1, 0], [0, 1]], np.uint8).reshape(3, 2, 1, 1)


@case
def _cuba_on_a_signed_input() -> tuple[Network, np.ndarray]:
    neuron = Cuba(ints(64, 640, TOP), ints(0, -64, 0), 1000, 3, f=9)
    layers = (
        Layer("input", Input((1, 2, 1), 8, signed=True)),
        Layer("neuron", Dense(byte([[1, -1], [127, 127], [-128, 1]])), (0,), neuron),
    )
    return Network(layers, 5), np.array([[-128, -128], [127, -128], [-1, 1]], np.int8).reshape(3, 1, 2, 1)


@case
def _cuba_chip_threshold_and_bias() -> tuple[Network, np.ndarray]:
    """v = u = 64 w at every step: 640 does not fire, 768 does; the ends of the bias's mantissa and exponent."""
    bias = ints(0, 0, 0, 4095, -4095, 4095 << 7, -4095 << 7, 1)
    return _cuba(byte([[10], [12], [-10], [0], [0], [0], [0], [10]]), 6, 640, bias, 4095, 4095), column(1)


@case
def _cuba_chip_largest_threshold() -> tuple[Network, np.ndarray]:
    bias = ints(4095 << 7, 4095 << 7, 0)
    return _cuba(byte([[126], [-126], [126]]), 24, 131071 << 6, bias, 4095, 0), np.concatenate([column(1), column(0)])


@case
def _cuba_chip_truncation_toward_zero() -> tuple[Network, np.ndarray]:
    weight = byte([[2], [-2], [6], [-6], [126], [-126]])
    return _cuba(weight, 12, 5000 << 6, np.zeros(6, np.int32), 1000, 3), np.concatenate([column(1), column(0)])


@case
def _cuba_chip_decays() -> tuple[Network, np.ndarray]:
    """A layer for each pair of ends of the two decays, one after another."""
    parts = []
    for i, (du, dv) in enumerate(((0, 0), (0, 4095), (4095, 0), (4095, 4095), (1, 4094))):
        neuron = Cuba(np.full(4, 20 << 6, np.int32), np.full(4, 40, np.int32), du, dv)
        parts.append((Dense(even(80 + i, 4, 4 if i else 3)), neuron))
    return chain(Input((3, 1, 1), 1), 9, *parts), np.array([[1, 1, 1], [1, 0, 0]], np.uint8).reshape(2, 3, 1, 1)


@case
def _cuba_chip_wrap_and_saturation() -> tuple[Network, np.ndarray]:
    """120 inputs of +-126 drive u past 2^23 both ways and v to both ends."""
    weight = byte([[126] * 120, [-126] * 120, [126, -126] * 60])
    return _cuba(weight, 14, 131071 << 6, np.zeros(3, np.int32), 0, 0), np.ones((1, 120, 1, 1), np.uint8)


@case
def _cuba_chip_chain_and_resets() -> tuple[Network, np.ndarray]:
    """Three layers with biases and spikes in all of them, eight images, every second one dark."""
    cuba = lambda n, level, b: Cuba(np.full(n, level << 6, np.int32), np.full(n, b, np.int32), 2000, 500)
    net = chain(
        Input((6, 1, 1), 1), 12,
        (Dense(even(70, 8, 6)), cuba(8, 150, 64)),
        (Dense(even(71, 7, 8)), cuba(7, 90, 3 << 5)),
        (Dense(even(72, 4, 7)), cuba(4, 60, -64)),
    )  # fmt: skip
    images = pictures(73, 8, 6, 1, 1, bits=1)
    images[1::2] = 0
    return net, images
