"""RFGSM: a random start, then one signed gradient step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.train.attacks.losses import Loss, cross_entropy


def rfgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float = 4 / 255,
    step: float = 4 / 255,
    start: float = 0.1,
    noise: Tensor | None = None,
    loss: Loss = cross_entropy,
) -> Tensor:
    """x' = clip(x0 + step*sign(grad loss(f(x0), y))), x0 = x + U(-start*eps, start*eps); |x' - x| <= eps, x' in 0..1.

    images (N, C, Y, X) in 0..1, L-inf distance. start = 0.1 is the released code of Wang et al. 2025; noise is the
    random start where the caller has drawn it.
    """
    if noise is None:
        noise = torch.empty_like(images).uniform_(-start * eps, start * eps)
    point = (images + noise).clamp_(0, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(model(point), labels).mean(), point)
    moved = point.detach() + step * gradient.sign()
    return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp_(0, 1)
