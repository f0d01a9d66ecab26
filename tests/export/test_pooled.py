"""Pools between a convolution and its neuron: integers against float, and against torch's own convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point.network import Conv, MaxPool
from randhet.train.general import GeneralLIF
from randhet.train.layers import AvgPool2d, Conv2d, Encode, Flatten, Linear, MaxPool2d, MeanOverTime, Normalise

SHAPE = (2, 8, 8)
IMAGES = np.random.default_rng(2).integers(0, 256, (16, *SHAPE), dtype=np.uint8)


def on_grid(layer: nn.Module) -> nn.Module:
    """Weights -127..127 times 2^-8, the largest in every channel: rounding them changes nothing."""
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-127, 128, layer.weight.shape) / 256)
        layer.weight[:, 0, 0, 0] = 127 / 256
    return layer


def model(pool: nn.Module, *front: nn.Module) -> nn.Sequential:
    """Two such layers, the second behind spikes."""
    torch.manual_seed(4)
    first, second = GeneralLIF(0.5, 0.3, drive=1.0, reset="subtract"), GeneralLIF(0.8, 0.2, drive=1.0)
    tail = (on_grid(Conv2d(4, 6, 3, padding=1)), pool, second, Flatten(), Linear(24, 3), MeanOverTime())
    return nn.Sequential(*front, on_grid(Conv2d(2, 4, 3, padding=1)), Encode(6), pool, first, *tail).eval()


@pytest.mark.parametrize("pool", [MaxPool2d(2), AvgPool2d(2)], ids=["max", "average"])
def test_integers_spike_as_the_module_does(pool: nn.Module) -> None:
    """All but 1 % of the spikes, whose membrane potentials rounding carries over the threshold."""
    net = model(pool)
    network = export_model(net, IMAGES).network
    found = reference.run(network, IMAGES, seed=0, probes=("3", "6"))
    pixels = torch.from_numpy(IMAGES).float() / 255
    for name, depth in (("3", 4), ("6", 7)):
        with torch.no_grad():
            expected = net[:depth](pixels).transpose(0, 1).numpy()
        assert 0.02 < expected.mean() < 0.98
        assert np.mean(found.traces[name].output != expected) < 0.01
    assert found.saturations == 0


def test_the_convolution_sends_its_sums_and_the_layer_behind_the_pool_has_weight_one() -> None:
    network = export_model(model(MaxPool2d(2)), IMAGES).network
    conv, pool, own = network.layers[1:4]
    assert isinstance(conv.operation, Conv) and conv.neuron is None
    assert conv.operation.weight.min() == -127 or conv.operation.weight.max() == 127
    assert isinstance(pool.operation, MaxPool)
    assert isinstance(own.operation, Conv) and own.operation.groups == 4 and (own.operation.weight == 1).all()
    trace = reference.run(network, IMAGES[:2], seed=0, probes=(conv.name, pool.name)).traces
    sums = torch.nn.functional.conv2d(
        torch.from_numpy(IMAGES[:2]).double(), torch.from_numpy(conv.operation.weight).double(), padding=1
    )
    assert np.array_equal(trace[conv.name].output[:, 0], sums.numpy())
    assert np.array_equal(trace[pool.name].output[:, 3], torch.nn.functional.max_pool2d(sums, 2).numpy())


@pytest.mark.parametrize("pool", [MaxPool2d(2), AvgPool2d(2)], ids=["max", "average"])
def test_every_fast_backend_gives_the_same_integers(pool: nn.Module) -> None:
    network = export_model(model(pool), IMAGES).network
    wanted = reference.run(network, IMAGES, seed=0, probes=[layer.name for layer in network.layers])
    for backend in (engine, add_only):
        found = backend.run(network, IMAGES, seed=0, probes=list(wanted.traces))
        assert np.array_equal(found.sums, wanted.sums) and found.spikes == wanted.spikes
        for name, trace in wanted.traces.items():
            assert np.array_equal(found.traces[name].output, trace.output), name


def test_a_bias_that_differs_within_a_window_is_refused() -> None:
    with pytest.raises(ExportError, match="bias of 1 differs within a window of the pool behind it"):
        export_model(model(MaxPool2d(2), Normalise([0.4, 0.5], [0.3, 0.2])), IMAGES)
