"""Networks of SpikingJelly as their authors write them: read, beside the library itself, and in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("spikingjelly.activation_based.functional.neuron")

from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate

from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.readers.read import read
from randhet.export.trace import timed
from randhet.fixed_point import reference
from randhet.train.neurons import recording

SHAPE = (1, 6, 6)
STEPS = 6
IMAGES = np.random.default_rng(5).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
NEURONS: dict[str, Callable[[], nn.Module]] = {
    "LIF": lambda: neuron.LIFNode(v_threshold=0.3),
    "LIF tau 3": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.2, surrogate_function=surrogate.ATan()),
    "LIF undecayed": lambda: neuron.LIFNode(tau=4.0, decay_input=False, v_threshold=0.8),
    "LIF soft": lambda: neuron.LIFNode(v_reset=None, v_threshold=0.3),
    "LIF undecayed, soft": lambda: neuron.LIFNode(tau=1.5, decay_input=False, v_reset=None, v_threshold=0.5),
    "LIF reset to a number": lambda: neuron.LIFNode(v_reset=-0.2, v_threshold=0.1),
    "IF": lambda: neuron.IFNode(v_threshold=1.2),
    "IF reset to a number": lambda: neuron.IFNode(v_reset=0.1, v_threshold=1.2),
    "parametric": lambda: neuron.ParametricLIFNode(init_tau=2.7, v_threshold=0.25),
    "parametric undecayed": lambda: neuron.ParametricLIFNode(init_tau=1.7, decay_input=False, v_threshold=0.5),
}


def network(make: Callable[[], nn.Module], mode: str) -> nn.Sequential:
    """A convolution with batch norm, a neuron, a max pool, a linear layer with a neuron."""
    torch.manual_seed(0)
    front = [layer.Conv2d(1, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), make(), layer.MaxPool2d(2, 2)]
    net = nn.Sequential(
        *front, layer.Flatten(), layer.Dropout(0.5), layer.Linear(36, 5), neuron.LIFNode(v_threshold=0.2)
    )
    net[1].running_var.fill_(0.1)
    net[1].running_mean.copy_(torch.tensor([0.1, -0.1, 0.2, 0.0]))
    functional.set_step_mode(net, mode)
    return net.eval()


def live(net: nn.Module, pixels: Tensor, mode: str, at: str = "2") -> tuple[Tensor, Tensor]:
    """Spikes (T, N, ...) of a neuron of the model itself, and the mean of what it gives."""
    heard: list[Tensor] = []
    hook = net.get_submodule(at).register_forward_hook(lambda module, given, out: heard.append(out.detach()))
    functional.reset_net(net)
    with torch.no_grad():
        if mode == "m":
            out = net(pixels.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0)
        else:
            out = torch.stack([net(pixels) for _ in range(STEPS)]).mean(0)
    functional.reset_net(net)
    hook.remove()
    return heard[0] if mode == "m" else torch.stack(heard), out


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS)
def test_spikes_are_the_librarys(make: Callable[[], nn.Module], mode: str) -> None:
    """In float64, at every step, of every neuron, on images that the reader has not seen."""
    net = network(make, mode).double()
    ours = read(net, SHAPE, STEPS).double()
    pixels = torch.from_numpy(IMAGES).double() / 255
    with torch.no_grad(), recording(ours) as logs:
        logits = ours(pixels)
    spikes, out = live(net, pixels, mode)
    assert 0.01 < spikes.mean() < 0.99
    assert torch.equal(spikes, logs["2"][0][0])
    assert torch.allclose(out, logits)


@pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS)
def test_integers_spike_as_the_library_does(make: Callable[[], nn.Module]) -> None:
    """All but 2 % of the spikes, those whose membrane potential rounding carries over the threshold."""
    net = network(make, "m")
    expected = live(net, torch.from_numpy(IMAGES).float() / 255, "m")[0].transpose(0, 1).numpy()
    integers = export_model(timed(net, SHAPE, STEPS), IMAGES).network
    found = reference.run(integers, IMAGES, seed=0, probes=("2",)).traces["2"].output
    assert np.mean(found != expected) < 0.02


def test_a_potential_at_the_threshold_spikes() -> None:
    """Weights 0.5 and threshold 1, exact in float and in integers: IFNode spikes at every second step."""
    conv = layer.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 0.5)
    net = nn.Sequential(conv, neuron.IFNode(), layer.Flatten(), layer.Linear(1, 2))
    white = np.full((1, 1, 1, 1), 255, np.uint8)
    assert live(net, torch.ones(1, 1, 1, 1), "s", "1")[0].ravel().tolist() == [0, 1] * (STEPS // 2)
    integers = export_model(timed(net, (1, 1, 1), STEPS), white).network
    assert reference.run(integers, white, seed=0).spikes["1"] == STEPS // 2


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "IF soft": (lambda: neuron.IFNode(v_reset=None), "2 .IFNode., which has v_reset=None: without a leak"),
    "QIF": (lambda: neuron.QIFNode(), "2 .QIFNode., which has no counterpart: neurons that are read are IFNode"),
    "no spikes": (
        lambda: neuron.LIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
        "whose surrogate_function gives no spikes of 0 and 1",
    ),
    "threshold below reset": (lambda: neuron.LIFNode(v_threshold=0.1, v_reset=0.2), "v_threshold 0.1 is not above"),
    "encoder": (lambda: encoding.PoissonEncoder(), "function rand_like draws random numbers: encode images directly"),
    "filter": (lambda: layer.SynapseFilter(), "2 .SynapseFilter., which has no counterpart"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read(network(make, "s"), SHAPE, STEPS)


class Own(neuron.LIFNode):  # type: ignore[misc]
    """A neuron whose potential moves in another way."""

    def single_step_functional_forward(self, inputs: Any, states: Any) -> Any:
        return super().single_step_functional_forward((inputs[0] + 0.1,), states)


def test_a_subclass_with_its_own_step_is_refused() -> None:
    with pytest.raises(ExportError, match=r"2 \(Own\), which has a single_step_functional_forward of its own"):
        read(network(lambda: Own(), "s"), SHAPE, STEPS)


class Contained(nn.Module):
    """Containers over time around layers of one step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = layer.SeqToANNContainer(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.spikes = layer.MultiStepContainer(neuron.IFNode(), nn.AvgPool2d(2))
        self.back = layer.SeqToANNContainer(nn.Flatten(), nn.Linear(36, 5))

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        return self.back(self.spikes(self.front(x.repeat(STEPS, 1, 1, 1, 1))))


def test_containers_are_entered() -> None:
    net = Contained().eval()
    pixels = torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad():
        assert torch.allclose(read(net, SHAPE)(pixels), net(pixels).mean(0), atol=1e-6)


class Residual(nn.Module):
    """A block of SEW-ResNet: spikes added to spikes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.spike1 = layer.Conv2d(1, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5)
        self.conv, self.spike2 = layer.Conv2d(4, 4, 3, padding=1), neuron.IFNode(v_threshold=0.5)
        self.pool, self.fc = layer.AdaptiveAvgPool2d((1, 1)), layer.Linear(4, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.spike1(self.stem(x))
        return self.fc(torch.flatten(self.pool(spikes + self.spike2(self.conv(spikes))), 2)).mean(0)


def test_residual_sums_are_read_in_integers_too() -> None:
    net = Residual().eval()
    integers = export_model(timed(net, SHAPE, STEPS), IMAGES).network
    assert [type(one.operation).__name__ for one in integers.layers].count("Add") == 1
    with torch.no_grad():
        logits = net((torch.from_numpy(IMAGES).float() / 255).repeat(STEPS, 1, 1, 1, 1))
    sums = reference.run(integers, IMAGES, seed=0).sums
    assert np.corrcoef(sums.ravel(), logits.numpy().ravel())[0, 1] > 0.99
