"""What the objectives share: their form, the settings they read, and a model with its taus held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from randhet.train.attacks.choice import chosen
from randhet.train.attacks.problem import new_seed, same_draws
from randhet.train.attacks.spiking import replaced

__all__ = ["Held", "Objective", "Recipe", "bare", "made", "new_seed", "nothing"]


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

    @property
    def trades_weight(self) -> float: ...

    @property
    def train_surrogate(self) -> str: ...


def nothing(model: nn.Module, recipe: Recipe) -> None:
    """After a step: leave the weights as they are."""


@dataclass(frozen=True)
class Objective:
    """loss(model, images, labels, recipe), the paper's weight decay with it, and what follows every optimiser step."""

    loss: Callable[[nn.Module, Tensor, Tensor, Recipe], Tensor]
    weight_decay: float = 1e-4
    after_step: Callable[[nn.Module, Recipe], None] = nothing


@contextmanager
def made(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Within the block adversarial examples are made, under the surrogate that the recipe chooses for them."""
    if not recipe.train_surrogate:
        yield
        return
    rule = chosen(recipe.train_surrogate).rule()
    with replaced(model, rule):
        rule.begin()
        yield


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
