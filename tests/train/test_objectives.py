"""RAT and SR against their formulas by hand, and when the taus are drawn anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings
from randhet.train.objectives import OBJECTIVES, at, rat, sr, trades
from randhet.train.settings import TrainSettings

EXACT = TrainSettings(eps=0.1, attack_step=0.1, start=0.0, sr_weight=3.0, sr_distance=0.05)


def test_orthogonalisation_on_paper() -> None:
    """W = [[1, 2], [0, 1]], b = 1/2: W W^T = [[5, 2], [2, 1]], times W = [[5, 12], [2, 5]]; 3/2 W - 1/2 of it."""
    found = rat.orthogonalised(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), 0.5)
    assert found.tolist() == [[-1.0, -3.0], [-1.0, -1.0]]


def test_orthogonal_rows_stay() -> None:
    rows = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0][:4]
    torch.testing.assert_close(rat.orthogonalised(rows, 0.004), rows)


def test_rat_pulls_convolutions_and_linear_layers_and_nothing_else() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    OBJECTIVES["rat"].after_step(model, EXACT)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.weight", "3.weight"}
    w = before["0.weight"].flatten(1).double().numpy()
    expected = 1.004 * w - 0.004 * w @ w.T @ w
    np.testing.assert_allclose(model[0].weight.detach().flatten(1).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_weight_decay_goes_with_the_objective() -> None:
    found = {name: TrainSettings(objective=name).decay for name in OBJECTIVES}
    assert found == {"plain": 1e-4, "at": 1e-4, "at-events": 1e-4, "rat": 0.0, "sr": 0.0, "trades": 1e-4}


class Softmax(nn.Module):
    """Two classes with logits (w.x, 0)."""

    def __init__(self, w: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.w
        return torch.stack([z, torch.zeros_like(z)], 1)


def test_sr_on_paper() -> None:
    """The margin of class 0 is tanh(z/2), z = w.x, and its gradient has the sign of w everywhere.

    RFGSM moves a class 0 image by -0.1 sign(w), so z' = w.x - 0.1 |w|; a step h along the gradient gives z' + h |w|.
    """
    w, x = np.array([2.0, -1.0, 0.5]), np.array([0.4, 0.5, 0.6])
    model = Softmax(w.tolist())
    images = torch.tensor(x).reshape(1, 1, 1, 3)
    loss = sr.loss(model, images, torch.tensor([0]), EXACT)
    z = w @ x - 0.1 * np.abs(w).sum()
    slope = (np.tanh((z + 0.05 * np.abs(w).sum()) / 2) - np.tanh(z / 2)) / 0.05
    assert loss.item() == pytest.approx(np.log1p(np.exp(-z)) + 3.0 * slope**2, rel=1e-6)


def test_trades_on_paper() -> None:
    """Two classes, p = sigmoid(w.x): the divergence rises along sign(w) times the side of the start, here above x.

    A start of +0.02 per pixel with the sign of w makes z' > z; the step of 0.1 goes on that way, clipped to 0.1 from x.
    """
    w, x = np.array([2.0, -1.0, 0.5]), np.array([0.4, 0.5, 0.6])
    settings = TrainSettings(eps=0.1, attack_step=0.1, start=0.2, trades_weight=5.0)
    model, images = Softmax(w.tolist()), torch.tensor(x).reshape(1, 1, 1, 3)
    start = 0.02 * torch.tensor(np.sign(w)).reshape(1, 1, 1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trades.world()), "uniform_like", lambda world, images, radius: start)
        loss = trades.loss(model, images, torch.tensor([0]), settings)
    p, q = (1 / (1 + np.exp(-z)) for z in (w @ x, w @ (x + 0.1 * np.sign(w))))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert loss.item() == pytest.approx(-np.log(p) + 5.0 * divergence, rel=1e-6)


@pytest.mark.parametrize("objective", ["at", "trades", "sr", "rat"])
@pytest.mark.parametrize("redraw", [True, False])
def test_examples_of_training_are_made_under_the_chosen_surrogate(objective: str, redraw: bool) -> None:
    """A surrogate that is 0 everywhere stops the attack, so that only the start moves; weights learn as before."""
    model = build(random_init(ModelSettings(1, 4, (6, 6), (3,), (1,), steps=2, neuron="vanilla")))
    images, labels = 0.3 + 0.4 * torch.rand(4, 1, 6, 6), torch.arange(4)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    moved = {}
    for surrogate in ("", "rectangle100000000"):
        seen.clear()
        settings = TrainSettings(
            objective=objective, eps=0.2, attack_step=0.2, train_surrogate=surrogate, redraw=redraw
        )
        OBJECTIVES[objective].loss(model, images, labels, settings).backward()
        moved[surrogate] = max(float((points - images).abs().max()) for points in seen)
        assert float(model.conv1.weight.grad.abs().sum()) > 0  # type: ignore[union-attr, operator]
        model.zero_grad()
    assert moved[""] == pytest.approx(0.2, abs=1e-6) or objective == "sr"
    assert moved["rectangle100000000"] <= 0.02 + 0.01 + 1e-6


@pytest.mark.parametrize(("name", "words"), [("relu", "is not one of assg, arctan"), ("assg-search", "whole attacks")])
def test_what_is_no_surrogate_of_training_is_refused(name: str, words: str) -> None:
    with pytest.raises(RandhetError, match=words):
        TrainSettings(train_surrogate=name)


class Recorder(nn.Module):
    """A linear model that notes one random number per call, as a random neuron would draw its seed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drawn = nn.Linear(3, 2), list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(int(torch.randint(2**62, ())))
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("redraw", "seeds"), [(True, 2), (False, 1)])
def test_black_box_training_draws_anew_between_example_and_training_pass(redraw: bool, seeds: int) -> None:
    model, settings = Recorder(), TrainSettings(redraw=redraw)
    at.loss(model, torch.rand(4, 1, 1, 3), torch.tensor([0, 1, 0, 1]), settings)
    assert len(model.drawn) == 2 and len(set(model.drawn)) == seeds


def test_the_passes_of_a_slope_share_their_draws() -> None:
    model: Any = Recorder()
    sr.loss(model, torch.rand(4, 1, 1, 3), torch.tensor([0, 1, 0, 1]), TrainSettings())
    assert len(model.drawn) == 4 and len(set(model.drawn[1:])) == 1
