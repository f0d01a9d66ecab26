"""The ResNets of the baselines, and the one way from model settings to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from randhet.train.baselines.ctrw import RandomWeight
from randhet.train.baselines.rna import RandomNorm
from randhet.train.baselines.rpf import RandomFilters
from randhet.train.layers import BatchNorm2d
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.neurons import neurons


class ResNet(SEWResNet):
    """A SEW-ResNet with a ReLU in place of every neuron, at one step: the same layers, widths and weights.

    Images (N, C, Y, X) in 0..1 to logits (N, classes). settings.baseline: what is random in it.
    """

    def __init__(self, settings: ModelSettings, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(settings, mean, std)
        for name in neurons(self):
            put(self, name, nn.ReLU())
        RANDOM[settings.baseline](self)

    def forward(self, images: Tensor) -> Tensor:
        # an image is one step long, whatever the training loop sets for networks of several
        self.encode.steps = 1
        return super().forward(images)


def _ctrw(model: ResNet) -> None:
    settings = model.settings
    shape = (settings.in_channels, *settings.image_size)
    model.conv1 = RandomWeight(model.conv1, shape, settings.sigma, settings.sigma_bounds)  # type: ignore[assignment]


def _rpf(model: ResNet) -> None:
    model.conv1 = RandomFilters(model.conv1)  # type: ignore[assignment]


def _rna(model: ResNet) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, BatchNorm2d):
            put(model, name, RandomNorm(module.num_features))


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in place of the one of this name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


RANDOM: dict[str, Callable[[ResNet], None]] = {
    "relu": lambda model: None,
    "ctrw": _ctrw,
    "rpf": _rpf,
    "rna": _rna,
}
"""What makes each baseline of the deterministic ResNet."""


def network(settings: ModelSettings, mean: Sequence[float], std: Sequence[float]) -> SEWResNet:
    """Make the model of these settings with random weights: a SEW-ResNet, or the ResNet of a baseline."""
    return SEWResNet(settings, mean, std) if settings.baseline == "none" else ResNet(settings, mean, std)
