"""A float graph as a module computes what the model that it was traced from computes, logits and gradients."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from randhet.export.float_model import FloatModel, module_of
from randhet.export.graph import (
    Encoding,
    FloatDense,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    TimeMean,
)
from randhet.export.trace import trace
from randhet.train.checkpoint import build, random_init
from randhet.train.general import GeneralLIF, LastStep, LeakyReadOut
from randhet.train.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Encode,
    Flatten,
    Frames,
    Linear,
    MaxPool2d,
    MeanOverTime,
    Normalise,
)
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, HetLIF, neurons

SHAPE = (2, 8, 8)
PIXELS = torch.from_numpy(np.random.default_rng(0).random((5, *SHAPE))).float()


def statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return model.eval()


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    front = lambda: (Normalise([0.2, 0.5], [0.3, 0.4]), Conv2d(2, 4, 3, padding=1, bias=False), BatchNorm2d(4))
    end = lambda: (Flatten(), Linear(64, 3), MeanOverTime())
    small = ModelSettings(2, 5, (8, 8), (4, 6), (1, 1), steps=3, neuron="vanilla")
    return {
        "plain": nn.Sequential(*front(), Encode(4), LIF(0.6, 0.2), AvgPool2d(2), *end()),
        "het": nn.Sequential(*front(), Encode(4), HetLIF((4, 8, 8)), MaxPool2d(2), *end()),
        "general": nn.Sequential(
            Encode(4), *front(), GeneralLIF(0.9, 0.5, drive=1.0, reset="subtract", reset_delay=1, inclusive=True),
            Flatten(), Linear(256, 3), LeakyReadOut(0.8, drive=1.0), LastStep(),
        ),
        "residual": build(random_init(small, images=(255 * PIXELS).byte().numpy())),
    }  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_logits_and_gradients_are_the_models(name: str) -> None:
    """Deterministic neurons: float rounding may move a spike only where a membrane potential meets its threshold."""
    model = statistics(models()[name])
    twin = FloatModel(trace(model, SHAPE)).eval()
    assert set(neurons(twin)) == set(neurons(model))
    found = []
    for module in (model, twin):
        points = PIXELS.clone().requires_grad_(True)
        logits = module(points)
        logits.square().sum().backward()
        found.append((logits.detach(), points.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_recordings_take_a_frame_a_step() -> None:
    model = nn.Sequential(Frames(3), Conv2d(2, 2, 3), LIF(0.5, 0.1), Flatten(), Linear(72, 3), MeanOverTime()).eval()
    recordings = torch.rand(4, 3, *SHAPE, generator=torch.Generator().manual_seed(2))
    twin = FloatModel(trace(model, (3, *SHAPE))).eval()
    with torch.no_grad():
        torch.testing.assert_close(twin(recordings), model(recordings))


def test_nodes_may_have_any_name() -> None:
    """Names of methods of torch's modules, and one that goes on behind another's dot."""
    names = ("float", "float.lif", "walk", "type")
    layers = (FloatDense(np.eye(3), np.zeros(3)), FloatNeuron("vanilla", 0.2), FloatDense(np.ones((2, 3)), np.zeros(2)))
    nodes = [FloatNode("input", FloatInput((3,))), FloatNode("encode", Encoding(2), ("input",))]
    for name, operation in zip(names, (*layers, TimeMean())):
        nodes.append(FloatNode(name, operation, (nodes[-1].name,)))
    model = FloatModel(FloatGraph(tuple(nodes)))
    assert set(neurons(model)) == {"float.lif"}
    with torch.no_grad():
        assert model(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


def test_every_operation_has_a_module() -> None:
    assert set(get_args(FloatOperation)) <= set(module_of.registry)
