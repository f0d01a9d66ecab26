"""Attacks on networks whose answers are chance with known probabilities: what luck gives, and what it must not give."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.attacks.apgd import apgd
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.pgd import pgd
from randhet.train.attacks.problem import Problem, Shortlist, clearly, strongest
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings

COUNT = 600


class Noisy(nn.Module):
    """Class 1 wins class 0 by <w, x> + b + N(0, 1): misclassified with probability Phi(<w, x> + b)."""

    def __init__(self, weight: float, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def margin(self, x: Tensor) -> Tensor:
        return self.weight * x.flatten(1).sum(1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        margin = self.margin(x) + torch.randn(len(x))
        return torch.stack([torch.zeros_like(margin), margin], 1)

    def accuracy(self, x: Tensor) -> float:
        """The truth: 1 - p, mean over the images."""
        return float(np.mean(norm.sf(self.margin(x.detach()).double().numpy())))


def problem(clean: float, attacked: float, redraws: int = 40) -> Problem:
    """Images of 4 pixels at 1/2, misclassified with probability `clean`, at most with `attacked` at eps = 0.1."""
    low, high = norm.ppf(clean), norm.ppf(attacked)
    weight = (high - low) / 0.4
    model = Noisy(weight, low - 2 * weight)
    labels = torch.zeros(COUNT, dtype=torch.int64)
    return Problem(model, torch.full((COUNT, 1, 2, 2), 0.5), labels, 0.1, redraws=redraws)


def test_stock_apgd_spares_what_was_misclassified_once_by_luck() -> None:
    """A clean image that happens to be misclassified once, here 30 % of them, is returned as it is, p = 0.3.

    The stock accuracy is then at least 0.3*0.7 = 0.21 where the attack could have left 0.1.
    """
    torch.manual_seed(0)
    given = problem(0.3, 0.9)
    assert isinstance(given.model, Noisy)
    found = apgd(given, 10)
    assert found.aware is not None
    spared = (found.stock == given.images).flatten(1).all(1)
    assert abs(float(spared.float().mean()) - 0.3) < 4 * sqrt(0.3 * 0.7 / COUNT)
    assert given.model.accuracy(found.stock) > 0.21
    assert given.model.accuracy(found.aware) < 0.12


def test_the_released_apgd_does_the_same() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    torch.manual_seed(0)
    given = problem(0.3, 0.9)
    assert isinstance(given.model, Noisy)
    ours = given.model.accuracy(apgd(given, 10).stock)
    theirs = given.model.accuracy(torchattacks.APGD(given.model, eps=0.1, steps=10)(given.images, given.labels))
    assert theirs > 0.21 and abs(ours - theirs) < 0.04


@pytest.mark.parametrize("attacked", [0.1, 0.5, 0.9])
def test_noise_aware_is_never_the_weaker_one(attacked: float) -> None:
    """In truth, not as sampled: by the probabilities of the examples that were chosen."""
    torch.manual_seed(1)
    given = problem(0.05, attacked)
    assert isinstance(given.model, Noisy)
    for attack in (apgd, pgd):
        found = attack(given, 8)
        assert found.aware is not None
        assert given.model.accuracy(found.aware) <= given.model.accuracy(found.stock) + 1e-6


def test_redrawn_margins_have_the_share_of_misclassified_draws() -> None:
    torch.manual_seed(2)
    given = problem(0.2, 0.8, redraws=50)
    share = (given.redrawn(given.images) > 0).double().mean(0)
    assert abs(float(share.mean()) - 0.2) < 4 * sqrt(0.2 * 0.8 / (50 * COUNT))
    assert abs(float(share.std()) - sqrt(0.2 * 0.8 / 50)) < 0.01
    twice = problem(0.7, 0.8, redraws=2)
    assert abs(float(twice.certain(twice.images).double().mean()) - 0.49) < 4 * sqrt(0.49 * 0.51 / COUNT)


class Tilted(nn.Module):
    """Class 1 wins by <a + r, x>, r ~ N(0, 1) per pixel, image and call: a draw favours some points over others."""

    def __init__(self, a: tuple[float, ...]) -> None:
        super().__init__()
        self.a = torch.tensor(a)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        margin = ((self.a + torch.randn_like(flat)) * flat).sum(1)
        return torch.stack([torch.zeros_like(margin), margin], 1)


def chosen(*a: float) -> Tensor:
    """(N,): which of candidates e_0, e_1, ..., misclassified with probability Phi(a_k), ten redraws choose."""
    points = torch.eye(len(a)).view(len(a), 1, 1, 1, -1).expand(-1, COUNT, -1, -1, -1)
    given = Problem(Tilted(a), points[0], torch.zeros(COUNT, dtype=torch.int64), 0.1, redraws=10)
    return strongest(given, *points).flatten(1).argmax(1)


def test_luck_in_ten_draws_does_not_replace_the_stock_example() -> None:
    """Candidates that are no better replace it for one image in twenty at most, however many they are."""
    torch.manual_seed(8)
    for rivals in (1, 3, 8):
        replaced = float(np.mean([(chosen(*[0.5] * (1 + rivals)) > 0).double().mean() for _ in range(5)]))
        assert replaced <= 0.05 + 3 * sqrt(0.05 * 0.95 / (5 * COUNT)), rivals
        assert replaced > 0.02, rivals


def test_the_level_counts_draws_and_candidates() -> None:
    assert clearly(10, 1) == pytest.approx(1.8331, abs=1e-4)  # t(0.95, 9), from tables; the normal's is 1.6449
    assert clearly(10, 5) == pytest.approx(2.8214, abs=1e-4)  # t(0.99, 9)
    assert clearly(10_000, 1) == pytest.approx(1.645, abs=1e-3)


def test_a_clear_win_replaces_the_stock_example() -> None:
    """A lead of 2 is 2 / sqrt(2 / 10) = 4.5 standard errors; of the two that lead, the better one."""
    torch.manual_seed(9)
    found = chosen(0.5, 2.5, 0.45, 5.0)
    assert float((found == 3).double().mean()) > 0.97
    assert float((chosen(0.5, 2.5, 0.45) == 1).double().mean()) > 0.97


def test_the_strongest_candidate_is_chosen_image_by_image() -> None:
    torch.manual_seed(3)
    given = problem(0.02, 0.98)
    odd = (torch.arange(COUNT) % 2).view(-1, 1, 1, 1)
    up, down = given.images + 0.1, given.images - 0.1
    found = strongest(given, torch.where(odd == 1, up, down), torch.where(odd == 1, down, up))
    assert (found == up).float().mean() > 0.99


def test_a_shortlist_keeps_the_highest_margins() -> None:
    torch.manual_seed(4)
    margins = torch.randn(9, 5)
    kept = Shortlist(3)
    for i, row in enumerate(margins):
        kept.offer(torch.full((5, 1, 1, 1), float(i)), row)
    found = torch.stack(kept.points)[:, :, 0, 0, 0].sort(0).values
    assert torch.equal(found, margins.topk(3, dim=0).indices.sort(0).values.float())


class Recorded(nn.Module):
    """Logits (r*<w, x>, 0), r drawn at every call and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.tensor([1.0, -2.0, 0.5])
        self.drawn: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.drawn.append(float(torch.randn(())))
        a = self.drawn[-1] * (x.flatten(1) @ self.w)
        return torch.stack([a, torch.zeros_like(a)], 1)


def test_an_eot_gradient_is_the_mean_over_its_draws() -> None:
    """d CE / dx = -(1 - sigmoid(r*a)) * r * w for label 0, by hand."""
    torch.manual_seed(5)
    model, images = Recorded(), torch.rand(4, 3, 1, 1)
    answer = Problem(model, images, torch.zeros(4, dtype=torch.int64), 0.1, draws=7).ask(images, cross_entropy)
    assert len(set(model.drawn)) == 7
    a = images.flatten(1).double().numpy() @ model.w.double().numpy()
    r = np.array(model.drawn)[:, None]
    slope = np.mean(-r / (1 + np.exp(r * a)), axis=0)
    np.testing.assert_allclose(
        answer.gradient.flatten(1), slope[:, None] * model.w.double().numpy(), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(answer.loss, np.mean(np.log1p(np.exp(-r * a)), axis=0), rtol=1e-5)
    np.testing.assert_allclose(answer.margin, np.mean(-r * a, axis=0), rtol=1e-4, atol=1e-6)


def test_eot_draws_the_taus_of_a_spiking_network_anew() -> None:
    model = build(random_init(ModelSettings(1, 4, (8, 8), (8,), (1,), steps=2)))
    images, labels = torch.rand(3, 1, 8, 8), torch.arange(3)
    torch.manual_seed(6)
    found = Problem(model, images, labels, 0.1, draws=3).ask(images, cross_entropy).gradient
    torch.manual_seed(6)
    points = images.clone().requires_grad_(True)
    one = [torch.autograd.grad(F.cross_entropy(model(points), labels, reduction="sum"), points)[0] for _ in range(3)]
    assert not torch.equal(one[0], one[1])
    torch.testing.assert_close(found, sum(one) / 3)
