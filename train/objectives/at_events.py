"""AT on recordings of events: cross entropy on examples in which few values change, each by one event.

The examples are one step of the sparse attack `randhet.train.attacks.events.sda`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.attacks.events import EVENT, largest
from randhet.train.objectives.base import Held, Objective, Recipe, bare, made, new_seed


def examples(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """x' = x + EVENT * sign(g) where |g|, g = grad CE(f(x), y), is among the largest share of a recording's values.

    A count stays 0..255. The model is asked in evaluation mode and left in training mode.
    """
    inner = bare(model).eval()
    point = images.clone().requires_grad_(True)
    with made(inner, recipe):
        (gradient,) = torch.autograd.grad(F.cross_entropy(inner(point), labels), point)
    inner.train()
    moved = (images + EVENT * gradient.sign()).clamp(0, 1)
    count = max(1, round(recipe.share * images[0].numel()))
    return torch.where(largest(gradient.abs() * (moved != images), count), moved, images)


def loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """CE(f(x'), y). redraw: that pass draws its decay factors anew; otherwise it has those of the example."""
    if recipe.redraw:
        return F.cross_entropy(model(examples(model, images, labels, recipe)), labels)
    seed = new_seed()
    points = examples(Held(bare(model), seed), images, labels, recipe)
    return F.cross_entropy(Held(model, seed)(points), labels)


AT_EVENTS = Objective(loss, weight_decay=1e-4)
