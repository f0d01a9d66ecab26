"""What the objectives share: their form, the settings they read, and a model with its taus held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from randhet.train.attacks.problem import new_seed, same_draws

__all__ = ["Held", "Objective", "Recipe", "bare", "new_seed", "nothing"]


class Recipe(Protocol):
    """What objectives read of the training settings; eps, attack_step and sr_distance in pixel units of 0..1."""

    @property
    def eps(self) -> float: ...

    @property
    def attack_step(self) -> float: ...

    @property
    def start(self) -> float: ...

    @property
    def redraw(self) -> bool: ...

    @property
    def share(self) -> float: ...

    @property
    def rat_beta(self) -> float: ...

    @property
    def sr_weight(self) -> float: ...

    @property
    def sr_distance(self) -> float: ...


def nothing(model: nn.Module, recipe: Recipe) -> None:
    """After a step: leave the weights as they are."""


@dataclass(frozen=True)
class Objective:
    """loss(model, images, labels, recipe), the paper's weight decay with it, and what follows every optimiser step."""

    loss: Callable[[nn.Module, Tensor, Tensor, Recipe], Tensor]
    weight_decay: float = 1e-4
    after_step: Callable[[nn.Module, Recipe], None] = nothing


def bare(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper of distributed training: for gradients by images, not by weights."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


class Held(nn.Module):
    """The model with the same taus at every call: its neurons take their seeds from a generator that starts anew."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        super().__init__()
        self.model, self.seed = model, seed

    def forward(self, images: Tensor) -> Tensor:
        with same_draws(self.seed):
            logits: Tensor = self.model(images)
        return logits
