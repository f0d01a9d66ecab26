"""The Triton neuron against the compiled one of the CPU and against autograd in float64, in Triton's interpreter."""

from __future__ import annotations

import sys
from math import pi
from typing import Any

import pytest
import torch
from torch import Tensor

from randhet.base import triton
from randhet.train import cpu, gpu, neurons
from randhet.train.kernels import Cell

ALPHA, THETA = 2.0, 0.5


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels decide between interpreter and GPU when they are defined, so that they are defined here."""
    if reason := triton.missing():
        pytest.skip(reason)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, "randhet.train.gpu_kernels", raising=False)


def currents(*shape: int, like: int = 1) -> Tensor:
    """Currents around the threshold."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(like)) * 2 + 1


def decays_of(mode: str, x: Tensor) -> tuple[Any, Any]:
    """The decays of the kernels for the CPU, and of those for the GPU."""
    if mode in ("step", "forward"):
        return cpu.random_decays(7, len(x), 1.5, mode), gpu.random_decays(7, len(x), 1.5, mode, x.device)
    shape = () if mode == "one" else x.shape[2:]
    decay = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    return cpu.constant_decays(decay), gpu.constant_decays(decay)


class Arctan(torch.autograd.Function):
    """A spike, with the surrogate gradient of the arctan family."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grads[0] * (ALPHA / 2) / (1 + (pi / 2 * ALPHA * u) ** 2)


def by_autograd(x: Tensor, taus: list[Tensor], subtract: bool) -> Tensor:
    """Spikes by the equations of `neurons`, step by step, the reset detached."""
    m, spikes = torch.zeros_like(x[0]), []
    for t, tau in enumerate(taus):
        m = tau * m + (1 - tau) * x[t]
        spikes.append(Arctan.apply(m - THETA))
        fired = spikes[-1].detach()
        m = m - THETA * fired if subtract else m * (1 - fired)
    return torch.stack(spikes)


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("mode", ["one", "own", "step", "forward"])
def test_spikes_and_gradients_are_those_of_the_cpu(mode: str, subtract: bool) -> None:
    """Several programs, the last one not full; spikes equal, gradients to the last bits of float32."""
    x, cell = currents(4, 3, 5, 7, 8), Cell(THETA, ALPHA, subtract)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled, drawn = decays_of(mode, x)
    expected, found = cpu.CpuLif.apply(one, None, compiled, cell, None), gpu.GpuLif.apply(other, None, drawn, cell)
    assert 0.1 < float(expected.detach().mean()) < 0.9 and torch.equal(found, expected)
    weight = currents(*x.shape, like=2)
    for spikes in (expected, found):
        (spikes * weight).sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("subtract", [False, True])
def test_gradients_of_drawn_decays_are_autograd_s_in_float64(subtract: bool) -> None:
    x = currents(5, 2, 30)
    decays = gpu.random_decays(3, len(x), 1.0, "step", x.device)
    taus = [gpu.drawn(decays, t, x).double() for t in range(len(x))]
    one, other = x.double().requires_grad_(), x.clone().requires_grad_()
    expected = by_autograd(one, taus, subtract)
    found = gpu.GpuLif.apply(other, None, decays, Cell(THETA, ALPHA, subtract))
    assert torch.equal(found.double(), expected)
    weight = currents(*x.shape, like=2)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    torch.testing.assert_close(other.grad.double(), one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3, 4)])
@pytest.mark.parametrize("subtract", [False, True])
def test_gradients_of_learned_decays_are_autograd_s_in_float64(shape: tuple[int, ...], subtract: bool) -> None:
    """One for all neurons, or one for each, in a layout with channels last."""
    x = currents(4, 2, 3, 4).permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    decay = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    one, other = decay.double().requires_grad_(), decay.clone().requires_grad_()
    expected = by_autograd(x.double(), [one] * len(x), subtract)
    found = gpu.GpuLif.apply(x, other, gpu.constant_decays(decay), Cell(THETA, ALPHA, subtract))
    weight = currents(4, 2, 3, 4, like=2)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    assert torch.equal(found.double(), expected)
    torch.testing.assert_close(other.grad.double(), one.grad, rtol=1e-4, atol=1e-5)


def test_drawn_decays_are_those_of_the_cpu() -> None:
    """In every layout, at any seed, and where other processes work on the images before."""
    x = currents(3, 4, 5, 6).to(memory_format=torch.channels_last)
    for mode in ("step", "forward"):
        compiled, drawn = decays_of(mode, x)
        for first in (0, 2**31 - 5, 2**26):
            here, there = compiled._replace(first=first), drawn._replace(first=first)
            for t in range(3):
                assert torch.equal(gpu.drawn(there, t, x), cpu.drawn(here, t, x))


def test_the_same_currents_at_every_step_are_read_once() -> None:
    x = currents(1, 2, 40).expand(6, -1, -1)
    compiled, drawn = decays_of("step", x)
    cell = Cell(THETA, ALPHA, False)
    assert torch.equal(gpu.GpuLif.apply(x, None, drawn, cell), cpu.CpuLif.apply(x, None, compiled, cell, None))


def test_modules_take_the_kernels_where_currents_lie_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor taken for a GPU: every neuron gives the spikes and gradients that it gives on the CPU."""
    made = [neurons.RandomTauLIF(), neurons.RandomTauLIF(sampling="forward"), neurons.LIF(), neurons.HetLIF((6,))]
    for module in made:
        results = []
        for devices in ((), ("cpu",)):
            monkeypatch.setattr(gpu, "DEVICES", devices)
            monkeypatch.setattr(neurons, "on_cpu", lambda x, devices=devices: not devices)
            torch.manual_seed(1)
            x = currents(3, 2, 6).requires_grad_()
            spikes = module(x)
            assert type(spikes.grad_fn).__name__ == ("GpuLifBackward" if devices else "CpuLifBackward")
            spikes.mul(currents(3, 2, 6, like=2)).sum().backward()
            results.append((spikes.detach(), x.grad))
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-6, atol=1e-7)
