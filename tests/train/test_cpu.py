"""The compiled neurons of the CPU against a plain loop under autograd in float64, for every layout and kind of tau."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from surrogate import arctan_step
from torch import Tensor

from randhet.train.cpu import CpuLif, constant_decays, drawn, keys, random_decays, tau_table
from randhet.train.kernels import Cell, Decays

SHAPE = (5, 3, 4, 6, 7)
ZERO, SUBTRACT = Cell(0.5, 2.0, False), Cell(0.5, 2.0, True)


def plain(x: Tensor, tau: Callable[[int], Tensor], cell: Cell) -> tuple[Tensor, Tensor]:
    """Spikes and the smallest distance of a membrane from the threshold."""
    m, spikes, nearest = torch.zeros_like(x[0]), [], torch.inf
    for t in range(len(x)):
        m = tau(t) * m + (1 - tau(t)) * x[t]
        nearest = min(nearest, float((m - cell.theta).abs().min()))
        spikes.append(arctan_step(m - cell.theta))
        s = spikes[-1].detach()
        m = m - cell.theta * s if cell.subtract else m * (1 - s)
    return torch.stack(spikes), torch.tensor(nearest)


def layouts() -> dict[str, Callable[[Tensor], Tensor]]:
    return {
        "as written": lambda x: x,
        "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
        "same at every step": lambda x: x[:1].expand_as(x),
        "every other row": lambda x: torch.stack([x, x], 3).flatten(3, 4)[..., ::2, :],
    }


def kinds() -> dict[str, Callable[[], tuple[Decays, Tensor | None]]]:
    torch.manual_seed(5)
    own = torch.rand(SHAPE[2:])
    return {
        "step": lambda: (random_decays(7, SHAPE[0], 1.0, "step"), None),
        "forward": lambda: (random_decays(7, SHAPE[0], 1.0, "forward"), None),
        "one": lambda: (constant_decays(torch.tensor(0.5)), None),
        "per neuron": lambda: (constant_decays(own), own),
    }


@pytest.mark.parametrize("cell", [ZERO, SUBTRACT], ids=["zero", "subtract"])
@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("kind", kinds())
def test_spikes_and_gradients_equal_the_plain_loop(kind: str, layout: str, cell: Cell) -> None:
    """float32 beside float64: spikes equal, as no membrane here is as near to the threshold as rounding reaches."""
    torch.manual_seed(1)
    taus, own = kinds()[kind]()
    x = layouts()[layout](torch.randn(SHAPE)).detach().requires_grad_(True)
    learned = None if own is None else own.clone().requires_grad_(True)
    upstream = torch.randn(SHAPE)
    spikes = CpuLif.apply(x, learned, taus, cell)
    spikes.backward(upstream)

    wide = x.detach().double().requires_grad_(True)
    exact = None if own is None else own.double().requires_grad_(True)
    given = [drawn(taus, t, x.detach()).double() for t in range(SHAPE[0])] if taus.mode else []
    tau = (lambda t: given[t]) if given else (lambda t: torch.tensor(0.5) if exact is None else exact)
    wanted, nearest = plain(wide, tau, cell)
    wanted.backward(upstream.double())
    assert float(nearest) > 1e-6
    assert torch.equal(spikes.double(), wanted)
    assert x.grad is not None and wide.grad is not None
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-4, atol=1e-5)
    if learned is not None and exact is not None and learned.grad is not None and exact.grad is not None:
        torch.testing.assert_close(learned.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_the_draws() -> None:
    x, taus = torch.randn(3, 2, 40_000), random_decays(3, 3, 1.0, "step")
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(CpuLif.apply(x, None, taus, ZERO))
    torch.set_num_threads(before)
    assert torch.equal(*found)


def test_bfloat16_rounds_the_gradient_and_not_the_membrane() -> None:
    """Currents that bfloat16 holds exactly spike as in float32; the gradient is float32's, rounded to 8 bits."""
    torch.manual_seed(2)
    x = torch.randn(SHAPE).bfloat16()
    results = []
    for kind in (torch.float32, torch.bfloat16):
        given = x.to(kind).requires_grad_(True)
        spikes = CpuLif.apply(given, None, random_decays(7, SHAPE[0], 1.0, "step"), ZERO)
        spikes.backward(torch.ones_like(spikes))
        assert given.grad is not None
        results.append((spikes.float(), given.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1].bfloat16(), results[1][1])


def test_nothing_but_the_currents_is_kept_for_the_backward_pass() -> None:
    """Decays and membranes are made again: a random neuron keeps what a constant one keeps."""
    x = torch.randn(SHAPE, requires_grad=True)
    kept = []
    for taus in (random_decays(7, SHAPE[0], 1.0, "step"), constant_decays(torch.tensor(0.5))):
        seen: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda it, seen=seen: seen.append(it.nbytes) or it, lambda it: it
        ):
            CpuLif.apply(x, None, taus, ZERO)
        kept.append(seen)
    assert kept[0] == kept[1] == [x.nbytes]


def test_the_table_holds_the_quantiles_of_the_distribution() -> None:
    wanted = 1 / (1 + np.exp(-1.5 * norm.ppf((np.arange(4096) + 0.5) / 4096)))
    np.testing.assert_allclose(tau_table(1.5), wanted, rtol=1e-6)


def test_draws_are_spread_like_the_distribution() -> None:
    x, taus = torch.zeros(1, 1, 60_000), Decays(1, keys(9, 1), tau_table(1.0))
    logits = torch.logit(drawn(taus, 0, x).double()).flatten().numpy()
    assert kstest(logits, norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(logits[1:], logits[:-1])[0, 1]) < 4 / np.sqrt(len(logits))
