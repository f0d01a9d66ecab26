"""Quantisation-aware fine-tuning: passes see the weights of the exported network, the optimiser moves the float ones.

    v_q = s * clip(round(w / s), -M, M) / fold, w = fold * v the folded weight;  dL/dv := dL/dv_q  (straight-through)

fold is the batch norm's gain and, in the stem, 1 / (255 std): what export multiplies a weight by. The estimator is
Bengio et al.'s (2013); float weights beside the rounded ones are BinaryConnect's (Courbariaux et al., 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from randhet.train import scales as policies
from randhet.train.layers import Normalise
from randhet.train.scales import Scales, candidates, chosen
from randhet.train.settings import TrainSettings

PIXEL_MAX = 255


class Rounded(Protocol):
    """A layer whose weights are rounded."""

    @property
    def layer(self) -> nn.Conv1d | nn.Conv2d | nn.Linear:
        """The layer itself; its first axis of weights are its channels."""

    @property
    def fold(self) -> Tensor:
        """What export multiplies each weight by, float64, broadcastable to the weights."""

    def kind(self, scales: Scales) -> Scales:
        """Return the kind of its scales where `scales` is that of the others."""


def folded(rounded: Rounded) -> Tensor:
    """Return the weights that export rounds, float64."""
    return rounded.layer.weight.detach().double() * rounded.fold


@dataclass(frozen=True, eq=False)
class Weighted:
    """A layer with weights, the batch norm that follows it and the normalisation it reads, where there are any."""

    layer: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d | None = None
    image: Normalise | None = None

    @property
    def fold(self) -> Tensor:
        """What export multiplies each weight by, float64, broadcastable to the weights."""
        weight = self.layer.weight
        gain = torch.ones(len(weight), dtype=torch.float64, device=weight.device)
        if self.norm is not None:
            assert self.norm.running_var is not None
            gain = self.norm.weight.double() * torch.rsqrt(self.norm.running_var.double() + self.norm.eps)
        width = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=weight.device)
        if self.image is not None:
            width = self.image.std.double().unsqueeze(0) * PIXEL_MAX
        return (gain.view(-1, 1, 1, 1) / width).reshape(len(weight), -1, *[1] * (weight.dim() - 2))

    def kind(self, scales: Scales) -> Scales:
        """The scales of this layer: a classifier's channels are compared with each other and share one."""
        return "layer" if isinstance(self.layer, nn.Linear) and self.norm is None else scales


def weighted(model: nn.Module) -> list[Weighted]:
    """Every convolution and linear layer of a model whose children stand in the order in which they run."""
    layers = []
    for parent in model.modules():
        children = [None, *parent.children(), None]
        for before, layer, after in zip(children, children[1:], children[2:]):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                norm = after if isinstance(after, nn.BatchNorm2d) else None
                layers.append(Weighted(layer, norm, before if isinstance(before, Normalise) else None))
    return layers


@dataclass(frozen=True, eq=False)
class Rounding:
    """How a model's weights are rounded: bits, kind of scales, and how far each channel of each layer is clipped.

    The clipping is sought once per epoch; the scales follow the weights from step to step.
    """

    layers: tuple[Rounded, ...]
    bits: int
    scales: Scales
    clipping: tuple[Tensor, ...]

    @classmethod
    def of(cls, model: nn.Module, bits: int, scales: Scales) -> Rounding:
        """With the clipping that changes the present weights of a model least."""
        return cls.nearest(weighted(model), bits, scales)

    @classmethod
    @torch.no_grad()
    def nearest(cls, layers: Sequence[Rounded], bits: int, scales: Scales) -> Rounding:
        """The same for layers."""
        clipping = [policies.nearest(folded(rounded), bits, rounded.kind(scales)) for rounded in layers]
        return cls(tuple(layers), bits, scales, tuple(clipping))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the weights of its exported network; afterwards its own, with gradients made inside.

        An exporter that takes s = max|w| / M finds the same integers: the largest weight of a channel is M, or its
        scale is the floor of its layer.
        """
        own = [rounded.layer.weight.detach().clone() for rounded in self.layers]
        try:
            for rounded, choice in zip(self.layers, self.clipping):
                rounded.layer.weight.data.copy_(self.meant(rounded, choice))
            yield
        finally:
            for rounded, weight in zip(self.layers, own):
                rounded.layer.weight.data.copy_(weight)

    @torch.no_grad()
    def meant(self, rounded: Rounded, choice: Tensor) -> Tensor:
        """The weights with the float meaning of their integers, float64, in the model's own units."""
        weight, fold, kind = folded(rounded), rounded.fold, rounded.kind(self.scales)
        scale = chosen(candidates(weight, self.bits, kind), choice, kind)
        whole = policies.rounded(weight, scale, self.bits) * scale.reshape(-1, *[1] * (weight.dim() - 1))
        # a channel that batch norm silences has no integers to meet
        return torch.where(fold == 0, rounded.layer.weight.double(), whole / fold)


FINE_TUNING = {
    "epochs": 3,
    "plain_epochs": 0,
    "short_epochs": 0,
    "warmup": 0.0,
    "ema": 0.0,
    "qat_bits": 0,
    "qat_scales": "channel",
}
"""What a run that starts from a checkpoint does not take over from the run that made it, with its own defaults."""
SLOWER = 10
"""Fine-tuning begins at the first run's learning rate divided by this."""


def fine_tuning(record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run from a checkpoint: those that made it, by its record, but for length and learning rate."""
    known = {field.name for field in fields(TrainSettings)}
    before = {name: value for name, value in record.items() if name in known}
    return before | FINE_TUNING | {"lr": record.get("lr", TrainSettings.lr) / SLOWER}
