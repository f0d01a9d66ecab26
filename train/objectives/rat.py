"""RAT: AT without weight decay, every weight pulled towards orthogonal rows after every step (Ding et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.train.objectives import at
from randhet.train.objectives.base import Objective, Recipe


def orthogonalised(weight: Tensor, beta: float) -> Tensor:
    """(1 + beta)*W - beta*W W^T W for W (out, everything else)."""
    rows = weight.flatten(1)
    return ((1 + beta) * rows - beta * (rows @ rows.T) @ rows).reshape(weight.shape)


@torch.no_grad()
def pull(model: nn.Module, recipe: Recipe) -> None:
    """Apply it to every convolution and linear layer that is trained."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.requires_grad:
            module.weight.copy_(orthogonalised(module.weight, recipe.rat_beta))


RAT = Objective(at.loss, weight_decay=0.0, after_step=pull)
