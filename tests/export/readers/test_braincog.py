"""Networks of BrainCog as their authors write them: read, beside the library itself, and in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from braincog_live import braincog
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.readers.read import read
from randhet.export.trace import timed
from randhet.fixed_point import add_only, engine, reference
from randhet.train.neurons import recording

node, encoder, layer = braincog("node.node"), braincog("encoder.encoder"), braincog("connection.layer")
surrogate = braincog("strategy.surrogate")
SHAPE = (1, 6, 6)
STEPS = 5
IMAGES = np.random.default_rng(5).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
NODES: dict[str, Callable[..., nn.Module]] = {
    "IF": lambda **how: node.IFNode(threshold=0.9, **how),
    "IF dt 0.5": lambda **how: node.IFNode(threshold=0.5, dt=0.5, **how),
    "IF sigmoid threshold": lambda **how: node.IFNode(threshold=0.1, sigmoid_thres=True, **how),
    "LIF": lambda **how: node.LIFNode(**how),
    "LIF tau 4, inclusive": lambda **how: node.LIFNode(threshold=0.2, tau=4.0, act_fun=surrogate.SigmoidGrad, **how),
    "LIF dt ignored": lambda **how: node.LIFNode(threshold=0.3, dt=0.5, **how),
    "LIF by name": lambda **how: node.LIFNode(threshold=0.3, act_fun="AtanGrad", **how),
    "PLIF": lambda **how: node.PLIFNode(threshold=0.3, tau=2.7, **how),
    "PLIF dt 0.5": lambda **how: node.PLIFNode(threshold=0.2, dt=0.5, **how),
}


class Net(nn.Module):
    """The shape of BrainCog's convolutional networks: an encoder, a feature extractor, a loop or all steps at once."""

    def __init__(self, make: Callable[..., nn.Module], layer_by_layer: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        how = {"step": STEPS, "layer_by_layer": layer_by_layer}
        self.layer_by_layer = layer_by_layer
        self.encoder = encoder.Encoder(STEPS, "direct", layer_by_layer=layer_by_layer)
        self.feature = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), make(**how), nn.AvgPool2d(2))
        self.fc = nn.Sequential(nn.Linear(36, 5), node.LIFNode(threshold=0.2, **how))
        self.feature[1].running_var.fill_(0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = self.encoder(inputs)
        for module in self.modules():
            if hasattr(module, "n_reset"):
                module.n_reset()
        if self.layer_by_layer:
            x = self.fc(torch.flatten(self.feature(inputs), 1))
            return x.reshape(STEPS, -1, x.shape[-1]).mean(0)
        outputs = [self.fc(torch.flatten(self.feature(inputs[t]), 1)) for t in range(STEPS)]
        return sum(outputs) / len(outputs)  # type: ignore[return-value]


def in_double(net: Net) -> Net:
    """The network in float64, whose neurons send their spikes in float32 whatever they read."""
    for module in net.modules():
        if isinstance(module, node.BaseNode):
            module.register_forward_hook(lambda module, given, out: out.double())
    return net.double()


def live(net: Net, pixels: Tensor) -> Tensor:
    """Spikes (T, N, ...) of the first layer of the model itself."""
    heard: list[Tensor] = []
    hook = net.feature[2].register_forward_hook(lambda module, given, out: heard.append(out.detach().double()))
    with torch.no_grad():
        net(pixels)
    hook.remove()
    return heard[0].unflatten(0, (STEPS, -1)) if net.layer_by_layer else torch.stack(heard)


@pytest.mark.parametrize("layer_by_layer", [False, True], ids=["steps", "layers"])
@pytest.mark.parametrize("make", NODES.values(), ids=NODES)
def test_spikes_are_the_librarys(make: Callable[..., nn.Module], layer_by_layer: bool) -> None:
    """In float64, at every step, of every neuron, on images that the reader has not seen."""
    net = Net(make, layer_by_layer).eval()
    ours, net = read(net, SHAPE).double(), in_double(net)
    pixels = torch.from_numpy(IMAGES).double() / 255
    with torch.no_grad(), recording(ours) as logs:
        logits = ours(pixels)
        spikes = live(net, pixels)
        assert torch.allclose(net(pixels).double(), logits)
    assert 0.01 < spikes.mean() < 0.99
    assert torch.equal(spikes, logs["feature.2"][0][0])


@pytest.mark.parametrize("make", NODES.values(), ids=NODES)
def test_integers_spike_as_the_library_does(make: Callable[..., nn.Module]) -> None:
    """All but 2 % of the spikes, those whose potential rounding carries over the threshold; the same on the engines."""
    net = Net(make, False).eval()
    expected = live(net, torch.from_numpy(IMAGES).float() / 255).transpose(0, 1).numpy()
    network = export_model(timed(net, SHAPE), IMAGES).network
    found = reference.run(network, IMAGES, seed=0, probes=("feature.2",))
    assert np.mean(found.traces["feature.2"].output != expected) < 0.02
    for backend in (engine, add_only):
        assert np.array_equal(backend.run(network, IMAGES, seed=0).sums, found.sums)


@pytest.mark.parametrize("inclusive", [False, True])
def test_what_happens_at_the_threshold_is_act_funs(inclusive: bool) -> None:
    """Weight 0.5 and threshold 1, exact in float and in integers: spikes at the second step, or at the third."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 0.5)
    spiking = node.IFNode(threshold=1.0, act_fun=surrogate.SigmoidGrad if inclusive else surrogate.AtanGrad)
    net = nn.Sequential(conv, spiking, nn.Flatten(), nn.Linear(1, 2))
    white = np.full((1, 1, 1, 1), 255, np.uint8)
    network = export_model(timed(net, (1, 1, 1), 6), white).network
    found = reference.run(network, white, seed=0, probes=("1",)).traces["1"].output
    assert found.ravel().tolist() == ([0, 1] * 3 if inclusive else [0, 0, 1] * 2)


class Changed(node.LIFNode):  # type: ignore[misc, name-defined]
    """A neuron whose potential moves in another way."""

    def integral(self, inputs: Tensor) -> None:
        super().integral(inputs + 0.1)


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "burst": (
        lambda **how: node.BurstLIFNode(**how),
        "has no counterpart: neurons that are read are IFNode, LIF",
    ),
    "noise": (lambda **how: node.NoiseLIFNode(**how), "which has no counterpart"),
    "izhikevich": (lambda **how: node.IzhNode(**how), "which has no counterpart"),
    "changed": (lambda **how: Changed(**how), "which has a integral of its own: use LIFNode itself"),
    "start": (lambda **how: node.LIFNode(v_reset=-0.1, **how), "which starts at v_reset -0.1 and is reset to 0"),
    "groups": (lambda **how: node.LIFNode(n_groups=2, **how), "n_groups=2, other weights at each step"),
    "threshold": (lambda **how: node.LIFNode(threshold=-0.5, **how), "threshold is -0.5, it must be positive"),
    "graded": (lambda **how: node.LIFNode(act_fun=surrogate.RoundGrad, **how), "no spikes of 0 and 1"),
    "gains": (lambda **how: node.LIFNode(tau=0.5, **how), "loses 2 of itself a step"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(make: Callable[..., nn.Module], message: str) -> None:
    with pytest.raises(ExportError, match=f"feature.2.*{message}"):
        read(Net(make, False), SHAPE)


def test_other_encodings_are_refused() -> None:
    net = Net(NODES["LIF"], False)
    net.encoder = encoder.Encoder(STEPS, "rate")
    with pytest.raises(ExportError, match="function"):
        read(net, SHAPE)


def test_its_layers_are_read() -> None:
    """Batch norm that began at the threshold, and dropout of one mask for all steps."""
    net = Net(NODES["LIF"], False).eval()
    norm = layer.ThresholdDependentBatchNorm2d(4, alpha=1.0, threshold=0.5)
    norm.running_var.fill_(0.1)
    norm.running_mean.copy_(torch.tensor([0.1, -0.1, 0.2, 0.0]))
    net.feature[1] = nn.Sequential(norm, layer.NDropout(0.5)).eval()
    ours, pixels = read(net, SHAPE), torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad(), recording(ours) as logs:
        assert torch.allclose(ours(pixels), net(pixels), atol=1e-6)
    assert logs["feature.2"][0][0].mean() > 0.01


@pytest.mark.parametrize("count", [4, 5])
def test_votes_are_a_linear_layer(count: int) -> None:
    """Two classes of groups of spikes; of five neurons two groups of two, and one that has no vote."""
    net = Net(NODES["LIF"], False).eval()
    net.fc = nn.Sequential(nn.Linear(36, count), node.LIFNode(threshold=0.2), layer.VotingLayer(2))
    pixels = torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad():
        expected = net(pixels)
        assert torch.allclose(read(net, SHAPE)(pixels), expected, atol=1e-6)
    network = export_model(timed(net, SHAPE), IMAGES).network
    sums = reference.run(network, IMAGES, seed=0).sums
    assert sums.shape == (24, 2) and expected.std() > 0.02
    assert np.corrcoef(sums.ravel(), expected.numpy().ravel())[0, 1] > 0.97
