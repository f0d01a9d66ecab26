"""The penalty on spike rates: its value and gradient by hand, which passes count, and what training makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.activity import Spikes, counted, penalty
from randhet.train.checkpoint import build, random_init
from randhet.train.loop import train
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, recording
from randhet.train.objectives import OBJECTIVES
from randhet.train.settings import TrainSettings

TINY = ModelSettings(1, 10, (8, 8), (4,), (1,), steps=2)


def test_the_penalty_on_paper() -> None:
    """Rates 1/2, 1/4 and 1/16 above a target of 1/8: 8 * (3/8 + 1/8 + 0) / 3; a layer below it feels nothing."""
    rates = torch.tensor([0.5, 0.25, 0.0625], dtype=torch.float64, requires_grad=True)
    value = penalty(rates, 8.0, 0.125)
    value.backward()
    assert value.item() == pytest.approx(4 / 3, rel=1e-15)
    assert rates.grad is not None and rates.grad.tolist() == pytest.approx([8 / 3, 8 / 3, 0.0], rel=1e-15)


class Chain(nn.Module):
    """Two linear layers with a neuron behind each, currents (T, N, 6) to spikes (T, N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 4)
        self.near, self.far = LIF(0.5, 0.3), LIF(0.25, 0.2, alpha=3.0, reset="subtract")

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.far(self.second(self.near(self.first(x))))
        return spikes


def stepped(x: Tensor, decay: float, theta: float, alpha: float, subtract: bool) -> Tensor:
    """The neuron under autograd alone: a step function that lends its slope from arctan(pi/2 * alpha * u) / pi."""
    m, spikes = torch.zeros_like(x[0]), []
    for current in x:
        m = decay * m + (1 - decay) * current
        smooth = torch.atan(torch.pi / 2 * alpha * (m - theta)) / torch.pi
        fired = (m > theta).to(m.dtype)
        spikes.append(fired + smooth - smooth.detach())
        m = m - theta * fired if subtract else m * (1 - fired)
    return torch.stack(spikes)


def by_hand(model: Chain, x: Tensor, target: float) -> tuple[Tensor, list[Tensor]]:
    """7 * mean of max(0, rate - target) over the two layers, and its gradients by the weights."""
    near = stepped(model.first(x), 0.5, 0.3, 2.0, False)
    far = stepped(model.second(near), 0.25, 0.2, 3.0, True)
    rates = torch.stack([near.mean(), far.mean()])
    value = 7.0 * torch.where(rates > target, rates - target, torch.zeros_like(rates)).mean()
    return rates.detach(), list(torch.autograd.grad(value, list(model.parameters()), allow_unused=True))


def by_counting(model: Chain, x: Tensor, target: float) -> tuple[Tensor, list[Tensor]]:
    """The same from the neurons' own passes."""
    with counted(model, training=True) as spikes:
        model(x)
    value = penalty(spikes.rates(), 7.0, target)
    return spikes.rates().detach(), list(torch.autograd.grad(value, list(model.parameters()), allow_unused=True))


@pytest.mark.parametrize("target", [0.0, 0.3])
@pytest.mark.parametrize(("kind", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_the_gradient_of_the_penalty_is_that_of_autograd(kind: torch.dtype, close: float, target: float) -> None:
    """float64 goes through the loop in PyTorch, float32 through the compiled kernels."""
    torch.manual_seed(3)
    model, x = Chain().double(), 2 * torch.randn(5, 7, 6, dtype=torch.float64)
    rates, expected = by_hand(model, x, target)
    low, high = sorted(rates.tolist())
    assert low < 0.3 < high  # the second target lies between the layers, so that one of them has no part
    found_rates, found = by_counting(model.to(kind), x.to(kind), target)
    assert found_rates.tolist() == rates.tolist()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=close, atol=close / 10)
        assert float(theirs.abs().sum()) > 0


@pytest.mark.parametrize(("objective", "passes"), [("plain", 1), ("at", 1), ("rat", 1), ("trades", 2), ("sr", 2)])
@pytest.mark.parametrize("redraw", [True, False])
def test_passes_that_make_examples_do_not_count(objective: str, passes: int, redraw: bool) -> None:
    model = build(random_init(TINY)).train()
    settings = TrainSettings(objective=objective, redraw=redraw, train_surrogate="assg" if redraw else "")
    with counted(model, training=True) as spikes:
        loss = OBJECTIVES[objective].loss(model, torch.rand(3, 1, 8, 8), torch.arange(3), settings)
    assert set(spikes.places.values()) == {passes * 2 * 3 * 4 * 8 * 8} and len(spikes.places) == TINY.layers
    penalised = loss + penalty(spikes.rates(), 1.0, 0.0)
    assert penalised.requires_grad and float(penalised.detach()) > float(loss.detach())


def test_rates_are_those_of_the_recorded_spikes() -> None:
    """A large layer counts for more in the rate of the network, and each alike in the penalty's rates."""
    model = build(random_init(ModelSettings(1, 4, (6, 6), (3, 5), (1, 1), steps=3))).eval()
    images = [torch.rand(n, 1, 6, 6) for n in (4, 2)]
    torch.manual_seed(1)
    with torch.no_grad(), recording(model) as logs:
        for batch in images:
            model(batch)
    torch.manual_seed(1)
    with torch.no_grad(), counted(model, training=False) as spikes:
        for batch in images:
            model(batch)
    whole = {name: np.concatenate([s.numpy().ravel() for s, _ in log]) for name, log in logs.items()}
    assert spikes.by_layer() == {name: pytest.approx(values.mean(dtype=float)) for name, values in whole.items()}
    assert spikes.rate() == pytest.approx(np.concatenate(list(whole.values())).mean(dtype=float))
    assert 0 < spikes.rate() < 1
    assert all(not module._forward_hooks for module in model.modules())


def test_nothing_is_counted_in_the_other_mode() -> None:
    model = build(random_init(TINY)).eval()
    with counted(model, training=True) as spikes:
        model(torch.rand(1, 1, 8, 8))
    assert spikes.counts == {} and isinstance(spikes, Spikes)


def test_training_with_the_penalty_spikes_less_and_the_run_says_so(tmp_path: Path) -> None:
    rates, news = {}, list[dict[str, object]]()
    for weight, target in ((0.0, 0.0), (5.0, 0.05)):
        settings = TrainSettings(epochs=3, batch=50, objective="plain", rate_weight=weight, rate_target=target)
        done = train(TINY, settings, tmp_path / "a.pt", samples=300, report=news.append)
        rates[weight] = done.record["spike_rate"]
        assert (done.record["rate_weight"], done.record["rate_target"]) == (weight, target)
    assert 0 < rates[5.0] < 0.6 * rates[0.0]
    by_layer = news[-1]["rates"]
    assert isinstance(by_layer, dict) and len(by_layer) == TINY.layers
    assert news[-1]["spike_rate"] == rates[5.0]
    assert min(by_layer.values()) <= rates[5.0] <= max(by_layer.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate_weight": -1.0}, "rate_weight is -1.0, it must be 0 or more, and finite"),
        ({"rate_weight": float("nan")}, "rate_weight is nan"),
        ({"rate_weight": float("inf")}, "rate_weight is inf"),
        ({"rate_weight": 1.0, "rate_target": 1.5}, "rate_target 1.5 must lie in 0..1"),
        ({"rate_target": 0.05}, "rate_target is 0.05 without a penalty: give a rate_weight above 0"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(RandhetError, match=words):
        TrainSettings(**change)  # type: ignore[arg-type]


def test_a_network_without_neurons_has_no_rate_to_lower(tmp_path: Path) -> None:
    relu = ModelSettings(widths=(4,), blocks=(1,), baseline="relu")
    with pytest.raises(RandhetError, match="rate_weight is 2.0, the model has no neurons that spike: leave it out"):
        train(relu, TrainSettings(epochs=1, rate_weight=2.0), tmp_path / "a.pt", samples=20)
