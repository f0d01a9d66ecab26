"""The simulator with every part quantised is the integer network, with none the float model; between them, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.compare.equality.replay import replay
from randhet.compare.quantisation.budget import PARTS, Meter, Simulator, budget, drawn, numbers
from randhet.compare.quantisation.recommend import ALLOWED, BITS, Search, recommend, steps_of
from randhet.export.graph import FloatDense, FloatInput, FloatNode
from randhet.export.passes.quantise import Plan, QuantSettings, quantise
from randhet.export.pipeline import Exported, export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.generator import LayerGenerator
from randhet.fixed_point.network import (
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Network,
)
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 6), (3, 4), (1, 1), steps=3)
PIXELS = np.random.default_rng(1).integers(0, 256, (7, 1, 6, 6), np.uint8)
LABELS = np.random.default_rng(2).integers(0, 3, 7)


KINDS = [(neuron, "zero") for neuron in ("randhet", "randhet-forward", "vanilla", "het")]
KINDS += [(neuron, "subtract") for neuron in ("randhet", "het")]


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    neuron, reset = request.param
    return random_init(replace(MODEL, neuron=neuron, reset=reset), seed=2)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint) -> Exported:
    return export_checkpoint(checkpoint, PIXELS, QuantSettings(weight_bits=5))


def registers(network: Network, seed: int):  # type: ignore[no-untyped-def]
    """Numbers in 0..1 in the middle of the share of each draw of the integer generator."""

    def uniform(index: int, step: int, shape: tuple[int, ...]) -> Tensor:
        decay = network.layers[index].drawn
        assert decay is not None
        generator = LayerGenerator(seed, index, prod(shape[1:]), decay.neurons_per_core)
        number = lambda image: image * network.steps + step if decay.sampling == "step" else image
        draws = np.stack([generator.round(number(image)) for image in range(shape[0])]).reshape(shape)
        return torch.from_numpy((draws + 0.5) / 256)

    return uniform


def test_all_parts_quantised_is_the_integer_network(exported: Exported) -> None:
    network = exported.network
    names = [layer.name for layer in network.layers]
    expected = reference.run(network, PIXELS, seed=3, probes=names)
    found = Simulator(network, exported.graph).run(PIXELS, PARTS, registers(network, 3), batch=3)
    np.testing.assert_array_equal(found.sums, expected.sums)
    for name, spikes in found.spikes.items():
        np.testing.assert_array_equal(spikes, expected.traces[name].output.reshape(spikes.shape))


def test_nothing_quantised_is_the_float_model(checkpoint: Checkpoint, exported: Exported) -> None:
    network = exported.network
    predictions, floats = replay(build(checkpoint), network, PIXELS, 3)
    parts = ("tau table", "random bits") if "randhet" in checkpoint.settings.neuron else ()
    found = Simulator(network, exported.graph).run(PIXELS, parts, registers(network, 3))
    np.testing.assert_array_equal(found.predictions, predictions)
    for name, spikes in found.spikes.items():
        np.testing.assert_array_equal(spikes, floats[name].output.reshape(spikes.shape))


def test_each_part_alone_in_one_layer_by_hand() -> None:
    """Three inputs, two neurons, one step: x = (w*p)*2^f + b, m = x - tau*x, spike where m > theta."""
    weight, bias, pixels = np.array([[0.5, -0.27, 0.11], [0.3, 0.9, -0.4]]), np.array([0.31, -0.2]), np.array([2, 1, 3])
    threshold, u = 0.437, 0.3
    graph = export_checkpoint(random_init(replace(MODEL, steps=1), seed=2), PIXELS).graph
    dense = next(node for node in graph.nodes if isinstance(node.operation, FloatDense))
    neuron = next(node for node in graph.nodes if node.name == "node1")
    graph = replace(
        graph,
        nodes=(
            FloatNode("input", FloatInput((3,))),
            replace(dense, name="fc", operation=FloatDense(weight, bias), inputs=("input",)),
            replace(neuron, name="cell", operation=replace(neuron.operation, threshold=threshold), inputs=("fc",)),
            replace(dense, name="out", operation=FloatDense(np.eye(2), np.zeros(2)), inputs=("cell",)),
        ),
    )
    network = quantise(graph, Plan(QuantSettings(weight_bits=4, f=2)), 1)
    layer, simulator = network.layers[1], Simulator(network, graph)
    scale = layer.scale
    assert scale is not None
    assert isinstance(layer.operation, Dense)
    assert layer.drawn is not None
    exact_tau = 1 / (1 + np.exp(0.5244005127))  # Phi^-1(0.3) = -0.5244005127
    for part in ((), *((one,) for one in PARTS), PARTS):
        w = layer.operation.weight if "weights" in part else weight / scale[:, None]
        b = layer.neuron.bias if "bias" in part else bias / scale * 4
        theta = layer.neuron.threshold if "threshold" in part else threshold / scale * 4
        tau = exact_tau
        if "random bits" in part:
            tau = 1 / (1 + np.exp(-float(torch.special.ndtri(torch.tensor((int(u * 256) + 0.5) / 256)))))
        if "tau table" in part:
            tau = round(tau * 256) / 256
        x = w @ pixels * 4 + b
        leaked = np.floor(-tau * x) if "membrane fraction" in part else -tau * x
        uniform = lambda index, step, shape: torch.full(shape, u, dtype=torch.float64)
        found = simulator.run(pixels[None].astype(np.uint8), part, uniform)
        np.testing.assert_array_equal(found.spikes["cell"][0, 0], x + leaked > theta)


def test_draws_by_closed_form() -> None:
    decay = Drawn()
    u = torch.tensor([0.5, 0.8413447460685429, 0.002, 0.9981], dtype=torch.float64)
    exact = drawn(decay, 8, u, False, False)
    assert exact[:2].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-1))])
    assert torch.equal(drawn(decay, 8, u, True, False) * 256, (exact * 256).round())
    np.testing.assert_array_equal(drawn(decay, 8, u, True, True) * 256, decay.table[(u.numpy() * 256).astype(int)])
    four = replace(decay, table=decay.table.reshape(4, 64)[:, 32].repeat(64))
    middles = torch.special.ndtri(torch.tensor([0.625, 0.875, 0.125, 0.875], dtype=torch.float64)).sigmoid()
    assert torch.allclose(drawn(four, 8, u, False, True), middles)


def test_only_the_named_layer_is_quantised(exported: Exported) -> None:
    simulator = Simulator(exported.network, exported.graph)
    float_run = simulator.run(PIXELS, (), numbers(1))
    found = simulator.run(PIXELS, PARTS, numbers(1), only=("layer2.0.node1",))
    before = ("node1", "layer1.0.node1", "layer1.0.node2", "layer2.0.downsample_sn")
    assert all(np.array_equal(float_run.spikes[name], found.spikes[name]) for name in before)
    assert not np.array_equal(float_run.spikes["layer2.0.node1"], found.spikes["layer2.0.node1"])


def test_budget_counts_what_the_runs_give(exported: Exported) -> None:
    told: list[int] = []
    found = budget(exported.network, exported.graph, PIXELS, LABELS, 2, told.append)
    assert len(told) == 1 + 2 * len(PARTS) + 1
    simulator = Simulator(exported.network, exported.graph)
    odd, changed, right = [], [], []
    for seed in (0, 1):
        one, other = (simulator.run(PIXELS, parts, numbers(seed)) for parts in (("weights",), ()))
        odd.append(sum((one.spikes[n] != other.spikes[n]).sum() for n in one.spikes))
        changed.append(np.mean(one.predictions != other.predictions))
        right.append(np.mean(other.predictions == LABELS) - np.mean(one.predictions == LABELS))
    size = sum(values.size for values in other.spikes.values())
    cost = found.alone["weights"]
    assert cost.spikes == pytest.approx(np.mean(odd) / size)
    assert cost.predictions == pytest.approx(np.mean(changed))
    assert cost.lost.value == pytest.approx(np.mean(right))
    assert found.alone["membrane fraction"].spikes < cost.spikes
    assert found.without["weights"].spikes < found.together.spikes


def test_noise_is_that_of_another_draw() -> None:
    made = export_checkpoint(random_init(MODEL, seed=2), PIXELS)
    meter = Meter(made.network, made.graph, PIXELS, LABELS, range(2))
    one, other = (meter.simulator.scores(run) for run in meter.floats)
    assert meter.noise == pytest.approx(np.mean((one - other) ** 2))
    assert np.abs(one.mean(axis=1)).max() < 1e-12


def test_recommendation_saves_where_nothing_is_lost() -> None:
    checkpoint = random_init(MODEL, seed=2)
    made = export_checkpoint(checkpoint, PIXELS)
    meter, told = Meter(made.network, made.graph, PIXELS, LABELS, range(2)), list[int]()
    found = recommend(Search(made.graph, made.network, meter, QuantSettings(), made.activity), done=told.append)
    assert len(told) == steps_of(made.network)
    share = ALLOWED / (len(found.layers) + 2)
    sizes = {"node1": 27, "layer1.0.node1": 81, "layer2.0.downsample_sn": 12, "fc1": 12}
    for layer in found.layers:
        assert layer.weights == sizes.get(layer.layer, layer.weights)
        assert layer.scores[layer.bits - BITS[0]] <= share or layer.bits == 8
        if layer.bits > 2 and found.cost.lost.value == 0:
            assert layer.scores[layer.bits - BITS[0] - 1] > share
    assert found.bytes_after == sum(layer.weights * layer.bits for layer in found.layers) / 8
    assert found.saved == pytest.approx(1 - found.bytes_after / sum(layer.weights for layer in found.layers))
    settings = replace(QuantSettings(f=found.f, tau_bits=found.tau_bits), layer_bits=found.layer_bits)
    network = export_checkpoint(checkpoint, PIXELS, settings).network
    for layer in network.layers:
        bits = dict(found.layer_bits).get(layer.name)
        if bits is not None:
            assert np.abs(layer.operation.weight.astype(int)).max() == 2 ** (bits - 1) - 1  # type: ignore[union-attr]


def test_bits_of_a_layer_that_does_not_exist_are_refused() -> None:
    with pytest.raises(RandhetError, match="weight bits are given for layer 'conv7', layers with weights are node1"):
        export_checkpoint(random_init(MODEL), PIXELS, QuantSettings(layer_bits=(("conv7", 4),)))
    with pytest.raises(RandhetError, match="weight bits of layer node1 are 9, the limits are 2 to 8"):
        QuantSettings(layer_bits=(("node1", 9),))


def test_foreign_neurons_are_refused() -> None:
    neuron = Cuba(np.ones(2, np.int32), np.zeros(2, np.int32), 0, 0)
    layers = (
        Layer("input", Input((1, 1, 3))),
        Layer("flat", Flatten(), (0,)),
        Layer("fc", Dense(np.ones((2, 3), np.int8)), (1,), neuron, np.ones(1)),
    )
    graph = export_checkpoint(random_init(MODEL), PIXELS).graph
    with pytest.raises(RandhetError, match="layer fc: neurons of kind Cuba"):
        Simulator(Network(layers, 2), graph)
