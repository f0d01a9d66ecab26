"""Decays drawn at random, and Loihi's own neuron."""

from __future__ import annotations

import numpy as np

from hardware_tests.case import TOP, alone, byte, case, chain, column, ints, noise, pictures, random
from randhet.fixed_point.network import (
    Add,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    ReadOut,
    SumPool,
)

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
