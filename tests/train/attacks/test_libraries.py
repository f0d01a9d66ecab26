"""Networks of snnTorch and SpikingJelly under surrogates that the attack chooses."""

from __future__ import annotations

from math import pi
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.export.trace import timed
from randhet.train.attacks.choice import chosen
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.spiking import replaced
from randhet.train.attacks.surrogates import Adaptive, Fixed
from randhet.train.general import GeneralLIF
from randhet.train.neurons import LIF

STEPS = 6


class SnnTorch(nn.Module):
    """Two dense layers of `Leaky`, spikes counted; reset by subtraction one step late, the library's default."""

    def __init__(self) -> None:
        super().__init__()
        snntorch = pytest.importorskip("snntorch")
        surrogate = snntorch.surrogate.fast_sigmoid(slope=5)
        self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 4)
        self.hidden = snntorch.Leaky(beta=0.8, spike_grad=surrogate, threshold=0.5)
        self.last = snntorch.Leaky(beta=0.7, spike_grad=surrogate, threshold=0.5)

    def forward(self, images: Tensor) -> Tensor:
        hidden, last, spikes = self.hidden.reset_mem(), self.last.reset_mem(), []
        for _ in range(STEPS):
            one, hidden = self.hidden(self.first(images.flatten(1)), hidden)
            two, last = self.last(self.second(one), last)
            spikes.append(two)
        return torch.stack(spikes).sum(0)

    def by_hand(self, images: Tensor, memory: dict[Any, tuple[Tensor, Tensor]]) -> Tensor:
        """The same under autograd with the adaptive slopes written out."""
        layers = ((self.first, self.hidden, 0.8), (self.second, self.last, 0.7))
        m, spikes = [torch.zeros(len(images), 48), torch.zeros(len(images), 4)], [None, None]
        total = torch.zeros(len(images), 4)
        for t in range(STEPS):
            x = images.flatten(1)
            for i, (linear, _, beta) in enumerate(layers):
                late = torch.zeros_like(m[i]) if spikes[i] is None else spikes[i].detach()  # type: ignore[attr-defined]
                m[i] = beta * m[i] + linear(x) - late * 0.5
                x = spikes[i] = adaptive_spike(m[i] - 0.5, memory, (i, t))
            total = total + x
        return total


class Jelly(nn.Module):
    """Two dense layers of `LIFNode`s over time, spikes counted; reset to zero, detached."""

    def __init__(self) -> None:
        super().__init__()
        jelly = pytest.importorskip("spikingjelly.activation_based")
        neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
        assert jelly is not None
        options = {"tau": 2.0, "v_threshold": 0.5, "v_reset": 0.0, "detach_reset": True, "step_mode": "m"}
        self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 4)
        self.hidden, self.last = neuron.LIFNode(**options), neuron.LIFNode(**options)

    def forward(self, images: Tensor) -> Tensor:
        pytest.importorskip("spikingjelly.activation_based.functional").reset_net(self)
        x = self.first(images.flatten(1)).expand(STEPS, -1, -1)
        spikes: Tensor = self.last(self.second(self.hidden(x)))
        return spikes.sum(0)

    def by_hand(self, images: Tensor, memory: dict[Any, tuple[Tensor, Tensor]]) -> Tensor:
        """The same under autograd with the adaptive slopes written out; v <- v + (x - v) / 2."""
        m, total = [torch.zeros(len(images), 48), torch.zeros(len(images), 4)], torch.zeros(len(images), 4)
        for t in range(STEPS):
            x = images.flatten(1)
            for i, linear in enumerate((self.first, self.second)):
                v = m[i] + (linear(x) - m[i]) / 2
                x = adaptive_spike(v - 0.5, memory, (i, t))
                m[i] = v * (1 - x.detach())
            total = total + x
        return total


def adaptive_spike(u: Tensor, memory: dict[Any, tuple[Tensor, Tensor]], key: Any) -> Tensor:
    """1 where u > 0, with the slope of Wang et al.'s adaptive arctan."""
    size, spread = memory.get(key, (torch.ones_like(u), torch.zeros_like(u)))
    size = 0.9 * size + 0.1 * u.detach().abs()
    spread = 0.9 * spread + 0.1 * (u.detach().abs() - size).abs()
    memory[key] = size, spread
    alpha = 2 * torch.tan(torch.tensor(0.425 * pi)) / pi / (size + 1.5 * spread + 1e-4)
    slope = alpha / 2 / (1 + (pi / 2 * alpha * u.detach()) ** 2)
    return (u.detach() > 0).float() + slope * (u - u.detach())


MODELS = {"snnTorch": SnnTorch, "SpikingJelly": Jelly}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    made = MODELS[request.param]()
    for linear in (made.first, made.second):
        linear.weight.data *= 4
    return made.eval()


def test_gradients_under_the_adaptive_surrogate_are_those_written_out(model: Any) -> None:
    """Three iterations, so that M and D of every step are those of the same step before."""
    images, weights, memory = torch.rand(5, 1, 8, 8), torch.randn(5, 4), dict[Any, tuple[Tensor, Tensor]]()
    with torch.no_grad():
        plain = model(images)
    rule = Adaptive()
    with replaced(model, rule) as layers:
        for i in range(3):
            rule.begin()
            points = (images + 0.01 * i).requires_grad_(True)
            spikes = model(points)
            (gradient,) = torch.autograd.grad((weights * spikes).sum(), points)
            exact = (images + 0.01 * i).requires_grad_(True)
            (wanted,) = torch.autograd.grad((weights * model.by_hand(exact, memory)).sum(), exact)
            if i == 0:
                assert torch.equal(spikes, plain)
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert layers == ("hidden", "last")
    assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("rule", [Adaptive, lambda: Fixed("sigmoid", 4.0)], ids=["adaptive", "fixed"])
def test_what_is_read_of_them_has_the_same_gradients(model: Any, rule: Any) -> None:
    """`randhet.deploy` and the command line read a model; what attacks replace must be replaced there too."""
    ours = timed(model, (1, 8, 8))
    images, weights, gradients = torch.rand(5, 1, 8, 8), torch.randn(5, 4), []
    for module, scale in ((model, 1.0), (ours, STEPS)):
        with replaced(module, used := rule()) as layers:
            for i in range(2):
                used.begin()
                points = (images + 0.01 * i).requires_grad_(True)
                gradients += torch.autograd.grad((weights * module(points) * scale).sum(), points)
        assert layers == ("hidden", "last")
    for theirs, own in zip(gradients[:2], gradients[2:]):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)
        assert float(own.abs().sum()) > 0
    points = images.clone().requires_grad_(True)
    (plain,) = torch.autograd.grad((weights * ours(points) * STEPS).sum(), points)
    assert not torch.allclose(plain, gradients[2], rtol=0.01)


@pytest.mark.parametrize("surrogate", ["bptr", "hart", "rga"])
def test_gradients_without_time_are_those_of_the_plain_neuron(surrogate: str) -> None:
    """`GeneralLIF` with the equation of `LIF`, which has code of its own."""
    x, given, found = torch.randn(6, 3, 7), torch.randn(6, 3, 7), []
    for neuron in (LIF(0.6, 0.4), GeneralLIF(0.6, 0.4)):
        with replaced(neuron, rule := chosen(surrogate).rule()):
            rule.begin()
            points = x.clone().requires_grad_(True)
            found += torch.autograd.grad((given * neuron(points)).sum(), points)
    torch.testing.assert_close(*found)
    assert float(found[0].abs().sum()) > 0


def test_the_network_is_restored(model: Any) -> None:
    images = torch.rand(4, 1, 8, 8)
    functions = [getattr(layer, name) for layer in (model.hidden, model.last) for name in attributes(layer)]
    points = images.clone().requires_grad_(True)
    (before,) = torch.autograd.grad(model(points).sum(), points)
    run(parse("sa-pgd3+assg"), model, images, torch.arange(4), 0.1)
    assert [getattr(layer, name) for layer in (model.hidden, model.last) for name in attributes(layer)] == functions
    (after,) = torch.autograd.grad(model(points).sum(), points)
    assert torch.equal(before, after)


def attributes(layer: nn.Module) -> list[str]:
    return [name for name in ("spike_grad", "surrogate_function") if hasattr(layer, name)]


@pytest.mark.parametrize("name", ["apgd20+assg", "sa-pgd20+pdsg", "pgd20+sigmoid3", "apgd-dlr20+assg-gaussian"])
def test_they_are_attacked(name: str, model: Any) -> None:
    """They leave at most a quarter of what noise of the same size leaves, on images that are not ties."""
    images = torch.rand(200, 1, 8, 8)
    with torch.no_grad():
        first, second = model(images).topk(2, 1).values.T
        images = images[first > second]
        labels = model(images).argmax(1)
    found = run(parse(name), model, images, labels, 0.3)
    noise = (images + 0.3 * torch.randn_like(images).sign()).clamp(0, 1)
    assert found.aware is not None and len(images) > 40
    with torch.no_grad():
        left, spared = (float((model(it).argmax(1) == labels).float().mean()) for it in (found.aware, noise))
    assert left <= spared / 4 and (found.aware - images).abs().max() <= 0.3 + 1e-6


@pytest.mark.parametrize("name", ["bptr", "rga"])
def test_what_needs_a_layer_over_time_is_refused_where_layers_spike_step_by_step(model: Any, name: str) -> None:
    rule = chosen(name).rule()
    with pytest.raises(RandhetError, match=r"layer 'hidden' spikes one step at a time"), replaced(model, rule):
        pass
