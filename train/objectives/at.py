"""AT: cross entropy on RFGSM examples (Wang et al. 2025; Tramer et al. 2018 for the attack)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.attacks.rfgsm import rfgsm
from randhet.train.objectives.base import Held, Objective, Recipe, bare, made, new_seed
from randhet.train.world import world


def examples(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """RFGSM examples against the model as it is in evaluation; the model is left in training mode."""
    inner = bare(model).eval()
    noise = world().uniform_like(images, recipe.start * recipe.eps)
    with made(inner, recipe):
        adversarial = rfgsm(inner, images, labels, recipe.eps, recipe.attack_step, noise=noise)
    inner.train()
    return adversarial


def attacked(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> tuple[nn.Module, Tensor]:
    """The model for the training pass, and the examples made against it.

    redraw (black-box adversarial training): that pass draws its taus anew. Otherwise it has those of the attack.
    """
    if recipe.redraw:
        return model, examples(model, images, labels, recipe)
    seed = new_seed()
    inner = bare(model)
    noise = world().uniform_like(images, recipe.start * recipe.eps)
    with made(inner, recipe):
        adversarial = rfgsm(Held(inner.eval(), seed), images, labels, recipe.eps, recipe.attack_step, noise=noise)
    inner.train()
    return Held(model, seed), adversarial


def loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """CE(f(x'), y) with x' = RFGSM(x)."""
    model, points = attacked(model, images, labels, recipe)
    return F.cross_entropy(model(points), labels)


AT = Objective(loss, weight_decay=1e-4)
