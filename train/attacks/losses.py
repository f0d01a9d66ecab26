"""What attacks raise: functions (logits (N, K), labels (N,)) -> (N,), larger for a better adversarial example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(z)_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """max_{j != y} z_j - z_y: above 0 where misclassified."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(1) - _of(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, (max_{j != y} z_j - z_y) / (z_(1) - z_(3)), at least 3 classes. Croce & Hein 2020."""
    ranked = logits.sort(1, descending=True).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + TINY)


def targeted_dlr(targets: Tensor) -> Loss:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4))/2) for targets (N,), at least 4 classes. Croce & Hein 2020."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        ranked = logits.sort(1, descending=True).values
        spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
        return (_of(logits, targets) - _of(logits, labels)) / (spread + TINY)

    return loss


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]
