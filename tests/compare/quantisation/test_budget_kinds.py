"""The error budget of every kind of neuron, layer and read-out: all quantised the integers, nothing the float model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from randhet.base.errors import RandhetError
from randhet.compare.quantisation.budget import PARTS, Simulator, budget, numbers
from randhet.export.graph import FloatNeuron
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import Exported, export_graph, export_model
from randhet.export.trace import trace
from randhet.fixed_point import reference
from randhet.train import layers
from randhet.train.general import GeneralLIF, LastStep, LeakyReadOut, MaxOverTime
from randhet.train.layers import Encode, Flatten, Frames, MeanOverTime
from randhet.train.neurons import LIF, recording

SHAPE, STEPS = (2, 6, 6), 5
IMAGES = np.random.default_rng(2).integers(0, 256, (9, *SHAPE), dtype=np.uint8)
RECORDINGS = np.random.default_rng(2).integers(0, 256, (9, STEPS, *SHAPE), dtype=np.uint8)


class Branches(nn.Module):
    """Two branches of spikes, joined in one of three ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.encode = kind, Encode(STEPS)
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
        self.a, self.b = LIF(0.6, 0.1), LIF(0.7, 0.1)
        self.tail = nn.Sequential(Flatten(), nn.Linear(216 if kind == "concat" else 108, 4), MeanOverTime())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(self.encode(self.first(x))), self.b(self.encode(self.second(x)))
        gated = a * b if self.kind == "and" else b * (1 - a)
        out: torch.Tensor = self.tail(torch.cat([a, b], -3) if self.kind == "concat" else gated)
        return out


def one(neuron: nn.Module, *between: nn.Module, features: int = 108, end: nn.Module | None = None) -> nn.Module:
    """A convolution, a neuron, a linear layer."""
    last = (nn.Linear(features, 4), MeanOverTime()) if end is None else (nn.Linear(features, 4), end)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), Encode(STEPS), *between, neuron, Flatten(), *last)


def read(end: nn.Module) -> nn.Module:
    return one(LIF(0.6, 0.1), end=nn.Sequential(LeakyReadOut(0.8, drive=1.0), end))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "subtract late": lambda: one(GeneralLIF(0.9, 0.5, drive=1.0, reset="subtract", reset_delay=1)),
    "zero late": lambda: one(GeneralLIF(0.9, 0.5, drive=1.0, reset_delay=1)),
    "inclusive": lambda: one(GeneralLIF(0.75, 0.25, inclusive=True)),
    "decay of each channel": lambda: one(GeneralLIF(torch.linspace(0.3, 0.9, 3).view(3, 1, 1), 0.5, drive=1.0)),
    "last": lambda: read(LastStep()),
    "largest": lambda: read(MaxOverTime()),
    "mean": lambda: read(MeanOverTime()),
    "max pool before": lambda: one(LIF(0.6, 0.2), layers.MaxPool2d(2), features=27),
    "average pool before": lambda: one(LIF(0.6, 0.1), layers.AvgPool2d(2), features=27),
    "max pool behind": lambda: one(nn.Sequential(LIF(0.6, 0.1), layers.MaxPool2d(2)), features=27),
    "transposed": lambda: one(
        nn.Sequential(LIF(0.6, 0.1), layers.ConvTranspose2d(3, 3, 3, 2), LIF(0.6, 0.1)), features=507
    ),
    "and": lambda: Branches("and"),
    "iand": lambda: Branches("iand"),
    "concat": lambda: Branches("concat"),
    "recordings": lambda: nn.Sequential(
        Frames(STEPS), layers.Conv2d(2, 3, 3, padding=1), LIF(0.6, 0.1), Flatten(), nn.Linear(108, 4), MeanOverTime()
    ),
}


def exported(name: str) -> tuple[nn.Module, Exported, np.ndarray]:
    torch.manual_seed(3)
    model = MODELS[name]().eval()
    images = RECORDINGS if name == "recordings" else IMAGES
    return model, export_model(model, images, QuantSettings(weight_bits=5)), images


@pytest.mark.parametrize("name", MODELS)
def test_all_parts_quantised_is_the_integer_network(name: str) -> None:
    _, made, images = exported(name)
    names = [layer.name for layer in made.network.layers]
    expected = reference.run(made.network, images, seed=3, probes=names)
    found = Simulator(made.network, made.graph).run(images, PARTS, numbers(3), batch=4)
    assert np.array_equal(found.sums, expected.sums)
    assert set(found.spikes) == {layer.name for layer in made.network.layers if layer.spikes}
    for layer, spikes in found.spikes.items():
        assert spikes.any() and np.array_equal(spikes, expected.traces[layer].output.reshape(spikes.shape))


@pytest.mark.parametrize("name", MODELS)
def test_nothing_quantised_is_the_float_model(name: str) -> None:
    model, made, images = exported(name)
    model, simulator = model.double(), Simulator(made.network, made.graph)
    with torch.no_grad(), recording(model) as log:
        logits = model(torch.from_numpy(images).double() / 255).numpy()
    found = simulator.run(images, (), numbers(3))
    for neuron, calls in log.items():
        wanted = calls[0][0].transpose(0, 1).flatten(2).numpy()
        assert np.array_equal(found.spikes[neuron], wanted), neuron
    wanted = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(simulator.scores(found), wanted, rtol=1e-6, atol=1e-9)


def test_a_lowest_membrane_potential() -> None:
    """NIR graphs of Sinabs have one; it binds here, and is a threshold of the budget."""
    torch.manual_seed(3)
    graph = trace(MODELS["decay of each channel"]().eval(), SHAPE)
    (node,) = (node for node in graph.nodes if isinstance(node.operation, FloatNeuron))
    assert isinstance(node.operation, FloatNeuron)
    floored = replace(node.operation, kind="vanilla", decay=np.array(0.8), floor=np.array(-0.07))
    made = export_graph(graph.changed(node.name, floored), IMAGES, QuantSettings())
    simulator = Simulator(made.network, made.graph)
    expected = reference.run(made.network, IMAGES, seed=3, probes=[node.name])
    found = simulator.run(IMAGES, PARTS, numbers(3))
    assert np.array_equal(found.sums, expected.sums)
    lif = made.network.layers[1].lif
    assert lif is not None and lif.floored
    lowest = np.asarray(expected.traces[node.name].membrane).min(axis=(0, 1, 3, 4))
    assert np.array_equal(lowest, np.broadcast_to(lif.floor, len(lowest)))
    assert simulator.constants[node.name].floor is not None


def test_a_budget_of_a_network_of_snntorchs_defaults() -> None:
    _, made, images = exported("subtract late")
    found = budget(made.network, made.graph, images, np.arange(9) % 4, 1)
    assert set(found.alone) == set(PARTS) and found.images == 9


def test_a_leaky_read_out_with_a_current_of_its_own_is_refused() -> None:
    torch.manual_seed(3)
    end = nn.Sequential(nn.Linear(108, 4, bias=False), LeakyReadOut(0.8, drive=1.0, synapse=0.5), MeanOverTime())
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), Encode(STEPS), LIF(0.6, 0.1), Flatten(), *end).eval()
    made = export_model(model, IMAGES)
    with pytest.raises(RandhetError, match="neurons of kind Cuba have no error budget"):
        Simulator(made.network, made.graph)
