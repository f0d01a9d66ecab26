"""Synaptic operations against loops over every synapse, and NeuroBench's metrics against counts made by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from randhet.base.errors import RandhetError
from randhet.fixed_point import network as ir
from randhet.fixed_point import neurobench, reference, synaptic

SILENT = 2**20
"""A threshold that nothing here reaches."""


def lif(channels: int, threshold: int = 1, decay: int = 0) -> ir.Lif:
    """m = x where the decay is 0: a neuron fires where its sum is above 0."""
    return ir.Lif(np.full(channels, threshold, np.int32), np.zeros(channels, np.int32), ir.Constant(decay))


def synapses(operation: ir.Conv, values: np.ndarray, weights: np.ndarray) -> int:
    """Synapses from a value other than zero to a weight other than zero, one by one."""
    _, height, width = values.shape
    out, per_group, kernel_y, kernel_x = weights.shape
    (py, px), (sy, sx), (dy, dx) = operation.padding, operation.stride, operation.dilation
    rows = (height + 2 * py - dy * (kernel_y - 1) - 1) // sy + 1
    columns = (width + 2 * px - dx * (kernel_x - 1) - 1) // sx + 1
    count = 0
    for o, y, x, c, i, j in product(*map(range, (out, rows, columns, per_group, kernel_y, kernel_x))):
        source = (o // (out // operation.groups)) * per_group + c
        row, column = y * sy + i * dy - py, x * sx + j * dx - px
        if 0 <= row < height and 0 <= column < width:
            count += bool(values[source, row, column]) * bool(weights[o, c, i, j])
    return count


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        ((1, 1), (0, 0), (1, 1), 1),
        ((2, 1), (1, 2), (1, 1), 1),
        ((1, 2), (2, 1), (2, 1), 2),
        ((3, 3), (1, 1), (1, 1), 4),
    ],
)
def test_convolutions_drive_what_loops_count(stride: ir.Pair, padding: ir.Pair, dilation: ir.Pair, groups: int) -> None:
    rng = np.random.default_rng(5)
    weight = rng.integers(-1, 2, (8, 4 // groups, 3, 2)).astype(np.int8)
    values = rng.integers(0, 2, (4, 7, 6))
    operation = ir.Conv(weight, stride, padding, dilation, groups)
    layers = (
        ir.Layer("input", ir.Input((4, 7, 6))),
        ir.Layer("a", operation, (0,), lif(8)),
    )
    shape = ir.Network(layers, 1).shapes[1]
    everything = np.ones_like(values)
    assert synaptic.driven(operation, everything, shape) == synapses(operation, everything, np.ones_like(weight))
    assert synaptic.driven(operation, values, shape) == synapses(operation, values, np.ones_like(weight))
    assert synaptic.driven(operation, values, shape, weight != 0) == synapses(operation, values, weight)


def residual(sequence: bool = False, recurrent: bool = False) -> ir.Network:
    """A stem, a convolution, their sum, a convolution on the sum, a pool, and a read-out; random decays."""
    rng = np.random.default_rng(3)
    conv = lambda c, o: ir.Conv(rng.integers(-9, 10, (o, c, 3, 3)).astype(np.int8), padding=(1, 1))
    neuron = lambda o: replace(lif(o, 300), decay=ir.Drawn())
    own = rng.integers(-5, 6, (6, 6)).astype(np.int8) if recurrent else None
    layers = [
        ir.Layer("input", ir.Input((2, 4, 4), bits=2, sequence=sequence)),
        ir.Layer("stem", conv(2, 3), (0,), neuron(3)),
        ir.Layer("branch", conv(3, 3), (1,), neuron(3)),
        ir.Layer("add", ir.Add(), (1, 2)),
        ir.Layer("after", conv(3, 2), (3,), neuron(2)),
        ir.Layer("flatten", ir.Flatten(), (4,)),
        ir.Layer("hidden", ir.Dense(rng.integers(-20, 21, (6, 32)).astype(np.int8), own), (5,), neuron(6)),
        ir.Layer("out", ir.Dense(rng.integers(-3, 4, (2, 6)).astype(np.int8)), (6,), ir.ReadOut(np.zeros(2, np.int32))),
    ]  # fmt: skip
    return ir.Network(tuple(layers), 5)


@pytest.mark.parametrize(("sequence", "recurrent"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("values", [1, 2**25])
def test_a_run_is_counted_synapse_by_synapse(
    sequence: bool, recurrent: bool, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the layers are recorded together or one at a time."""
    monkeypatch.setattr(synaptic, "TRACED_VALUES", values)
    network = residual(sequence, recurrent)
    images = np.random.default_rng(1).integers(0, 4, (3, *network.image_shape)).astype(np.uint8)
    found = synaptic.counted(network, images, 7)
    names = [layer.name for layer in network.layers[1:]]
    run = reference.run(network, images, seed=7, probes=names)
    sent = {name: trace.output for name, trace in run.traces.items()}
    sent["input"] = images if sequence else np.repeat(images[:, None], network.steps, 1)
    assert (found.images, found.steps, found.neurons) == (3, 5, 48 + 48 + 32 + 6)
    assert found.spikes == pytest.approx(sum(run.spikes.values()) / 3)
    assert 0.02 < found.rate < 0.9
    seen = {(one.layer, one.own): one for one in found.readings}
    assert len(seen) == 5 + recurrent
    for layer in network.layers[1:]:
        if layer.weighted is None:
            continue
        one, read = seen[layer.name, False], sent[network.layers[layer.inputs[0]].name]
        read = read if sequence or layer.name != "stem" else read[:, :1]
        weight = layer.weighted.weight
        as_conv = layer.weighted if isinstance(layer.weighted, ir.Conv) else ir.Conv(weight[:, :, None, None])
        frames = read.reshape(-1, *(read.shape[2:] if read.ndim == 5 else (read.shape[2], 1, 1)))
        ones = np.ones_like(weight).reshape(as_conv.weight.shape)
        assert one.calls == read.shape[1] and one.still == (not sequence and layer.name == "stem")
        assert one.synapses == synapses(as_conv, np.ones_like(frames[0]), ones)
        assert one.driven == pytest.approx(sum(synapses(as_conv, frame, ones) for frame in frames) / 3)
        nonzero = weight.reshape(as_conv.weight.shape)
        assert one.effective == pytest.approx(sum(synapses(as_conv, frame, nonzero) for frame in frames) / 3)
        assert one.binary == bool((read <= 1).all())
    assert not seen["after", False].binary  # a sum of two branches
    if recurrent:
        own, weight = seen["hidden", True], network.layers[6].recurrent
        assert weight is not None
        before = sent["hidden"][:, :-1].reshape(-1, 6)
        assert own.effective == pytest.approx(sum(int((weight != 0)[:, row != 0].sum()) for row in before) / 3)
        assert (own.calls, own.synapses) == (5, 36)


def test_the_spikes_that_carry_on_in_a_recording_are_read_by_its_next_piece() -> None:
    """Of two pieces of five steps nine are read: only the last spikes of all go unread."""
    network = residual(sequence=True, recurrent=True)
    weight = network.layers[6].recurrent
    assert weight is not None
    images = np.random.default_rng(1).integers(0, 4, (2, *network.image_shape)).astype(np.uint8)
    run = reference.run(network, images, seed=7, probes=["hidden"], stream=True)
    sent = run.traces["hidden"].output.reshape(10, 6)
    assert sent[4].any() and sent[9].any()
    found = synaptic.counted(network, images, 7, stream=True)
    (own,) = (one for one in found.readings if one.own)
    assert own.driven == pytest.approx(6 * sent[:9].sum() / 2)
    assert own.effective == pytest.approx(sum(int((weight != 0)[:, row != 0].sum()) for row in sent[:9]) / 2)
    assert (own.calls, own.synapses) == (5, 36)


def by_hand(image: list[int]) -> tuple[ir.Network, np.ndarray]:
    """Two dense layers over 3 steps. W x of (0, 1, 1) is (-3, -4, 2): the last of three neurons fires at every step."""
    first = np.array([[1, 0, -3], [0, 1, -5], [-1, 2, 0]], np.int8)
    second = np.array([[1, 0, 5], [2, 3, 0]], np.int8)
    layers = (
        ir.Layer("input", ir.Input((3,))),
        ir.Layer("hidden", ir.Dense(first), (0,), lif(3)),
        ir.Layer("out", ir.Dense(second), (1,), ir.ReadOut(np.zeros(2, np.int32))),
    )
    return ir.Network(layers, 3), np.array([image], np.uint8)


@pytest.mark.parametrize(("image", "macs", "acs"), [([0, 1, 1], 0, 4 + 3), ([0, 2, 1], 4, 3)])
def test_neurobench_metrics_by_hand(image: list[int], macs: int, acs: int) -> None:
    """The first matrix has the zeros of the example of NeuroBench's page on synaptic operations: 4 of 9 are effective.

    (0, 2, 1) gives (-3, -3, 4): the same neuron fires, and the pixels are no longer binary.
    """
    network, images = by_hand(image)
    found = neurobench.metrics(network, synaptic.counted(network, images, 0))
    assert found["synaptic_operations"] == {"Effective_MACs": macs, "Effective_ACs": acs, "Dense": 9 + 3 * 6}
    assert found["activation_sparsity"] == pytest.approx(1 - 3 / 9)
    assert found["connection_sparsity"] == pytest.approx((3 + 2) / 15)
    assert found["samples"] == 1
    weights, thresholds, biases, states = 9 + 6, 3 * 3, 3 * 3 + 2 * 4, 3 * 3 + 2 * 4
    k, f, delay, floor, decay = 1, 1, 1, 3, 1
    assert found["footprint"] == weights + thresholds + biases + states + k + f + delay + floor + decay


def test_silence_and_no_images() -> None:
    network, images = by_hand([0, 1, 1])
    quiet = replace(network.layers[1], neuron=lif(3, SILENT))
    silent = ir.Network((network.layers[0], quiet, network.layers[2]), 3)
    found = synaptic.counted(silent, images, 0)
    assert found.rate == 0 and [one.effective for one in found.readings] == [4, 0]
    with pytest.raises(RandhetError, match="counted over 0 images"):
        synaptic.counted(network, images[:0], 0)


def test_footprint_counts_a_table_a_register_a_core_and_a_decay_that_lasts_an_image() -> None:
    network, _ = by_hand([0, 1, 1])
    before = neurobench.footprint(network)
    for sampling, held in (("step", 0), ("forward", 3)):
        drawn = replace(lif(3), decay=ir.Drawn(sampling=sampling, neurons_per_core=2))  # type: ignore[arg-type]
        layers = (network.layers[0], replace(network.layers[1], neuron=drawn), network.layers[2])
        # instead of one decay: 256 entries, 24 bits of neurons per core, registers of 32 bits for 2 + 1 neurons
        assert neurobench.footprint(ir.Network(layers, 3)) == before - 1 + 256 + 4 + 2 * 4 + held
