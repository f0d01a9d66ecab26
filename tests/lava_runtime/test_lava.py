"""Lava against the reference, integer by integer; Lava's own CUBA neuron; plain float arithmetic; wrong use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import strategies
from equality import assert_equal
from hypothesis import HealthCheck, Phase, given, seed, settings

from hardware_tests.random_networks import Run
from randhet.base.errors import FileError, NetworkError
from randhet.fixed_point import generator, reference
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Conv,
    Cuba,
    Decay,
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
    ReadOut,
    Reset,
    Sampling,
    Spread,
    SumPool,
)
from randhet.lava_runtime.plan import Run as LavaRun
from randhet.lava_runtime.runner import run

pytestmark = pytest.mark.lava
RNG = np.random.default_rng(7)


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def conv(out: int, into: int, kernel: int = 3, **geometry: object) -> Conv:
    weight = RNG.integers(-60, 61, (out, into, kernel, kernel)).astype(np.int8)
    return Conv(weight, **geometry)  # type: ignore[arg-type]


def drawn(channels: int, threshold: int = 4000, sampling: Sampling = "step", reset: Reset = "zero") -> Lif:
    decay = Drawn(sampling=sampling, neurons_per_core=37)
    return Lif(ints(threshold, channels), ints(50, channels), decay, reset=reset)


def dense(out: int, into: int) -> Dense:
    return Dense(RNG.integers(-99, 100, (out, into)).astype(np.int8))


def recurrent(out: int, into: int) -> Dense:
    return Dense(dense(out, into).weight, dense(out, out).weight)


def never(channels: int) -> Lif:
    return Lif(ints(STATE_MAX, channels), ints(-20, channels))


def everything() -> Network:
    """Every operation, neuron, decay and reset; branches of unequal depth meet in sums, gates and concatenations."""
    same = {"padding": (1, 1)}
    het = Lif(ints(3000, 6), ints(0, 6), PerNeuron(RNG.integers(0, 256, (6, 5, 4)).astype(np.uint16)))
    bias_map = Lif(ints(90_000, 6), RNG.integers(-9000, 9000, (6, 9, 7)).astype(np.int32), Drawn())
    cuba = Cuba(ints(900, 6), ints(17, 6), current_decay=700, voltage_decay=300, f=3)
    layers = (
        Layer("input", Input((2, 9, 7))),
        Layer("stem", conv(6, 2, **same), (0,), bias_map),
        Layer("a", conv(6, 3, groups=2, **same), (1,), drawn(6, sampling="forward", reset="subtract")),
        Layer("b", conv(6, 6, **same), (2,), Lif(ints(4000, 6), ints(0, 6), reset="subtract")),
        Layer("sum", Add(), (1, 3)),
        Layer("down", conv(6, 6, stride=(2, 2), **same), (4,), het),
        Layer("skip", conv(6, 6, 1, stride=(2, 2)), (4,), drawn(6, 2000)),
        Layer("deep", conv(6, 6, dilation=(2, 1), padding=(2, 1)), (5,), cuba),
        Layer("sum3", Add(), (5, 6, 7)),
        Layer("pool", SumPool((2, 2), (2, 2)), (8,)),
        Layer("and", And(), (5, 7)),
        Layer("iand", Iand(), (10, 6)),
        Layer("concat", Concat(), (11, 8, 5)),
        Layer("max", MaxPool((3, 2), (2, 2), (1, 1)), (12,)),
        Layer("spread", Spread((2, 1), (0, 1)), (13,)),
        Layer("up", conv(2, 18, 2), (14,), drawn(2)),
        Layer("flat", Flatten(), (9,)),
        Layer("flat up", Flatten(), (15,)),
        Layer("both", Concat(), (16, 17)),
        Layer("hidden", recurrent(11, 48), (18,), drawn(11)),
        Layer("bare", dense(5, 48), (18,)),
        Layer("aside", dense(3, 5), (20,), Leaky(never(3), "max")),
        Layer("read", dense(4, 11), (19,), ReadOut(ints(5, 4))),
    )
    return Network(layers, steps=5)


def pixels(network: Network, count: int) -> np.ndarray:
    return RNG.integers(0, 2**network.input.bits, (count, *network.input.shape)).astype(np.uint8)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_layer_and_neuron_equals_the_reference(batch: int) -> None:
    """Four images one after another, three side by side and one that is alone in the last round, all side by side."""
    network = everything()
    images, probes = pixels(network, 4), [layer.name for layer in network.layers]
    expected = reference.run(network, images, seed=11, first_image=3, probes=probes)
    assert expected.spikes["deep"] > 0 and len(np.unique(expected.sums)) > 4
    seen: list[int] = []
    found = run(network, images, seed=11, first_image=3, probes=probes, progress=seen.append, batch=batch)
    assert_equal(found, expected)
    assert sum(seen) == 4


def test_a_run_from_a_file_without_probes(tmp_path: Path) -> None:
    from randhet.netx.write import write

    network = everything()
    write(tmp_path / "a.net", network)
    images = pixels(network, 2)
    assert_equal(run(tmp_path / "a.net", images, seed=1), reference.run(network, images, seed=1))


@seed(0)
@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(strategies.runs())
def test_random_networks_equal_the_reference(given: Run) -> None:
    """Each example starts Lava, about 1.4 s, so they are few and always the same; a failure is not shrunk."""
    place = {"seed": given.seed, "first_image": given.first_image, "probes": given.names}
    expected = reference.run(given.network, given.images, **place)
    assert_equal(run(given.network, given.images, **place), expected)


def test_images_on_disk_are_not_read_into_memory(tmp_path: Path) -> None:
    """26 MB of images in a memory map; the program that runs them never holds a sixth of that."""
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (400, 1, 256, 256))
    images[:] = RNG.integers(0, 256, (400, 1, 1, 1))
    layers = (
        Layer("input", Input((1, 256, 256))),
        Layer("pool", SumPool((256, 256), (256, 256)), (0,)),
        Layer("read", Dense(np.array([[1], [-1]], np.int8)), (1,), ReadOut(ints(0, 2))),
    )
    tracemalloc.start()
    found = run(Network(layers, 1), images, seed=0, batch=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 6
    expected = 65_536 * images[:, 0, 0, 0].astype(np.int64)
    assert np.array_equal(found.sums, np.stack([expected, -expected], 1))


def test_images_in_one_run_or_in_two_are_the_same() -> None:
    """The registers start where the first image says, though the pipeline fills up anew."""
    network = everything()
    images = pixels(network, 3)
    whole, tail = run(network, images, seed=3), run(network, images[1:], seed=3, first_image=1)
    assert np.array_equal(whole.sums[1:], tail.sums)
    assert not np.array_equal(whole.sums[1:], run(network, images[1:], seed=3).sums)


def test_every_kind_is_in_the_network_of_all() -> None:
    layers = everything().layers
    neurons = [layer.neuron for layer in layers if layer.neuron]
    assert {type(layer.operation) for layer in layers} == set(get_args(Operation))
    assert {type(neuron) for neuron in neurons} == set(get_args(Neuron))
    assert {type(neuron.decay) for neuron in neurons if isinstance(neuron, Lif)} == set(get_args(Decay))
    assert {neuron.reset for neuron in neurons if isinstance(neuron, Lif)} == set(get_args(Reset))


class Majority:
    """An operation that Lava has no process for."""


def test_what_is_unknown_is_refused_by_the_name_of_its_layer(tmp_path: Path) -> None:
    from randhet.lava_runtime.builder import BuildError, build

    network = everything()
    object.__setattr__(network.layers[4], "operation", Majority())  # a network of unknown kinds cannot be made
    with pytest.raises(BuildError, match="Majority") as failure:
        build(network, LavaRun(tmp_path, 5, 1, 0, 0), [])
    assert failure.value.layer == "sum"


def test_signed_values_keep_their_sign_through_sums_and_pools() -> None:
    layers = (
        Layer("input", Input((1, 2, 2), bits=4, signed=True)),
        Layer("sum", Add(), (0, 0)),
        Layer("pool", SumPool((1, 2), (1, 1)), (1,)),
        Layer("read", Dense(np.array([[1, 10], [0, -1]], np.int8)), (2,), ReadOut(ints(0, 2))),
    )
    found = run(Network(layers, 1), np.array([[[[-3, -3], [7, -8]]]], np.int8), probes=["sum", "pool"])
    assert found.traces["sum"].output.ravel().tolist() == [-6, -6, 14, -16]
    assert found.traces["pool"].output.ravel().tolist() == [-12, -2]
    assert found.sums.tolist() == [[-32, 2]]


def test_a_dense_layer_reads_an_image_channel_by_channel() -> None:
    weight = np.array([[1, 10, 100, 0]], np.int8)
    layers = Layer("input", Input((2, 1, 2))), Layer("read", Dense(weight), (0,), ReadOut(ints(0, 1)))
    assert run(Network(layers, 1), np.array([[[[1, 2]], [[3, 4]]]], np.uint8)).sums.tolist() == [[321]]


@pytest.mark.parametrize("flat", [False, True])
def test_dense_layers_behind_images_of_every_kind_of_message(flat: bool) -> None:
    """Pixels, spikes, graded sums and wide sums of an image, each read by a dense layer with and without a flatten."""
    rng = np.random.default_rng(4)
    image = [
        Layer("input", Input((2, 3, 2), bits=6)),
        Layer("spikes", conv(2, 2, padding=(1, 1)), (0,), drawn(2, 3000)),
        Layer("graded", Add(), (1, 1)),
        Layer("large", SumPool((1, 1), (1, 1)), (0,)),
        Layer("wide", Add(), (3, 3, 3, 3, 3)),
    ]
    layers = list(image)
    for source in range(len(image)):
        if flat:
            layers.append(Layer(f"flat{source}", Flatten(), (source,)))
        read = Dense(rng.integers(-60, 61, (3, 12)).astype(np.int8))
        layers.append(Layer(f"dense{source}", read, (len(layers) - 1 if flat else source,), drawn(3)))
    network = Network(tuple(layers), 3)
    images, probes = pixels(network, 3), [layer.name for layer in layers]
    assert_equal(
        run(network, images, seed=2, probes=probes, batch=2), reference.run(network, images, seed=2, probes=probes)
    )


def test_layers_that_nothing_reads_are_run_to_their_end() -> None:
    """A read-out beside the way to the last layer, and a chain that is deeper than the last layer."""
    layers = (
        Layer("input", Input((3,))),
        Layer("a", Dense(np.full((2, 3), 9, np.int8)), (0,), drawn(2)),
        Layer("b", Dense(np.full((2, 2), 60, np.int8)), (1,), drawn(2)),
        Layer("aside", Dense(np.full((2, 2), -7, np.int8)), (2,), ReadOut(ints(3, 2))),
        Layer("last", Dense(np.full((2, 3), 5, np.int8)), (0,), ReadOut(ints(0, 2))),
    )
    network = Network(layers, 4)
    images, probes = pixels(network, 2), [layer.name for layer in layers]
    assert_equal(run(network, images, seed=2, probes=probes), reference.run(network, images, seed=2, probes=probes))


def single(neuron: Neuron, steps: int = 12) -> Network:
    weight = RNG.integers(-127, 128, (6, 4)).astype(np.int8)
    return Network((Layer("input", Input((4, 1, 1))), Layer("neuron", Dense(weight), (0,), neuron)), steps)


def test_saturation_is_equal_and_counted() -> None:
    network = single(Lif(ints(2**22, 6), ints(-(2**23) + 1, 6), f=12))
    images = pixels(network, 2)
    expected = reference.run(network, images, probes=["neuron"])
    assert expected.saturations > 0
    assert_equal(run(network, images, probes=["neuron"]), expected)


def test_cuba_equals_lavas_own_neuron() -> None:
    """The same sums into Lava's bit-accurate LIF, stepped directly: currents, voltages and spikes."""
    from randhet.lava_runtime.loading import load

    load()
    from lava.proc.lif.models import PyLifModelBitAcc

    network = single(Cuba(ints(300 << 6, 6), ints(17 << 6, 6), current_decay=700, voltage_decay=300))
    images = pixels(network, 1)
    dense = network.layers[1].operation
    assert isinstance(dense, Dense)
    total = dense.weight.astype(np.int32) @ images[0].reshape(-1).astype(np.int32)
    peer = PyLifModelBitAcc({})
    peer.u, peer.v = np.zeros(6, np.int32), np.zeros(6, np.int32)
    peer.du, peer.dv, peer.vth = 700, 300, np.int32(300)
    peer.bias_mant, peer.bias_exp = np.full(6, 17, np.int16), np.full(6, 6, np.int16)
    peer.scale_bias()
    peer.scale_threshold()
    spikes, voltages = [], []
    for _ in range(network.steps):
        peer.subthr_dynamics(total)
        voltages.append(peer.v.copy())
        spikes.append(peer.spiking_activation())
        peer.reset_voltage(spikes[-1])
    for result in (reference.run(network, images, probes=["neuron"]), run(network, images, probes=["neuron"])):
        trace = result.traces["neuron"]
        assert trace.membrane is not None
        assert np.array_equal(trace.membrane[0], np.stack(voltages))
        assert np.array_equal(trace.output[0], np.stack(spikes))
    assert np.stack(spikes).any() and not np.stack(spikes).all()


@pytest.mark.parametrize(("sampling", "reset"), [("step", "zero"), ("forward", "zero"), ("step", "subtract")])
def test_floating_point_is_plain_float_arithmetic(sampling: Sampling, reset: Reset) -> None:
    """m = x + tau * (m - x), tau = A / 2^k, with draws taken from a register that is stepped bit by bit."""
    table = drawn(6).drawn.table  # type: ignore[union-attr]
    network = single(Lif(ints(400_000, 6), ints(50, 6), Drawn(sampling=sampling), reset=reset))
    images = pixels(network, 2)
    trace = run(network, images, seed=4, probes=["neuron"], model="floating_pt").traces["neuron"]
    dense = network.layers[1].operation
    assert isinstance(dense, Dense) and trace.membrane is not None and trace.membrane.dtype == np.float64
    register, tau = generator.core_seed(4, 1, 0), np.zeros(6)
    for i, image in enumerate(images):
        current, membrane = dense.weight @ image.reshape(-1).astype(float) * 2**6 + 50, np.zeros(6)
        for t in range(network.steps):
            for n in range(6) if sampling == "step" or t == 0 else ():
                register, draw = generator.draw(register)
                tau[n] = table[draw] / 256
            membrane = current + tau * (membrane - current)
            assert np.allclose(trace.membrane[i, t], membrane, rtol=1e-12, atol=0)
            spikes = membrane > 400_000
            assert np.array_equal(trace.output[i, t], spikes)
            membrane = np.where(spikes, membrane - 400_000 if reset == "subtract" else 0, membrane)
    assert trace.output.any() and not trace.output.all()


def test_fixed_point_stays_within_the_error_of_the_floor() -> None:
    """Same draws: each floor loses less than one unit, so membranes differ by less than one unit per step."""
    network = single(drawn(6, 2**22))
    images = pixels(network, 3)
    fixed = reference.run(network, images, seed=4, probes=["neuron"]).traces["neuron"].membrane
    real = run(network, images, seed=4, probes=["neuron"], model="floating_pt").traces["neuron"].membrane
    assert fixed is not None and real is not None
    assert 0 < np.abs(fixed - real).max() < network.steps


def test_wrong_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    network = everything()
    with pytest.raises(NetworkError, match="images are"):
        run(network, np.zeros((1, 3, 9, 7), np.uint8))
    with pytest.raises(NetworkError, match="no layer is called nothing"):
        run(network, pixels(network, 1), probes=["nothing"])
    with pytest.raises(NetworkError, match="at least one image"):
        run(network, pixels(network, 0))
    with pytest.raises(NetworkError, match="CUBA neurons have no floating-point model"):
        run(single(Cuba(ints(1, 6), ints(0, 6), 0, 0)), np.zeros((1, 4, 1, 1), np.uint8), model="floating_pt")
    with pytest.raises(FileError, match="does not exist"):
        run(tmp_path / "no.net", pixels(network, 1))
    with pytest.raises(NetworkError, match="first_image is -1"):
        run(network, pixels(network, 1), first_image=-1)
