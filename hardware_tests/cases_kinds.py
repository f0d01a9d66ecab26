"""Sequences, late resets, floors, pools, gates, concatenation, transposed convolution, recurrence, leaky read-outs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import get_args

import numpy as np

from hardware_tests.case import TOP, Parts, alone, byte, case, column, enter, ints, noise
from hardware_tests.random_networks import numbered
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    Read,
    ReadOut,
    Reset,
    Spiking,
    Spread,
)

HALF = Constant(128)
"""Of 8 bits: half of what was there stays."""


def recording(*frames: tuple[int, ...], kind: type = np.int8) -> np.ndarray:
    """One recording of frames of one column, (1, T, C, 1, 1)."""
    return np.array(frames, kind).reshape(1, len(frames), -1, 1, 1)


def over_time(neuron: Neuron, operation: Dense, steps: int, bits: int, signed: bool = True) -> Network:
    """An input of sequences and one dense layer."""
    first = Input((operation.weight.shape[1], 1, 1), bits, signed, sequence=True)
    return Network((Layer("input", first), Layer("neuron", operation, (0,), neuron)), steps)


def small(thresholds: np.ndarray, decay: Constant = HALF, **fields: object) -> Lif:
    """A Lif whose current is the synaptic sum itself."""
    return Lif(thresholds, np.zeros(len(thresholds), np.int32), decay, f=0, **fields)  # type: ignore[arg-type]


# --- late resets, floors ----------------------------------------------------------------------------------------------


@case
def _late_subtraction_stays_above_the_threshold() -> Parts:
    """A current of several thresholds: the neuron spikes at every step, from the first on or after a while."""
    neuron = small(ints(90, 399, 1, 10_000), reset="subtract", reset_delay=1)
    return alone(neuron, byte([[2], [3], [1], [127]]), 7), np.concatenate([column(200), column(0), column(255)])


@case
def _late_reset_to_zero_whatever_the_current_is() -> Parts:
    """The largest current comes at the step of the reset; that of the second neuron saturates there and is counted."""
    neuron = replace(small(ints(400, 400), reset_delay=1), bias=ints(0, 8_000_000))
    frames = recording((1000,), (30_000,), (5,), (1000,), (30_000,), kind=np.int16)
    return over_time(neuron, Dense(byte([[1], [127]])), 5, 16), frames


def _late(reset: Reset) -> Parts:
    """Every decay beside each other, in a chain with layers that reset at once; images from number 3 on."""
    own = PerNeuron(np.random.default_rng(200).integers(0, 256, (4, 3, 4)).astype(np.uint16))
    level = lambda theta: (np.full(4, theta, np.int32), ints(-90, 0, 40, 90))
    late = lambda theta, decay: Lif(*level(theta), decay, reset=reset, reset_delay=1)
    conv = lambda seed, into: Conv(noise(seed, 4, into, 3, 3, top=50), padding=(1, 1))
    layers = (
        Layer("input", Input((2, 3, 4))),
        Layer("a", conv(201, 2), (0,), late(9000, Drawn(neurons_per_core=11))),
        Layer("b", conv(202, 4), (1,), late(900, own)),
        Layer("c", conv(203, 4), (1,), late(900, Drawn(sampling="forward", neurons_per_core=20))),
        Layer("at once", conv(204, 4), (2,), replace(late(700, HALF), reset_delay=0)),
        Layer("sum", Add(), (2, 3, 4)),
        Layer("read", Dense(noise(205, 3, 48)), (5,), ReadOut(ints(0, 1, 2))),
    )
    images = np.random.default_rng(206).integers(0, 256, (3, 2, 3, 4)).astype(np.uint8)
    return Network(layers, 6), images, 12, 3


@case
def _late_resets_to_zero_with_every_decay() -> Parts:
    return _late("zero")


@case
def _late_resets_by_subtraction_with_every_decay() -> Parts:
    return _late("subtract")


@case
def _late_subtraction_at_the_ends_of_the_range() -> Parts:
    """A current at the lowest end after a spike at the highest, less a threshold of nearly 2^23: it saturates."""
    neuron = Lif(ints(TOP - 1, 1, TOP), ints(0, 0, 0), Constant(0), f=16, reset="subtract", reset_delay=1)
    frames = recording((127,), (-128,), (-128,), (127,), (127,))
    return over_time(neuron, Dense(byte([[127], [127], [127]])), 5, 8), frames


SWINGS = recording((-200,), (-200,), (300,), (10,), kind=np.int16)


@case
def _floor_is_touched_and_left() -> Parts:
    return over_time(small(ints(1000, 1000), floor=np.array(-50, np.int32)), Dense(byte([[1], [-1]])), 4, 16), SWINGS


@case
def _floors_of_channels() -> Parts:
    """The last one is the lowest there is: no floor."""
    neuron = small(ints(1000, 1000, 1000), floor=ints(-10, -100, -TOP))
    return over_time(neuron, Dense(byte([[1], [1], [1]])), 4, 16), SWINGS


@case
def _floors_of_the_channels_of_a_picture() -> Parts:
    """Three channels of six neurons, floors 0, -1 and minus the threshold, both resets."""
    layers = [Layer("input", Input((2, 2, 3), 6, signed=True, sequence=True))]
    for i, reset in enumerate(get_args(Reset)):
        neuron = Lif(ints(300, 400, 500), ints(0, -5, 5), HALF, reset=reset, floor=ints(0, -1, -500))
        layers.append(Layer(reset, Conv(noise(210 + i, 3, 2, 1, 1, top=9)), (0,), neuron))
    return Network(tuple(layers), 5), np.random.default_rng(212).integers(-32, 32, (2, 5, 2, 2, 3)).astype(np.int8)


@case
def _floor_under_a_late_subtraction() -> Parts:
    """What a spike takes away may end below the floor."""
    neuron = small(ints(90, 90), reset="subtract", reset_delay=1, floor=ints(-20, -1000))
    frames = recording((400,), (-400,), (100,), (400,), (400,), kind=np.int16)
    return over_time(neuron, Dense(byte([[1], [1]])), 5, 16), frames


# --- layers without neurons -------------------------------------------------------------------------------------------


@case
def _max_pool_of_negative_values_with_padding() -> Parts:
    """What is padded is never the largest, though all that is there is negative."""
    layers = (
        Layer("input", Input((1, 2, 2), 4, signed=True)),
        Layer("pool", MaxPool((2, 2), (1, 1), (1, 1)), (0,)),
        Layer("neuron", Dense(noise(220, 4, 9)), (1,), small(ints(50, 100, 200, 400))),
    )
    return Network(layers, 3), np.array([[[[-3, -7], [-8, -1]]], [[[-8, -8], [-8, -8]]], [[[0, -1], [7, -2]]]], np.int8)


@case
def _max_pools_of_pixels_spikes_and_sums() -> Parts:
    """Unequal sides, strides that leave a rest, padding on one axis alone; of spikes an OR."""
    levels = small(ints(9000, 14_000, 4000))
    layers = (
        Layer("input", Input((2, 5, 7))),
        Layer("of pixels", MaxPool((2, 3), (1, 2), (0, 1)), (0,)),
        Layer("a", Conv(noise(221, 3, 2, 3, 3), padding=(1, 1)), (0,), levels),
        Layer("of spikes", MaxPool((3, 2), (2, 2), (1, 0)), (2,)),
        Layer("twice", Add(), (2, 2)),
        Layer("of sums", MaxPool((1, 4), (3, 1), (0, 2)), (4,)),
        Layer("b", Dense(noise(222, 3, 2 * 4 * 4)), (1,), levels),
        Layer("c", Conv(noise(223, 2, 3, 2, 2)), (3,), small(ints(30, 60))),
        Layer("d", Conv(noise(224, 2, 3, 1, 1)), (5,), small(ints(30, 60))),
    )
    return Network(layers, 4), np.random.default_rng(225).integers(0, 256, (3, 2, 5, 7)).astype(np.uint8)


@case
def _gates_of_equal_and_different_spikes() -> Parts:
    """a spikes as the first pixel, b as the second: both, neither, and each alone; gates of a layer with itself."""
    same = small(ints(1, 1), Constant(0))
    layers = (
        Layer("input", Input((2, 1, 1), 1, sequence=True)),
        Layer("a", Dense(byte([[2, 0], [2, 0]])), (0,), same),
        Layer("b", Dense(byte([[0, 2], [0, 2]])), (0,), same),
        Layer("and", And(), (1, 2)),
        Layer("iand", Iand(), (1, 2)),
        Layer("iand of b", Iand(), (2, 1)),
        Layer("and with itself", And(), (1, 1)),
        Layer("iand with itself", Iand(), (1, 1)),
        Layer("of gates", Iand(), (3, 6)),
        Layer("read", Dense(byte([[1, 2], [-3, 4]])), (8,), ReadOut(ints(0, 0))),
    )
    return Network(layers, 4), recording((1, 0), (1, 1), (0, 0), (0, 1), kind=np.uint8)


@case
def _gates_of_a_still_input_of_1_bit() -> Parts:
    """They depend on the image alone; one pools a picture."""
    layers = (
        Layer("input", Input((1, 2, 3), 1)),
        Layer("pool", MaxPool((1, 3), (1, 1), (0, 1)), (0,)),
        Layer("iand", Iand(), (0, 1)),
        Layer("and", And(), (2, 1)),
        Layer("neuron", Dense(noise(226, 3, 6)), (3,), small(ints(20, 40, 60), reset="subtract", reset_delay=1)),
    )
    return Network(layers, 3), np.array([[[[1, 0, 0], [0, 1, 0]]], [[[0, 0, 0], [1, 1, 1]]]], np.uint8)


@case
def _concat_of_unequal_channels() -> Parts:
    """Two channels of pixels, three of spikes, one of sums, and the pixels again; a convolution in groups behind."""
    layers = (
        Layer("input", Input((2, 1, 2))),
        Layer("spikes", Conv(byte([[[[1]], [[0]]], [[[0]], [[1]]], [[[-1]], [[1]]]])), (0,), small(ints(1, 3, 1))),
        Layer("conv", Conv(byte([[[[1]], [[1]], [[1]]]])), (1,), small(ints(1), Constant(0))),
        Layer("sum", Add(), (2, 2)),
        Layer("all", Concat(), (0, 1, 3, 0)),
        Layer("groups", Conv(noise(227, 4, 4, 1, 2), groups=2), (4,), small(ints(90, 180, 270, 360))),
        Layer("flat", Flatten(), (4,)),
        Layer("read", Dense(noise(228, 3, 16)), (6,), ReadOut(ints(0, 0, 5))),
    )
    return Network(layers, 4), np.array([[[[1, 2]], [[3, 4]]], [[[255, 0]], [[9, 77]]]], np.uint8)


@case
def _weights_without_a_neuron_send_their_sums() -> Parts:
    """On the image alone, on spikes, and as the last layer; what they send is read by a pool, a sum and weights."""
    layers = (
        Layer("input", Input((2, 3, 3), 4, signed=True)),
        Layer("still", Conv(byte([[[[1]], [[-2]]], [[[100]], [[3]]]])), (0,)),
        Layer("pool", MaxPool((2, 2), (1, 1)), (1,)),
        Layer("spikes", Conv(noise(234, 2, 2, 2, 2)), (1,), small(ints(900, 20_000), reset="subtract")),
        Layer("moving", Conv(noise(235, 2, 2, 1, 1)), (3,)),
        Layer("sum", Add(), (2, 4)),
        Layer("neuron", Dense(noise(236, 3, 8)), (5,), small(ints(9000, 20_000, 70_000))),
        Layer("last", Dense(noise(237, 4, 3)), (6,)),
    )
    return Network(layers, 4), np.random.default_rng(238).integers(-8, 8, (3, 2, 3, 3)).astype(np.int8)


@case
def _transposed_convolution() -> Parts:
    """Stride 2 and an extra column at the end; the kernel's taps are in reverse order, see the test of the oracle."""
    kernel = byte([[[[50, 20, 2], [100, 10, 1]]]])
    layers = (
        Layer("input", Input((1, 2, 2), 4)),
        Layer("spread", Spread((2, 2), (0, 1)), (0,)),
        Layer("read", Conv(kernel, padding=(1, 2)), (1,), ReadOut(ints(0))),
    )
    return Network(layers, 2), np.array([[[[1, 2], [3, 4]]], [[[15, 0], [0, 15]]]], np.uint8)


@case
def _spread_of_spikes_channels_and_one_value() -> Parts:
    """A transposed convolution of spikes in channels; one value is never spread but by the extra."""
    levels = small(ints(90, 180, 20))
    layers = (
        Layer("input", Input((3, 2, 3))),
        Layer("a", Conv(noise(230, 3, 3, 1, 2)), (0,), small(ints(2000, 4000, 9000))),
        Layer("wide", Spread((3, 2), (1, 0)), (1,)),
        Layer("b", Conv(noise(231, 3, 3, 3, 2), padding=(1, 1)), (2,), levels),
        Layer("one", MaxPool((2, 3), (1, 1)), (0,)),
        Layer("padded", Spread((5, 7), (1, 2)), (4,)),
        Layer("c", Conv(noise(232, 3, 3, 2, 3)), (5,), levels),
    )
    return Network(layers, 4), np.random.default_rng(233).integers(0, 256, (2, 3, 2, 3)).astype(np.uint8)


# --- recurrence -------------------------------------------------------------------------------------------------------

ALIVE = Dense(byte([[3], [0]]), byte([[2, 0], [2, -5]]))
"""The first neuron keeps itself alive, the second is woken by it and stops itself: it spikes at every other step."""


@case
def _recurrence_keeps_itself_alive() -> Parts:
    """One frame of light, then darkness; the recording after it is dark from the start, and stays so."""
    frames = np.concatenate(
        [recording((1,), (0,), (0,), (0,), (0,), kind=np.uint8), np.zeros((1, 5, 1, 1, 1), np.uint8)]
    )
    return over_time(small(ints(1, 1), Constant(0)), ALIVE, 5, 1, signed=False), frames


def _recurrent(neuron: Spiking, seed: int) -> Parts:
    """A recurrent layer on a still image, another on its spikes; images from number 7 on."""
    layers = (
        Layer("input", Input((3, 1, 1))),
        Layer("a", Dense(noise(seed, 5, 3), noise(seed + 1, 5, 5)), (0,), neuron),
        Layer("b", Dense(noise(seed + 2, 5, 5), noise(seed + 3, 5, 5)), (1,), neuron),
        Layer("sum", Add(), (1, 2)),
        Layer("read", Dense(noise(seed + 4, 2, 5)), (3,), ReadOut(ints(0, 0))),
    )
    return Network(layers, 6), np.random.default_rng(seed + 5).integers(0, 256, (3, 3, 1, 1)).astype(np.uint8), 5, 7


LEVELS = (ints(50, 500, 5000, 9000, 90_000), ints(0, 90, 0, -90, 0))
NEURONS: dict[str, Spiking] = {
    "drawn-decays": Lif(*LEVELS, Drawn(neurons_per_core=3), reset="subtract"),
    "late-resets-and-floors": Lif(*LEVELS, HALF, reset_delay=1, floor=ints(0, -100, -TOP, -9, -500)),
    "cuba": Cuba(*LEVELS, 1500, 300, f=7),
}
for _number, (_name, _neuron) in enumerate(NEURONS.items()):
    enter(f"recurrence-with-{_name}", partial(_recurrent, _neuron, 240 + 10 * _number))


# --- leaky read-outs --------------------------------------------------------------------------------------------------

NEVER = (ints(TOP, TOP), ints(0, 0))
READ_OUTS: dict[str, Spiking] = {
    "lif": Lif(*NEVER, HALF, f=0),
    "lif-with-a-floor": Lif(*NEVER, HALF, f=0, floor=ints(-20, 0)),
    "drawn-lif": Lif(*NEVER, Drawn(neurons_per_core=1), f=3),
    "cuba": Cuba(*NEVER, 4095, 0, f=0),
    "cuba-with-decays": Cuba(*NEVER, 900, 1500, f=8),
}
SIGNAL = recording((100,), (-60,), (20,))


def _leaky(dynamics: Spiking, read: Read) -> Parts:
    """Two classes of opposite signs; the second recording is the first backwards."""
    images = np.concatenate([SIGNAL, SIGNAL[:, ::-1]])
    return over_time(Leaky(dynamics, read), Dense(byte([[1], [-1]])), 3, 8), images, 6, 2


for (_name, _dynamics), _read in product(READ_OUTS.items(), get_args(Read)):
    enter(f"leaky-{_name}-read-by-{_read}", partial(_leaky, _dynamics, _read))


@case
def _leaky_read_out_of_a_picture() -> Parts:
    """A convolution that is read: classes in (channel, row, column) order; another read-out that nobody reads."""
    bias = np.random.default_rng(270).integers(-900, 900, (2, 2, 3)).astype(np.int32)
    never = np.full(2, TOP, np.int32)
    layers = (
        Layer("input", Input((2, 2, 3))),
        Layer("aside", Dense(noise(271, 3, 12)), (0,), ReadOut(ints(1, 2, 3))),
        Layer("read", Conv(noise(272, 2, 2, 1, 1)), (0,), Leaky(Lif(never, bias, Drawn(sampling="forward")), "sum")),
    )
    return Network(layers, 4), np.random.default_rng(273).integers(0, 256, (3, 2, 2, 3)).astype(np.uint8)


# --- sequences --------------------------------------------------------------------------------------------------------


@case
def _sequence_of_signed_frames_of_16_bits() -> Parts:
    """Both ends, -2^15 and 2^15 - 1; the second recording stands still."""
    frames = recording((-32768, 32767), (32767, -32768), (0, 1), kind=np.int16)
    frames = np.concatenate([frames, np.full((1, 3, 2, 1, 1), 32767, np.int16)])
    operation = Dense(byte([[1, -1], [127, 127], [0, -127]]))
    return over_time(small(ints(40_000, 10**6, TOP), Constant(0)), operation, 3, 16), frames


def _sequence_of(bits: int, signed: bool) -> Parts:
    """Frames of noise through a residual block, pools, a gate and a concatenation, with decays drawn at every step."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    level = lambda theta: (np.full(3, min(theta * high, TOP // 4), np.int32), ints(-9, 0, 9))
    drawn = lambda theta: Lif(*level(theta), Drawn(neurons_per_core=13), f=2, reset_delay=1)
    steps: list[tuple[Operation, tuple[int, ...], Neuron | None]] = [
        (Conv(noise(280, 3, 2, 3, 3), padding=(1, 1)), (0,), drawn(300)),
        (Conv(noise(281, 3, 3, 3, 3), padding=(1, 1)), (1,), Lif(ints(90, 120, 150), ints(0, 0, 0), HALF, f=0)),
        (Add(), (1, 2), None),
        (And(), (1, 2), None),
        (Concat(), (3, 4, 0), None),
        (MaxPool((2, 2), (2, 2)), (5,), None),
        (Flatten(), (6,), None),
        (Dense(noise(282, 4, 8 * 2 * 2), noise(283, 4, 4)), (7,), small(ints(90, 200, 400, 800))),
        (Dense(noise(284, 3, 4)), (8,), ReadOut(ints(0, 1, -1))),
    ]
    layers = [Layer("input", Input((2, 4, 5), bits, signed, sequence=True))]
    layers += [Layer(f"l{i}", operation, inputs, neuron) for i, (operation, inputs, neuron) in enumerate(steps)]
    images = np.random.default_rng(bits).integers(low, high, (3, 6, 2, 4, 5), endpoint=True)
    return Network(tuple(layers), 6), images.astype(np.int32), 19, 4


for _bits, _signed in ((1, False), (8, False), (16, True)):
    enter(f"sequence-of-{'signed-' if _signed else ''}frames-of-{_bits}-bits-in-a-whole-network",
          partial(_sequence_of, _bits, _signed))  # fmt: skip


# --- random networks of every kind ------------------------------------------------------------------------------------


def _random(number: int) -> Parts:
    run = numbered(number, wide=True)
    return run.network, run.images, run.seed, run.first_image


for _number in range(60, 66):
    enter(f"random-network-{_number}-of-every-kind", partial(_random, _number))
