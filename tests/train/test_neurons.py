"""The fused neuron against a plain loop under autograd in float64, and its draws against their distribution."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import pytest
import torch
from scipy.stats import kstest, norm
from surrogate import arctan_step
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.train.neurons import LIF, RESETS, HetLIF, Neuron, RandomTauLIF, Reset, neurons, recording, replaying


def plain(x: Tensor, tau: Callable[[int], Tensor], reset: str, theta: float = 0.5) -> tuple[Tensor, Tensor]:
    """The paper's equations, one step after another, differentiated by autograd; or with the threshold subtracted."""
    m, spikes, membranes = torch.zeros_like(x[0]), [], []
    for t in range(len(x)):
        m = tau(t) * m + (1 - tau(t)) * x[t]
        s = arctan_step(m - theta)
        spikes.append(s)
        membranes.append(m)
        m = m * (1 - s.detach()) if reset == "zero" else m - theta * s.detach()
    return torch.stack(spikes), torch.stack(membranes)


def currents(steps: int = 6) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(steps, 3, 4, 5, 5, dtype=torch.float64, requires_grad=True)


def given(sampling: str, reset: Reset) -> tuple[RandomTauLIF, Callable[[int], Tensor]]:
    taus = torch.rand((6, 3, 4, 5, 5) if sampling == "step" else (3, 4, 5, 5), dtype=torch.float64)
    neuron = RandomTauLIF(sampling=sampling, reset=reset)  # type: ignore[arg-type]
    neuron.sampler = lambda shape: taus
    return neuron, lambda t: taus[t] if sampling == "step" else taus


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("sampling", ["step", "forward"])
def test_random_tau_forward_and_gradient_equal_the_plain_loop(sampling: str, reset: Reset) -> None:
    neuron, tau = given(sampling, reset)
    compare(neuron, tau, [])


@pytest.mark.parametrize("reset", RESETS)
def test_vanilla_equals_the_plain_loop(reset: Reset) -> None:
    compare(LIF(0.3, reset=reset), lambda t: torch.tensor(0.3, dtype=torch.float64), [])


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [(4, 5, 5), (4, 1, 1)])
def test_het_equals_the_plain_loop_and_learns_its_decay(shape: tuple[int, ...], reset: Reset) -> None:
    neuron = HetLIF(shape, reset=reset).double()
    compare(neuron, lambda t: neuron.w.sigmoid(), [neuron.w])


@pytest.mark.parametrize("reset", RESETS)
def test_a_trained_sigma_equals_the_plain_loop(reset: Reset) -> None:
    """With the draws of the neuron's own seed, tau = sigmoid(sigma*n) differentiated by autograd."""
    neuron = RandomTauLIF(0.7, bounds=(0.5, 1.5), reset=reset).train().double()
    assert neuron.w is not None
    torch.manual_seed(4)
    seed = int(torch.randint(2**62, ()))
    drawn = neuron.draws(currents(), seed)
    noise = [torch.logit(drawn(t).double()) / neuron.sigma for t in range(6)]
    compare(neuron, lambda t: torch.sigmoid(neuron.bounded(neuron.w) * noise[t]), [neuron.w], at=4)


def compare(neuron: Neuron, tau: Callable[[int], Tensor], parameters: list[Tensor], at: int = 0) -> None:
    """at: torch's seed where the neuron draws."""
    x = currents()
    weights = torch.randn(x.shape, dtype=torch.float64)
    expected, _ = plain(x, tau, neuron.reset)
    wanted = torch.autograd.grad((expected * weights).sum(), [x, *parameters])
    torch.manual_seed(at)
    got = neuron(x)
    found = torch.autograd.grad((got * weights).sum(), [x, *parameters])
    assert torch.equal(got, expected)
    for one, other in zip(found, wanted):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampling", ["step", "forward"])
def test_backward_uses_the_taus_of_forward(sampling: str) -> None:
    """Constant currents, one step below threshold: d m / d x is 1 - tau, so gradient and membrane must agree."""
    neuron = RandomTauLIF(sampling=sampling, threshold=10.0)  # type: ignore[arg-type]
    x = torch.ones(1, 2, 100, dtype=torch.float64, requires_grad=True)
    with recording(torch.nn.Sequential(neuron)) as log:
        spikes = neuron(x)
    (gradient,) = torch.autograd.grad(spikes.sum(), x)
    membrane = log["0"][0][1]
    derivative = 1 / (1 + (pi * (membrane - 10.0)) ** 2)
    torch.testing.assert_close(gradient, derivative * membrane)


def test_draws_follow_the_logit_normal_and_the_seed() -> None:
    """tau = 1 - m for a unit current from rest: its logit over sigma must be standard normal (KS, 40,000 draws)."""
    neuron = torch.nn.Sequential(RandomTauLIF(sigma=1.5, threshold=2.0))

    def taus() -> Tensor:
        torch.manual_seed(11)
        with recording(neuron) as log:
            neuron(torch.ones(1, 4, 10_000, dtype=torch.float64))
        return 1 - log["0"][0][1].flatten()

    first = taus()
    assert torch.equal(first, taus())
    assert kstest((torch.logit(first) / 1.5).numpy(), norm.cdf).pvalue > 1e-3


def test_per_step_draws_differ_between_steps_and_held_ones_do_not() -> None:
    for sampling, same in (("step", False), ("forward", True)):
        seen: list[Tensor] = []
        neuron = RandomTauLIF(sampling=sampling)  # type: ignore[arg-type]
        decay = neuron.draws(torch.zeros(4, 2, 8), seed=1)
        seen = [decay(t) for t in range(4)]
        assert torch.equal(seen[0], seen[3]) is same and torch.equal(seen[2], decay(2))


def test_threshold_is_strict_and_reset_is_hard() -> None:
    neuron = LIF(decay=0.0)
    spikes = neuron(torch.tensor([0.5, 0.5000001, 0.2]).reshape(3, 1, 1))
    assert spikes.flatten().tolist() == [0.0, 1.0, 0.0]


def test_a_spike_sets_the_membrane_to_zero_or_subtracts_the_threshold() -> None:
    """decay 1/2, theta 1, by hand: m = 3 spikes, then 1/2 * (0 or 2) + 1/2 * 1; the second may stay above theta."""
    x = torch.tensor([6.0, 1.0, 3.0, 0.0]).reshape(4, 1, 1)
    membranes = {}
    for reset in RESETS:
        neuron = torch.nn.Sequential(LIF(0.5, 1.0, reset=reset))  # type: ignore[arg-type]
        with recording(neuron) as log:
            neuron(x)
        membranes[reset] = log["0"][0][1].flatten().tolist()
    assert membranes == {"zero": [3.0, 0.5, 1.75, 0.0], "subtract": [3.0, 1.5, 1.75, 0.375]}


def test_an_unknown_reset_is_refused() -> None:
    with pytest.raises(RandhetError, match="reset 'soft' is not one of zero, subtract"):
        LIF(reset="soft")  # type: ignore[arg-type]


def test_replaying_sets_and_restores_the_sampler() -> None:
    model = torch.nn.Sequential(RandomTauLIF())
    (neuron,) = neurons(model).values()
    assert isinstance(neuron, RandomTauLIF)
    with replaying(model, {"0": lambda shape: torch.zeros(shape)}):
        assert neuron.sampler is not None
    assert neuron.sampler is None
