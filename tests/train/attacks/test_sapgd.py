"""SA-PGD against its formula by hand, and every attack in its ball."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from randhet.train.attacks.apgd import checkpoints
from randhet.train.attacks.losses import cross_entropy, dlr
from randhet.train.attacks.names import FAMILIES, parse, run
from randhet.train.attacks.problem import Problem
from randhet.train.attacks.sapgd import sa_pgd, step
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings

SLOW = {"aa", "aa-rand", "snn-auto", "pgd-frames", "sda", "retime"}
"""Batteries of the others, and attacks on events; they have tests of their own."""


class Curved(nn.Module):
    """Logits (z, -z, z^2) in float64, z = <w, x> + sin<v, x>: no gradient is like the last one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w, self.v = (torch.linspace(-1, 2, size, dtype=torch.float64).cos() * k for k in (3, 9))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).double()
        z = flat @ self.w + (flat @ self.v).sin()
        return torch.stack([z, -z, z**2], 1)


def by_hand(model: nn.Module, images: np.ndarray, start: np.ndarray, eps: float, steps: int, loss: str) -> np.ndarray:
    """The formula in plain NumPy, one image at a time; gradients by central differences of the loss."""

    def value(x: np.ndarray) -> float:
        z = model(torch.from_numpy(x)[None])[0].numpy()
        if loss == "ce":
            return float(np.log(np.exp(z - z[0]).sum()))
        ranked = np.sort(z)[::-1]
        return float((max(z[1], z[2]) - z[0]) / (ranked[0] - ranked[2] + 1e-12))

    def gradient(x: np.ndarray) -> np.ndarray:
        result = np.zeros_like(x)
        for index in np.ndindex(*x.shape):
            shift = np.zeros_like(x)
            shift[index] = 1e-6
            result[index] = (value(x + shift) - value(x - shift)) / 2e-6
        return result

    halvings, gap, when = [], 0.22 * steps, 0
    while when < steps:
        when += max(int(gap + 1e-9), 1)
        halvings.append(when)
        gap = max(int(gap + 1e-9) - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    found = []
    for image, x in zip(images, start):
        m, v, eta = np.zeros_like(x), np.zeros_like(x), eps
        best, highest = x, value(x)
        for i in range(steps):
            g = gradient(x)
            m = 0.5 * m + g / np.abs(g).mean()
            v = 0.8 * v + g**2 / (g**2).mean()
            x = x + np.clip(m / np.sqrt(v) * eta, -eta, eta)
            x = np.clip(np.clip(x, image - eps, image + eps), 0, 1)
            if value(x) > highest:
                best, highest = x, value(x)
            if i + 1 in halvings:
                eta /= 2
        found.append(best)
    return np.stack(found)


@pytest.mark.parametrize(("name", "loss"), [("ce", cross_entropy), ("dlr", dlr)])
def test_the_iterates_are_those_of_the_formula(name: str, loss: object) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 3, 2, dtype=torch.float64)
    model = Curved(6)
    problem = Problem(model, images, torch.zeros(4, dtype=torch.int64), 0.1)
    torch.manual_seed(7)
    start = problem.touching_start()
    assert torch.allclose(
        (start - images).abs().amax((1, 2, 3))[images.amin((1, 2, 3)) > 0.1], torch.tensor(0.1).double()
    )
    torch.manual_seed(7)
    found = sa_pgd(problem, 12, loss).stock  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = by_hand(model, images.numpy(), start.numpy(), 0.1, 12, name)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_the_step_is_halved_where_the_paper_says() -> None:
    """N = 50: after 11 iterations, then 10, 9, ... down to 3; int(0.22*50) = 11, int(0.03*50) = 1, int(0.06*50) = 3."""
    assert sorted(checkpoints(50))[:6] == [11, 21, 30, 38, 45, 51]
    assert sorted(checkpoints(100))[:4] == [22, 41, 57, 70]


@given(scale=st.floats(-40, 40), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_a_step_does_not_depend_on_the_size_of_gradients(scale: float, seed: int) -> None:
    """Also where their squares leave float32, and where an image has none."""
    torch.manual_seed(seed)
    gradient = torch.randn(2, 1, 3, 3)
    gradient[1] = 0
    zero = torch.zeros_like(gradient)
    moves = [step(gradient * factor, zero, zero)[2] for factor in (1.0, float(np.exp2(scale)))]
    torch.testing.assert_close(*moves, rtol=1e-4, atol=1e-5)
    assert (moves[0][1] == 0).all() and (moves[0][0].abs() >= 1).all()


@given(
    family=st.sampled_from(sorted(set(FAMILIES) - SLOW)),
    surrogate=st.sampled_from(["", "+assg", "+assg-triangle0.3", "+rectangle1", "+pdsg", "+bptr", "+hart", "+rga"]),
    draws=st.sampled_from(["", "x2"]),
    restarts=st.sampled_from(["", "r2"]),
    eps=st.floats(0, 0.5),
    neuron=st.sampled_from(["randhet", "vanilla", "het"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_every_attack_stays_in_its_ball(
    family: str, surrogate: str, draws: str, restarts: str, eps: float, neuron: str, seed: int
) -> None:
    torch.manual_seed(seed)
    model = build(random_init(ModelSettings(1, 5, (5, 5), (3,), (1,), steps=2, neuron=neuron), seed=seed))  # type: ignore[arg-type]
    images, labels = (1.6 * torch.rand(3, 1, 5, 5) - 0.3).clamp(0, 1), torch.arange(3)
    known = FAMILIES[family]
    steps = "" if known.steps == 0 else "3"
    name = family + steps + draws + restarts + (surrogate if known.gradients else "")
    found = run(parse(name), model, images, labels, eps, redraws=2)
    for example in (found.stock, found.aware):
        if example is not None:
            assert example.isfinite().all() and example.min() >= 0 and example.max() <= 1
            assert (example - images).abs().max() <= eps + 1e-6
