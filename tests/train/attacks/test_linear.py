"""Attacks on linear networks, where the strongest perturbation of radius eps is known: eps*sign of the weights' gap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from randhet.train.attacks import autoattack
from randhet.train.attacks.fab import fab, to_plane
from randhet.train.attacks.names import FAMILIES, parse, run
from randhet.train.attacks.problem import Problem
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings

EPS = 0.1
NAMES = [
    "fgsm",
    "rfgsm",
    "pgd4",
    "pgd3x2",
    "mifgsm4",
    "mifgsm4-d0.5",
    "apgd6",
    "apgd4x2",
    "apgd-dlr6",
    "apgd-t6",
    "square60",
    "fab4",
    "fab-t4",
    "pgd3@mean",
]


class Linear(nn.Module):
    """Logits (a, -a, -50, -60) for a = <w, x> + b: every loss of margins falls as a does."""

    def __init__(self, size: int, bias: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(size) + torch.tensor([2.0, -2.0]).repeat(size // 2))
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        a = x.flatten(1) @ self.w + self.bias
        return torch.stack([a, -a, torch.full_like(a, -50), torch.full_like(a, -60)], 1)


@pytest.fixture
def problem() -> Problem:
    """20 images of 2x3x4 of class 0, some pixels at the ends of the range, too far from the boundary to cross it."""
    torch.manual_seed(0)
    images = (1.4 * torch.rand(20, 2, 3, 4) - 0.2).clamp(0, 1)
    return Problem(Linear(24, 20.0), images, torch.zeros(20, dtype=torch.int64), EPS)


def optimum(problem: Problem) -> Tensor:
    w = problem.model.get_parameter("w").detach().view(1, 2, 3, 4)
    return (problem.images - problem.eps * w.sign()).clamp(0, 1)


@pytest.mark.parametrize(
    "name", ["fgsm", "pgd4", "pgd4x2", "mifgsm4", "apgd6", "apgd-dlr6", "apgd-t6", "apgd6x2", "square600"]
)
def test_the_closed_form_optimum_is_found(problem: Problem, name: str) -> None:
    torch.manual_seed(1)
    found = run(parse(name), problem.model, problem.images, problem.labels, EPS)
    best = optimum(problem)
    example = found.stock if found.aware is None else found.aware
    reached = problem.margins(example) - problem.margins(problem.images)
    possible = problem.margins(best) - problem.margins(problem.images)
    if name.startswith("square"):  # a random search: nearly there
        assert (reached > 0.97 * possible).all()
    else:
        torch.testing.assert_close(example, best, atol=1e-6, rtol=0)


def test_autoattack_finds_it_too(problem: Problem) -> None:
    for found in (autoattack.standard(problem, steps=6, queries=20), autoattack.rand(problem, steps=6, draws=2)):
        assert found.aware is not None
        torch.testing.assert_close(problem.margins(found.aware), problem.margins(optimum(problem)))


def test_fab_finds_the_nearest_point_of_the_boundary(problem: Problem) -> None:
    """Distance |2a| / |2w|_1 where no pixel meets its border; the attack steps 5 % beyond the boundary."""
    images = 0.3 + 0.4 * problem.images
    a = problem.model(images)[:, 0]
    model = problem.model
    assert isinstance(model, Linear)
    model.bias -= float(a.min()) - 0.5
    near = replace(problem, images=images, eps=0.1)
    nearest = near.model(images)[:, 0] / model.w.abs().sum()
    found = fab(near, steps=5).stock - images
    length = found.flatten(1).abs().amax(1)
    inside = nearest * 1.05 < 0.1
    assert inside.any() and not inside.all()
    assert (length[inside] >= nearest[inside] - 1e-5).all() and (length[inside] <= 1.05 * nearest[inside] + 1e-5).all()
    assert (length[nearest > 0.1] == 0).all()  # no success within eps: the clean image, as released


def test_the_projection_is_the_linear_programs() -> None:
    """min t with |d| <= t, <n, d> = gap, 0 <= x + d <= 1, by scipy."""
    rng = np.random.default_rng(0)
    points, normals = rng.random((30, 6)), rng.normal(size=(30, 6))
    for x, n in zip(points, normals):
        room = np.where(n > 0, 1 - x, x) @ np.abs(n)
        gap = float(rng.random() * room)
        eye, one = np.eye(6), np.ones((6, 1))
        solved = linprog(
            [0] * 6 + [1],
            A_ub=np.block([[eye, -one], [-eye, -one]]),
            b_ub=np.zeros(12),
            A_eq=[[*n, 0]],
            b_eq=[gap],
            bounds=[*zip(-x, 1 - x), (0, None)],
        )
        d = to_plane(*(torch.tensor(v, dtype=torch.float32)[None] for v in (x, n, gap)))[0].double().numpy()
        assert abs(np.abs(d).max() - solved.x[-1]) < 1e-5
        assert abs(n @ d - gap) < 1e-5


@pytest.mark.parametrize("name", [*NAMES, "aa", "aa-rand"])
@pytest.mark.parametrize("neuron", ["randhet", "vanilla"])
def test_examples_stay_in_the_ball_and_in_the_range(name: str, neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gradients that are not constant, some of them 0, on images with pixels at 0 and 1."""
    few = {
        "aa": lambda p, a: autoattack.standard(p, steps=2, queries=4),
        "aa-rand": lambda p, a: autoattack.rand(p, steps=2, draws=2),
    }
    for family, short in few.items():
        monkeypatch.setitem(FAMILIES, family, replace(FAMILIES[family], run=short))
    model = build(random_init(ModelSettings(2, 5, (6, 6), (3,), (1,), steps=2, neuron=neuron)))  # type: ignore[arg-type]
    torch.manual_seed(2)
    images = (1.6 * torch.rand(7, 2, 6, 6) - 0.3).clamp(0, 1)
    labels = torch.arange(7) % 5
    found = run(parse(name), model, images, labels, EPS, redraws=10)
    for example in (found.stock, found.aware):
        if example is not None:
            assert example.shape == images.shape and example.isfinite().all()
            assert (example - images).abs().max() <= EPS + 1e-6
            assert example.min() >= 0 and example.max() <= 1
    assert (found.aware is not None) == parse(name).iterated
    assert not torch.equal(found.stock if found.aware is None else found.aware, images)
