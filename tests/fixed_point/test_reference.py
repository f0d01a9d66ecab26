"""The reference interpreter's operations against torch in float64 (exact below 2^53), its bookkeeping by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randhet.base.errors import NetworkError
from randhet.fixed_point import integer, reference
from randhet.fixed_point.generator import LayerGenerator, tau_table
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
    PerNeuron,
    ReadOut,
    Reset,
    SumPool,
)


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_conv_equals_torch(data: st.DataObject) -> None:
    functional = pytest.importorskip("torch.nn.functional", reason="torch is the peer of this test")
    torch = pytest.importorskip("torch")
    pick = lambda low, high: data.draw(st.integers(low, high))
    groups, kernel = pick(1, 3), (pick(1, 4), pick(1, 4))
    rng = np.random.default_rng(pick(0, 2**32 - 1))
    weight = rng.integers(-127, 128, (groups * pick(1, 3), pick(1, 3), *kernel)).astype(np.int8)
    conv = Conv(weight, (pick(1, 3), pick(1, 3)), (pick(0, 2), pick(0, 2)), (pick(1, 2), pick(1, 2)), groups)
    source = rng.integers(0, 256, (2, groups * weight.shape[1], 9, 8))
    peer = functional.conv2d(
        torch.tensor(source, dtype=torch.float64),
        torch.tensor(weight, dtype=torch.float64),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=groups,
    )
    assert np.array_equal(reference.operate(conv, [source]), peer.numpy().astype(np.int64))


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((4, 4), (4, 4)), ((1, 1), (3, 1))])
def test_sum_pool_equals_scaled_average_pool(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    source = np.random.default_rng(1).integers(0, 5, (3, 2, 8, 8))
    peer = torch.nn.functional.avg_pool2d(torch.tensor(source, dtype=torch.float64), kernel, stride, divisor_override=1)
    assert np.array_equal(reference.operate(SumPool(kernel, stride), [source]), peer.numpy().astype(np.int64))


def test_add_and_flatten() -> None:
    a, b = np.arange(24).reshape(2, 3, 2, 2), np.ones((2, 3, 2, 2), np.int64)
    assert np.array_equal(reference.operate(Add(), [a, b, b]), a + 2)
    assert np.array_equal(reference.operate(Flatten(), [a])[1], np.arange(12, 24))


def chain(neuron: Neuron, steps: int = 6) -> Network:
    """One pixel, one neuron with weight 1, a classifier that counts spikes."""
    return Network(
        (
            Layer("input", Input((1, 1, 1))),
            Layer("neuron", Conv(np.ones((1, 1, 1, 1), np.int8)), (0,), neuron),
            Layer("flat", Flatten(), (1,)),
            Layer("read", Dense(np.ones((1, 1), np.int8)), (2,), ReadOut(ints(0, 1))),
        ),
        steps,
    )


def test_lif_follows_its_closed_form() -> None:
    """With A = 128, k = 8 and current x from rest, m[t] = x*(1 - 2^-t) exactly while that is whole."""
    network = chain(Lif(ints(2**20, 1), ints(0, 1)))
    trace = reference.run(network, np.full((1, 1, 1, 1), 64, np.uint8), probes=["neuron"]).traces["neuron"]
    assert trace.membrane is not None
    assert trace.membrane[0, :, 0, 0, 0].tolist() == [4096 - (4096 >> (t + 1)) for t in range(6)]
    assert trace.output.sum() == 0


def membranes(neuron: Neuron, pixel: int, steps: int) -> list[int]:
    """Membrane potentials of the one neuron of `chain`, before each reset."""
    trace = reference.run(chain(neuron, steps), np.full((1, 1, 1, 1), pixel, np.uint8), probes=["neuron"])
    membrane = trace.traces["neuron"].membrane
    assert membrane is not None
    return membrane.ravel().tolist()


@pytest.mark.parametrize(
    ("reset", "values"), [("zero", [3200, 4800, 5600, 3200]), ("subtract", [3200, 4800, 5600, 3500])]
)
def test_what_a_spike_leaves(reset: Reset, values: list[int]) -> None:
    """x = 6400, A / 2^k = 1/2, threshold 5000: 3200, 4800, 5600 fires; then half of 6400, or of 6400 + 600."""
    assert membranes(Lif(ints(5000, 1), ints(0, 1), reset=reset), 100, 4) == values


def test_subtraction_spikes_once_a_step_and_keeps_the_rest() -> None:
    """Without decay m = x at every step; with A = 255 of 256 the rest above the threshold stays and fires again."""
    assert membranes(Lif(ints(3000, 1), ints(0, 1), Constant(0), reset="subtract"), 100, 3) == [6400] * 3
    layers = (
        Layer("input", Input((1, 1, 1))),
        Layer(
            "once", Dense(np.ones((1, 1), np.int8)), (0,), Lif(ints(1, 1), ints(0, 1), Constant(255), reset="subtract")
        ),
    )
    found = reference.run(Network(layers, 5), np.full((1, 1, 1, 1), 255, np.uint8), probes=["once"]).traces["once"]
    # x = 16320: m = 16320 - 255*16320/256 = 63 (floor of 63.75); less 1, and so on; every step fires
    expected, m = [], 0
    for _ in range(5):
        m = 16320 + (255 * (m - 16320) // 256)
        expected.append(m)
        m -= 1
    assert found.membrane is not None and found.membrane.ravel().tolist() == expected
    assert found.output.ravel().tolist() == [1] * 5


def test_an_unknown_reset_raises() -> None:
    with pytest.raises(ValueError, match="reset is 'half', it must be 'zero' or 'subtract'"):
        integer.fire(np.array([5]), np.array([1]), "half")


def test_a_decay_per_neuron_is_that_neuron_s() -> None:
    decay = PerNeuron(np.array([[[0, 64], [128, 255]]], np.uint16))
    layers = (
        Layer("input", Input((1, 2, 2))),
        Layer("n", Conv(np.ones((1, 1, 1, 1), np.int8)), (0,), Lif(ints(2**20, 1), ints(0, 1), decay)),
    )
    trace = reference.run(Network(layers, 1), np.full((1, 1, 2, 2), 4, np.uint8), probes=["n"]).traces["n"]
    assert trace.membrane is not None
    assert trace.membrane.ravel().tolist() == [256, 256 - 64, 128, 1]


def test_cuba_at_the_ends_of_its_decays() -> None:
    """Current kept whole (-1) grows by 64 a step; voltage wholly lost (4096) is u alone, wholly kept (0) the sum."""
    assert membranes(Cuba(ints(2**20, 1), ints(0, 1), -1, 4096), 1, 4) == [64, 128, 192, 256]
    assert membranes(Cuba(ints(2**20, 1), ints(0, 1), 4095, 4096), 1, 4) == [64] * 4
    assert membranes(Cuba(ints(2**20, 1), ints(0, 1), 4095, 0), 1, 4) == [64, 128, 192, 256]
    assert membranes(Cuba(ints(2**20, 1), ints(0, 1), -1, 0), 1, 4) == [64, 192, 384, 640]


def test_random_tau_reads_the_register_in_logical_time() -> None:
    """The decay of image i at step t is the register's draw i*T + t, whatever the batch and the first image."""
    neuron = Lif(ints(2**20, 1), ints(0, 1), Drawn())
    network, pixel = chain(neuron, steps=3), 200
    images = np.full((5, 1, 1, 1), pixel, np.uint8)
    membrane = (
        reference.run(network, images, seed=9, first_image=2, batch=2, probes=["neuron"]).traces["neuron"].membrane
    )
    assert membrane is not None
    registers = LayerGenerator(9, 1, 1, 1024)
    for image in range(5):
        m = 0
        for t in range(3):
            decay, x = int(tau_table()[registers.round((image + 2) * 3 + t)[0]]), pixel << 6
            m = x + ((decay * (m - x)) >> 8)
            assert membrane[image, t, 0, 0, 0] == m


def test_per_forward_sampling_holds_one_draw() -> None:
    neuron = Lif(ints(2**20, 1), ints(0, 1), Drawn(sampling="forward"))
    images = np.full((4, 1, 1, 1), 100, np.uint8)
    membrane = reference.run(chain(neuron), images, seed=3, probes=["neuron"]).traces["neuron"].membrane
    assert membrane is not None
    for image in range(4):
        decay, m = int(tau_table()[LayerGenerator(3, 1, 1, 1024).round(image)[0]]), 0
        for t in range(6):
            m = 6400 + ((decay * (m - 6400)) >> 8)
            assert membrane[image, t, 0, 0, 0] == m


@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_batches_do_not_change_the_result(batch: int) -> None:
    network = chain(Lif(ints(3000, 1), ints(0, 1), Drawn()))
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 1, 1), dtype=np.uint8)
    whole, split = reference.run(network, images, seed=5), reference.run(network, images, seed=5, batch=batch)
    assert np.array_equal(whole.sums, split.sums) and whole.spikes == split.spikes


def test_without_a_seed_two_runs_differ() -> None:
    network = chain(Lif(ints(8000, 1), ints(0, 1), Drawn()), steps=64)
    images = np.full((8, 1, 1, 1), 140, np.uint8)
    assert not np.array_equal(reference.run(network, images).sums, reference.run(network, images).sums)
    fixed = replace(network, seed=1)
    assert np.array_equal(reference.run(fixed, images).sums, reference.run(fixed, images).sums)


def test_saturations_are_counted() -> None:
    """A current of 255 * 127 * 512 << 6 leaves 24 bits at each of the 6 steps; the membrane stays inside."""
    weight = np.full((1, 512, 1, 1), 127, np.int8)
    layers = (
        Layer("input", Input((512, 1, 1))),
        Layer("neuron", Conv(weight), (0,), Lif(ints(100, 1), ints(0, 1))),
    )
    result = reference.run(Network(layers, 6), np.full((2, 512, 1, 1), 255, np.uint8))
    assert result.saturations == 12 and result.spikes == {"neuron": 12}


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 3, 8, 8), np.uint8), "takes still images, integers of"),
        (np.zeros((1, 1, 1, 1), np.float32), "float32"),
        (np.full((1, 1, 1, 1), 256, np.int64), "256"),
    ],
)
def test_wrong_images_are_refused(images: np.ndarray, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        reference.run(chain(Lif(ints(1, 1), ints(0, 1))), images)
