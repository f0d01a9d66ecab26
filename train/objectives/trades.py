"""TRADES: cross entropy on clean images, and what an adversarial example changes in the answer (Zhang et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.attacks.losses import Loss
from randhet.train.attacks.rfgsm import rfgsm
from randhet.train.objectives.base import Held, Objective, Recipe, bare, made, new_seed
from randhet.train.world import world


def divergence(reference: Tensor) -> Loss:
    """KL(p || q) of each image, p = softmax of the reference logits (N, K), q of the logits given; without labels."""
    p = reference.float().softmax(1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.kl_div(logits.float().log_softmax(1), p, reduction="none").sum(1)

    return loss


def loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """CE(f(x), y) + weight * KL(p(x) || p(x')), x' one step of size attack_step up that KL from a random start.

    The start is uniform in +-start*eps; at start = 0 the gradient is 0 there, and x' = x. All passes share their decay
    factors unless redraw: then those of the training pass are drawn after x' was made.
    """
    seed = new_seed()
    inner = bare(model)
    held = Held(inner.eval(), seed)
    with torch.no_grad():
        reference = held(images)
    noise = world().uniform_like(images, recipe.start * recipe.eps)
    with made(inner, recipe):
        points = rfgsm(held, images, labels, recipe.eps, recipe.attack_step, noise=noise, loss=divergence(reference))
    inner.train()
    trained = Held(model, new_seed() if recipe.redraw else seed)
    clean, attacked = trained(images), trained(points)
    away = F.kl_div(attacked.float().log_softmax(1), clean.float().softmax(1), reduction="batchmean")
    return F.cross_entropy(clean, labels) + recipe.trades_weight * away


TRADES = Objective(loss, weight_decay=1e-4)
