"""SR: AT with a penalty on the slope of the margin, by finite differences (Liu et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.objectives.at import attacked
from randhet.train.objectives.base import Held, Objective, Recipe, bare, new_seed


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Probability of the true class minus that of the best other, (N,), in -1..1."""
    p = logits.float().softmax(1)
    true = p.gather(1, labels[:, None])[:, 0]
    return true - p.scatter(1, labels[:, None], -1.0).amax(1)


def direction(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Sign of the margin's gradient by the image."""
    point = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(margin(model(point), labels).sum(), point)
    return gradient.sign()


def loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """CE(f(x'), y) + weight * mean(((F(x' + h*d) - F(x')) / h)^2), F the margin, d its gradient's sign, h = distance.

    All three passes of the penalty share their taus: with fresh ones it would measure the noise of the draws over h.
    """
    model, points = attacked(model, images, labels, recipe)
    held = model if isinstance(model, Held) else Held(model, new_seed())
    inner = Held(bare(held.model), held.seed)
    towards = direction(inner.eval(), points, labels)
    inner.train()
    logits = held(points)
    moved = held(points + recipe.sr_distance * towards)
    slope = (margin(moved, labels) - margin(logits, labels)) / recipe.sr_distance
    return F.cross_entropy(logits, labels) + recipe.sr_weight * slope.square().mean()


SR = Objective(loss, weight_decay=0.0)
