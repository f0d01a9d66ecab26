"""What a training step minimises: a table of names, each a function (model, images, labels, settings) -> loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from train.attacks.rfgsm import rfgsm


class Strength(Protocol):
    """The part of the training settings that an objective reads: radius and step in pixel units of 0..1."""

    @property
    def eps(self) -> float: ...

    @property
    def step(self) -> float: ...


Objective = Callable[[nn.Module, Tensor, Tensor, Strength], Tensor]


def plain(model: nn.Module, images: Tensor, labels: Tensor, strength: Strength) -> Tensor:
    """Cross entropy on clean images."""
    return F.cross_entropy(model(images), labels)


def adversarial(model: nn.Module, images: Tensor, labels: Tensor, strength: Strength) -> Tensor:
    """AT: cross entropy on RFGSM examples, made with batch norm as in evaluation; taus are drawn anew for the step."""
    model.eval()
    examples = rfgsm(model, images, labels, strength.eps, strength.step)
    model.train()
    return F.cross_entropy(model(examples), labels)


OBJECTIVES: dict[str, Objective] = {"plain": plain, "at": adversarial}
