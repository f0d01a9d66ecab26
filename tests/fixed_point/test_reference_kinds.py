"""Resets, floors, read-outs, gates, pools, recurrence and sequences of the reference, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hardware_tests import oracle
from hardware_tests.agreement import judge
from hardware_tests.random_networks import numbered
from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.reference import run

HALF = ir.Constant(128)
"""tau = 1/2."""


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def byte(values: object) -> np.ndarray:
    return np.array(values, np.int8)


def single(neuron: ir.Neuron, frames: list[int], operation: ir.Operation | None = None) -> Network:
    """One value through one weight of 1 into one neuron, a frame for each step."""
    layer = Layer("it", operation or ir.Dense(byte([[1]])), (0,), neuron)
    return Network((Layer("input", ir.Input((1,), 16, signed=True, sequence=True)), layer), len(frames))


def trace(neuron: ir.Neuron, frames: list[int], **options: Any) -> tuple[list[int], list[int]]:
    """Outputs and membrane potentials before the reset of each step."""
    images = np.array(frames, np.int16).reshape(1, -1, 1)
    found = run(single(neuron, frames, **options), images, seed=1, probes=["it"]).traces["it"]
    assert found.membrane is not None
    return found.output.ravel().tolist(), found.membrane.ravel().tolist()


def lif(threshold: int = 10, **fields: Any) -> ir.Lif:
    return ir.Lif(ints(threshold), ints(0), **({"decay": HALF, "f": 0} | fields))


def test_a_reset_by_subtraction_acts_at_once() -> None:
    # m: 40/2 = 20 -> 10; (10 + 40)/2 = 25 -> 15; (15 + 0)/2 = 7 (floor)
    assert trace(lif(reset="subtract"), [40, 40, 0]) == ([1, 1, 0], [20, 25, 7])


def test_a_delayed_reset_by_subtraction_acts_after_the_next_decay() -> None:
    # 20 fires; (20 + 40)/2 - 10 = 20 fires; (20 + 0)/2 - 10 = 0; (0 + 8)/2 = 4
    assert trace(lif(reset="subtract", reset_delay=1), [40, 40, 0, 8]) == ([1, 1, 0, 0], [20, 20, 0, 4])


def test_a_delayed_reset_to_zero_takes_the_whole_next_step() -> None:
    # 20 fires; 0 whatever the input; (0 + 40)/2 = 20 fires; 0
    assert trace(lif(reset_delay=1), [40, 32767, 40, -400]) == ([1, 0, 1, 0], [20, 0, 20, 0])


def test_a_delayed_subtraction_saturates_at_the_ends_of_24_bits() -> None:
    neuron = lif(STATE_MAX - 1, reset="subtract", reset_delay=1, f=16, decay=ir.Constant(0))
    result = run(single(neuron, [32767, -32768]), np.array([[[32767], [-32768]]]), seed=1, probes=["it"])
    found = result.traces["it"]
    assert found.membrane is not None
    assert found.membrane.ravel().tolist() == [STATE_MAX, -STATE_MAX] and found.output.ravel().tolist() == [1, 0]
    # the two currents leave 24 bits, and so does the second potential less the threshold
    assert result.saturations == 3


@pytest.mark.parametrize("floor", [np.array(-3, np.int32), ints(-3)])
def test_a_floor_holds_the_potential_up(floor: np.ndarray) -> None:
    # -40/2 = -20 -> -3; (-3 + 10)/2 = 3; without a floor -20, then -5
    assert trace(lif(floor=floor), [-40, 10]) == ([0, 0], [-3, 3])
    assert trace(lif(), [-40, 10]) == ([0, 0], [-20, -5])


@pytest.mark.parametrize(("read", "right"), [("last", 6), ("max", 20), ("sum", 20 + 10 + 13 - 1 + 6)])
def test_a_leaky_read_out_is_read_at_the_end_at_its_largest_or_summed(read: ir.Read, right: int) -> None:
    # 40/2 = 20; 20/2 = 10; (10 + 16)/2 = 13; (13 - 15)/2 = -1; (-1 + 14)/2 = 6 (floor of 6.5)
    frames, neuron = [40, 0, 16, -15, 14], ir.Leaky(lif(STATE_MAX), read)
    assert trace(neuron, frames)[0] == [20, 10, 13, -1, 6]
    assert run(single(neuron, frames), np.array(frames).reshape(1, -1, 1)).sums.tolist() == [[right]]


def test_a_leaky_read_out_of_a_current_based_neuron() -> None:
    # the current keeps half, (4096 - 2047 - 1) / 4096; the voltage all: u 64, 32, 16; v 64, 96, 112
    neuron = ir.Leaky(ir.Cuba(ints(STATE_MAX), ints(0), 2047, 0), "last")
    assert trace(neuron, [1, 0, 0])[0] == [64, 96, 112]


def test_a_recurrent_layer_reads_its_spikes_of_the_step_before() -> None:
    # tau 0: m = a. The first neuron's spike excites the second, which excites itself and inhibits the first
    dense = ir.Dense(byte([[1], [0]]), byte([[0, -50], [30, 20]]))
    neuron = ir.Lif(ints(10, 10), ints(0, 0), ir.Constant(0), f=0)
    layers = (Layer("input", ir.Input((1,), 16, signed=True, sequence=True)), Layer("it", dense, (0,), neuron))
    found = run(Network(layers, 4), np.array([[[11], [12], [70], [0]]]), probes=["it"]).traces["it"]
    assert found.membrane is not None
    assert found.membrane[0].tolist() == [[11, 0], [12, 30], [20, 50], [-50, 50]]
    assert found.output[0].tolist() == [[1, 0], [1, 1], [1, 1], [0, 1]]


def applied(operation: ir.Operation, image: object, reads: tuple[int, ...] = (0,), **fields: Any) -> list:
    values = np.array(image)
    layers = (Layer("input", ir.Input(values.shape, **fields)), Layer("it", operation, reads))
    return run(Network(layers, 1), values[None], probes=["it"]).traces["it"].output[0, 0].tolist()


def test_a_max_pool_takes_the_largest_and_never_what_is_padded() -> None:
    image = [[[-5, -2, -9], [-7, -3, -8]]]
    assert applied(ir.MaxPool((2, 2), (1, 1)), image, signed=True) == [[[-2, -2]]]
    assert applied(ir.MaxPool((2, 2), (2, 2), (1, 1)), image, signed=True) == [[[-5, -2], [-7, -3]]]


def test_spread_values_stand_apart_with_zeros_between_and_behind() -> None:
    assert applied(ir.Spread((2, 1), (1, 2)), [[[1, 2], [3, 4]]]) == [
        [[1, 2, 0, 0], [0, 0, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]
    ]


def test_a_convolution_of_spread_values_is_torch_s_transposed_convolution() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    image, weight = rng.integers(0, 9, (1, 3, 4, 5)), rng.integers(-5, 6, (3, 2, 3, 2))
    right = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(image).double(), torch.from_numpy(weight).double(), stride=(2, 3), output_padding=(1, 2)
    )
    flipped = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].astype(np.int8)
    layers = (
        Layer("input", ir.Input((3, 4, 5))),
        Layer("spread", ir.Spread((2, 3), (1, 2)), (0,)),
        Layer("it", ir.Conv(flipped, padding=(2, 1)), (1,), ir.ReadOut(ints(0, 0))),
    )
    assert run(Network(layers, 1), image, probes=["it"]).traces["it"].output[0, 0].tolist() == right[0].tolist()


def test_channels_are_put_one_after_another() -> None:
    assert applied(ir.Concat(), [[[1, 2]], [[3, 4]]], (0, 0)) == [[[1, 2]], [[3, 4]], [[1, 2]], [[3, 4]]]


def test_gates_of_all_pairs_of_spikes() -> None:
    def last_layer(gate: ir.Operation) -> list:
        swap = ir.Dense(byte([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
        neuron = ir.Lif(ints(0, 0, 0, 0) + 1, ints(1, 1, 1, 1), ir.Constant(0), f=0)
        layers = (
            Layer("input", ir.Input((4,), 1)),
            Layer("swapped", swap, (0,), neuron),
            Layer("it", gate, (0, 1)),
        )
        return run(Network(layers, 1), np.array([[0, 0, 1, 1]]), probes=["it"]).traces["it"].output[0, 0].tolist()

    # a = 0 0 1 1 and b = 0 1 0 1
    assert last_layer(ir.And()) == [0, 0, 0, 1]
    assert last_layer(ir.Iand()) == [0, 1, 0, 0]


def test_a_sequence_whose_frames_are_alike_is_the_still_image() -> None:
    for number in range(40):
        still = numbered(number, wide=False)
        first, *rest = still.network.layers
        assert isinstance(first.operation, ir.Input)
        moving = replace(first, operation=replace(first.operation, sequence=True))
        network = replace(still.network, layers=(moving, *rest))
        frames = np.repeat(still.images[:, None], network.steps, 1)
        options: dict[str, Any] = {"seed": still.seed, "first_image": still.first_image}
        right, found = run(still.network, still.images, **options), run(network, frames, **options)
        assert right.sums.tolist() == found.sums.tolist() and right.spikes == found.spikes


def moving(network: Network) -> Network:
    """The network with a sequence for its input, and decays drawn at every step where they are drawn."""
    first, *rest = network.layers
    assert isinstance(first.operation, ir.Input)
    return replace(
        network,
        layers=(replace(first, operation=replace(first.operation, sequence=True)), *map(drawn_at_each_step, rest)),
    )


def drawn_at_each_step(layer: Layer) -> Layer:
    if layer.lif is None or layer.drawn is None:
        return layer
    dynamics = replace(layer.lif, decay=replace(layer.drawn, sampling="step"))
    return replace(layer, neuron=replace(layer.neuron, dynamics=dynamics) if layer.lif != layer.neuron else dynamics)


def doubled(count: int) -> Iterator[tuple[Network, Network]]:
    """Random networks, each also with twice as many steps, where sums over so many fit."""
    for number in range(count):
        network = moving(numbered(number, wide=True).network)
        with suppress(NetworkError):
            yield network, replace(network, steps=2 * network.steps)


def test_pieces_of_a_recording_give_what_one_long_recording_gives() -> None:
    """Two pieces of T steps without a reset between them are one recording of 2 T steps, draws included."""
    tried = [pieces_and_whole(i, *networks) for i, networks in enumerate(doubled(60))]
    assert len(tried) > 40


def pieces_and_whole(seed: int, network: Network, twice: Network) -> None:
    low, high = network.ranges[0]
    frames = np.random.default_rng(seed).integers(low, high, (1, twice.steps, *network.input.shape), endpoint=True)
    names = [layer.name for layer in network.layers]
    right = run(twice, frames, seed=3, probes=names)
    pieces = frames.reshape(2, network.steps, *network.input.shape)
    found = run(network, pieces, seed=3, probes=names, stream=True)
    assert right.spikes == found.spikes and right.saturations == found.saturations
    for layer in network.layers:
        due, other = right.traces[layer.name], found.traces[layer.name]
        assert np.array_equal(due.output.reshape(other.output.shape), other.output), layer.name
        # the sums of a read-out start anew with each piece
        if other.membrane is not None and due.membrane is not None and not isinstance(layer.neuron, ir.ReadOut):
            assert np.array_equal(due.membrane.reshape(other.membrane.shape), other.membrane), layer.name


STILL = Layer("input", ir.Input((2, 3, 3), 1))
REFUSED: list[tuple[tuple[Layer, ...], str]] = [
    ((STILL, Layer("gate", ir.And(), (0,))), "layer gate: And reads 1 layers, the limits are 2 to 2"),
    (
        (Layer("input", ir.Input((2, 3, 3), 4)), Layer("gate", ir.Iand(), (0, 0))),
        "layer gate: input sends 0..15, a gate reads spikes, 0 and 1",
    ),
    (
        (STILL, Layer("pool", ir.MaxPool((2, 2), (1, 1), (2, 0)), (0,))),
        "layer pool: pool padding (2, 0) must be 0 to half the kernel (2, 2)",
    ),
    (
        (STILL, Layer("apart", ir.Spread((0, 1)), (0,))),
        "layer apart: spread by stride (0, 1), at least 1, and extra (0, 0), at least 0",
    ),
    (
        (STILL, Layer("flat", ir.Flatten(), (0,)), Layer("both", ir.Concat(), (0, 1))),
        "layer both: concatenation of shapes (2, 3, 3), (18,), only channels may differ",
    ),
    (
        (STILL, Layer("it", ir.Dense(byte([[1] * 18]), byte([[1, 2]])), (0,), lif())),
        "layer it: recurrent weights are of shape (1, 2), its neurons need (1, 1)",
    ),
    (
        (STILL, Layer("it", ir.Dense(byte([[1] * 18]), byte([[1]])), (0,), ir.ReadOut(ints(0)))),
        "layer it: recurrent weights read the layer's own spikes, and its neuron sends none",
    ),
    (
        (STILL, Layer("it", ir.Dense(byte([[1] * 18])), (0,), ir.Leaky(lif(9)))),
        "layer it: a leaky read-out never spikes, its threshold must be 8388607",
    ),
    (
        (STILL, Layer("it", ir.Dense(byte([[1] * 18])), (0,), ir.Leaky(lif(STATE_MAX, reset="subtract")))),
        "layer it: a leaky read-out never spikes, its reset must be 'zero' with reset delay 0",
    ),
    (
        (STILL, Layer("it", ir.Dense(byte([[1] * 18])), (0,), lif(floor=ints(3), reset_delay=2))),
        "layer it: reset delay is 2, the limits are 0 to 1; layer it: floor lies in 3..3, the limits are -8388607 to 0",
    ),
]


@pytest.mark.parametrize(("layers", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_what_breaks_a_rule_is_refused(layers: tuple[Layer, ...], sentence: str) -> None:
    with pytest.raises(NetworkError) as caught:
        Network(layers, 2)
    assert str(caught.value) == sentence


def test_a_summed_potential_must_fit_32_bits() -> None:
    layers = (STILL, Layer("it", ir.Dense(byte([[1] * 18])), (0,), ir.Leaky(lif(STATE_MAX), "sum")))
    assert Network(layers, 256).steps == 256
    with pytest.raises(NetworkError, match="layer it: a sum can reach 2155871999, the limit is 2147483647"):
        Network(layers, 257)


@pytest.mark.parametrize("frames", [2, 4])
def test_a_recording_of_another_length_is_refused(frames: int) -> None:
    network = single(lif(), [1, 2, 3])
    with pytest.raises(NetworkError, match=r"takes recordings of T frames, integers of \(3, 1\)"):
        run(network, np.zeros((1, frames, 1), np.int16))


@pytest.mark.parametrize("number", range(150))
def test_random_networks_of_every_kind_give_the_oracle_s_integers(number: int) -> None:
    drawn = numbered(number, wide=True)
    right = oracle.run(drawn.network, drawn.images.tolist(), drawn.seed, drawn.first_image)
    said, size = judge(drawn, run, right)
    assert not said and size
