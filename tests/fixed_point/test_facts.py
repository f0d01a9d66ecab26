"""What a network knows of itself, by hand and by trying every extreme input; the numbers that version 0.1 got wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from equality import assert_equal
from hypothesis import given
from hypothesis import strategies as st

from hardware_tests import oracle
from hardware_tests.random_networks import numbered
from randhet.base.errors import NetworkError
from randhet.fixed_point import backends, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.facts import delays
from randhet.fixed_point.network import Add, Conv, Dense, Flatten, Input, Layer, Network, Range, SumPool
from randhet.fixed_point.result import Result


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def byte(values: object) -> np.ndarray:
    return np.array(values, np.int8)


def lif(*thresholds: int) -> ir.Lif:
    return ir.Lif(ints(*thresholds), ints(*[0] * len(thresholds)))


def read_out(*bias: int) -> ir.ReadOut:
    return ir.ReadOut(ints(*bias))


# --- by hand ----------------------------------------------------------------------------------------------------------


def branches() -> Network:
    """Branches of unequal depth behind a signed input of 4 bits, -8..7."""
    layers = (
        Layer("input", Input((1, 2, 2), 4, signed=True)),
        Layer("twice", Add(), (0, 0)),
        Layer("pool", SumPool((2, 1), (1, 1)), (1,)),
        Layer("stem", Conv(byte([[[[3]]], [[[-2]]]])), (0,), lif(9, 9)),
        Layer("deep", Conv(byte(np.full((2, 2, 1, 1), -1))), (3,), lif(9, 9)),
        Layer("sum", Add(), (3, 4, 3)),
        Layer("flat", Flatten(), (5,)),
        Layer("on sums", Dense(byte([[1] * 8, [-1] * 8])), (6,), lif(9, 9)),
        Layer("read", Dense(byte([[2, -1], [-3, 0]])), (2,), read_out(-7, 1)),
    )
    return Network(layers, 3)


def test_facts_by_hand() -> None:
    network = branches()
    assert network.shapes == ((1, 2, 2), (1, 2, 2), (1, 1, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (8,), (2,), (2,))
    spike = Range(0, 1)
    # read: 2 * -32 - 28 = -92 and less by 7; -3 * -32 = 96 and more by 1
    assert network.ranges == (
        Range(-8, 7), Range(-16, 14), Range(-32, 28), spike, spike, Range(0, 3), Range(0, 3), spike, Range(-99, 97)
    )  # fmt: skip
    assert network.bounds == (0, 0, 0, 24, 2, 0, 0, 24, 96)
    assert network.delays == (0, 0, 0, 1, 2, 2, 2, 3, 1)
    assert delays(network.layers, synapse=2) == (0, 0, 0, 2, 4, 4, 4, 6, 2)


@pytest.mark.parametrize(
    ("span", "signed", "peak", "bits"),
    [
        (Range(0, 0), False, 0, 0),
        (Range(0, 1), False, 1, 1),
        (Range(0, 255), False, 255, 8),
        (Range(0, 256), False, 256, 9),
        (Range(-1, 0), True, 1, 1),
        (Range(-8, 7), True, 8, 4),
        (Range(-8, 8), True, 8, 5),
        (Range(-9, 0), True, 9, 5),
        (Range(-32768, 32767), True, 32768, 16),
    ],
)
def test_what_a_range_says(span: Range, signed: bool, peak: int, bits: int) -> None:
    assert (span.signed, span.peak, span.bits) == (signed, peak, bits)


@pytest.mark.parametrize(("bits", "signed"), [(1, False), (1, True), (8, False), (8, True), (24, False), (24, True)])
def test_the_range_of_an_input(bits: int, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    assert Network((Layer("input", Input((1,), bits, signed)),), 1).ranges == (Range(low, high),)


# --- by brute force ---------------------------------------------------------------------------------------------------


def extremes(network: Network) -> np.ndarray:
    """Every image whose pixels are all at one of their ends, (2^n, *shape)."""
    shape = network.input.shape
    pixels = product(network.ranges[0], repeat=int(np.prod(shape)))
    images = np.array(list(pixels), np.int64).reshape(-1, *shape)
    # of recordings those whose frames are all alike
    return np.repeat(images[:, None], network.steps, 1) if network.input.sequence else images


def seen(network: Network) -> tuple[Result, dict[str, int]]:
    """A run of all extreme images, and the largest |synaptic sum| of each layer in it."""
    largest: dict[str, int] = {}

    def listen(layer: Layer, t: int, total: np.ndarray) -> None:
        largest[layer.name] = max(largest.get(layer.name, 0), int(np.abs(total).max()))

    names = [layer.name for layer in network.layers]
    return reference.run(network, extremes(network), seed=4, probes=names, observer=listen), largest


FEW_PIXELS = [number for number in range(160) if np.prod(numbered(number).network.input.shape) <= 8]


@pytest.mark.parametrize("number", FEW_PIXELS)
def test_no_value_and_no_sum_of_a_random_network_leaves_its_range(number: int) -> None:
    network = numbered(number).network
    result, largest = seen(network)
    for layer, (low, high), bound in zip(network.layers, network.ranges, network.bounds):
        output = result.traces[layer.name].output
        assert low <= output.min() and output.max() <= high, layer.name
        assert not layer.weighted or largest[layer.name] <= bound, layer.name


@given(
    st.integers(1, 16), st.booleans(), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_ranges_are_reached_where_pixels_are_independent(
    bits: int, signed: bool, copies: int, height: int, by_conv: bool, seed: int
) -> None:
    """A read-out without bias behind sums of a pool whose windows do not overlap: both ends, and the bound, occur."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(-127, 128, (2, 3 * 2 // height))
    weight = Conv(byte(wide.reshape(2, 1, -1, 3))) if by_conv else Dense(byte(wide))
    layers = (
        Layer("input", Input((1, 2, 3), bits, signed)),
        Layer("pool", SumPool((height, 1), (height, 1)), (0,)),
        Layer("sum", Add(), (1,) * (copies + 1)),
        Layer("read", weight, (2,), read_out(0, 0)),
    )
    network = Network(layers, 1)
    result, largest = seen(network)
    for layer, span in zip(layers, network.ranges):
        output = result.traces[layer.name].output
        assert span == (min(output.min(), 0), max(output.max(), 0)), layer.name
    assert largest["read"] == network.bounds[-1]


# --- what version 0.1 got wrong: the right values on every backend, or a refusal --------------------------------------


def everywhere(network: Network, images: list, first_image: int = 0) -> Result:
    """What the reference gives, and every other backend that runs here too; Lava has tests of its own."""
    names = [layer.name for layer in network.layers]
    run = lambda name: backends.runner(name)(
        network, np.array(images, np.int32), seed=1, first_image=first_image, probes=names
    )
    others = [name for name in backends.available() if name not in ("reference", "lava")]
    assert {"engine", "add-only"} <= set(others)
    right = run("reference")
    for name in others:
        assert_equal(run(name), right)
    return right


def first_of(result: Result, layer: str) -> int:
    return int(result.traces[layer].output.ravel()[0])


def picture() -> Network:
    return Network(
        (Layer("input", Input((2, 1, 2))), Layer("read", Dense(byte([[1, 10, 100, 0]])), (0,), read_out(0))), 1
    )


PICTURE = [[[[1, 2]], [[3, 4]]]]


def test_a_dense_layer_reads_a_picture_channel_by_channel() -> None:
    """1 + 2*10 + 3*100 = 321; version 0.1 gave 231 on Lava, which read (x, y, channel)."""
    assert everywhere(picture(), PICTURE).sums.tolist() == [[321]]


@pytest.mark.lava
def test_a_dense_layer_reads_a_picture_channel_by_channel_on_lava() -> None:
    run = backends.runner("lava")
    found = run(picture(), np.array(PICTURE, np.uint8), seed=1, first_image=0, probes=())
    assert found.sums.tolist() == [[321]]


def test_a_negative_pixel_behind_another_weighted_layer() -> None:
    """Version 0.1: 253 for -3 on the add-only path, which took the second layer's input for a byte."""
    layers = (
        Layer("input", Input((1, 1, 1), 8, signed=True)),
        Layer("lif", Dense(byte([[1]])), (0,), lif(100)),
        Layer("read", Dense(byte([[1]])), (0,), read_out(0)),
    )
    assert first_of(everywhere(Network(layers, 1), [[[[-3]]]]), "read") == -3


@pytest.mark.parametrize(
    ("operation", "inputs", "value"), [(Add(), (0, 0), -6), (SumPool((2, 2), (1, 1)), (0,), -12), (Flatten(), (0,), -3)]
)
def test_sums_and_pools_of_negative_pixels(operation: ir.Operation, inputs: tuple[int, ...], value: int) -> None:
    """Pixels of -3 in a signed input of 4 bits. Version 0.1: engine and add-only 250 for -6, 244 for -12."""
    layers = (Layer("input", Input((1, 2, 2), 4, signed=True)), Layer("sum", operation, inputs))
    features = int(np.prod(Network(layers, 1).shapes[-1]))
    weight = byte([[1] + [0] * (features - 1)])
    network = Network((*layers, Layer("read", Dense(weight), (1,), read_out(0))), 1)
    right = everywhere(network, [[[[-3, -3], [-3, -3]]]])
    assert first_of(right, "sum") == first_of(right, "read") == value


@pytest.mark.parametrize(
    ("reader", "inputs", "neuron"),
    [
        (Dense(byte([[1]])), (1,), read_out(0)),
        (Conv(byte([[[[1]]]])), (1,), lif(5)),
        (Flatten(), (1,), None),
        (Add(), (0, 1), None),
    ],
)
def test_a_read_out_is_not_read(reader: ir.Operation, inputs: tuple[int, ...], neuron: ir.Neuron | None) -> None:
    """Version 0.1: the engine and the add-only path gave 253 for -3."""
    layers = (
        Layer("input", Input((1, 1, 1))),
        Layer("first", Conv(byte([[[[-1]]]])), (0,), read_out(0)),
        Layer("second", reader, inputs, neuron),
    )
    with pytest.raises(NetworkError, match="^layer second: reads the read-out first, whose sums are 32 bit"):
        Network(layers, 1)


def test_a_cuba_current_beyond_its_word_is_refused() -> None:
    """266273 * 127 << 6 leaves 32 bits. Version 0.1: over 8 steps 8 spikes of the reference, 0 of the add-only path."""
    layers = (
        Layer("input", Input((1, 1, 1), 20)),
        Layer("neuron", Dense(byte([[127]])), (0,), ir.Cuba(ints(1000), ints(0), 0, 0, f=6)),
    )
    reach = 127 * (2**20 - 1) << 6
    sentence = rf"^layer neuron: a current a << f can reach {reach}, the limit is 16777216$"
    with pytest.raises(NetworkError, match=sentence):
        Network(layers, 2)


def test_sums_of_pools_beyond_32_bits_are_refused() -> None:
    """64 * 64 * (2^24 - 1). Version 0.1: 68719472640 of the reference, -4096 of the engine, 2147483647 of ONNX."""
    layers = (Layer("input", Input((1, 64, 64), 24)), Layer("pool", SumPool((64, 64), (64, 64)), (0,)))
    with pytest.raises(NetworkError, match="^layer pool: a sum can reach 68719472640, the limit is 2147483647$"):
        Network(layers, 1)


def drawing() -> Network:
    """One neuron whose decay is drawn at each of 4 steps."""
    neuron = ir.Lif(ints(100_000), ints(0), ir.Drawn())
    return Network((Layer("input", Input((1, 1, 1))), Layer("n", Dense(byte([[1]])), (0,), neuron)), 4)


@pytest.mark.parametrize("first", [2**61, 2**62 - 1])
def test_numbers_of_draws_may_pass_64_bits(first: int) -> None:
    """Version 0.1's reference wrapped at 2^63 draws: [2425, 3372, 4554, 5880] at image 2^61, which is another's."""
    right = oracle.run(drawing(), [[[[100]]]], 1, first).membranes["n"][0]
    membrane = everywhere(drawing(), [[[[100]]]], first).traces["n"].membrane
    assert membrane is not None and membrane.reshape(4, 1).tolist() == right


@pytest.mark.parametrize("first", [-1, 2**62, 2**64])
def test_numbers_of_images_beyond_their_ends_are_refused(first: int) -> None:
    """Version 0.1 took -1 for 2^62 - 1, and 2^62 for 0 in the reference only."""
    image = np.full((1, 1, 1, 1), 100, np.uint8)
    for name in backends.available():
        with pytest.raises(NetworkError, match=f"^first_image is {first}, images have numbers 0 to {2**62 - 1}$"):
            backends.runner(name)(drawing(), image, seed=1, first_image=first, probes=())
