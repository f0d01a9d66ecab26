"""Cross entropy on clean images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.objectives.base import Objective, Recipe


def loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """CE(f(x), y)."""
    return F.cross_entropy(model(images), labels)


PLAIN = Objective(loss)
