"""Our layers for those of torch, which also work over time."""

from __future__ import annotations

import copy

import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.train import layers
from randhet.train.neurons import Neuron

LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: layers.Conv1d,
    nn.Conv2d: layers.Conv2d,
    nn.ConvTranspose2d: layers.ConvTranspose2d,
    nn.Linear: layers.Linear,
    nn.BatchNorm1d: layers.BatchNorm1d,
    nn.BatchNorm2d: layers.BatchNorm2d,
    nn.MaxPool1d: layers.MaxPool1d,
    nn.MaxPool2d: layers.MaxPool2d,
    nn.AvgPool1d: layers.AvgPool1d,
    nn.AvgPool2d: layers.AvgPool2d,
}
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""What changes nothing in evaluation mode."""


class Votes(nn.Module):
    """The mean of each `count` outputs in a row, which is a linear layer once it is known how many there are."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def sized(self, features: int) -> nn.Module:
        """The linear layer of so many outputs; what is left over behind the last whole group has no vote."""
        linear = layers.Linear(features, features // self.count, bias=False)
        with torch.no_grad():
            groups = torch.eye(len(linear.weight)).repeat_interleave(self.count, 1) / self.count
            linear.weight.zero_()[:, : groups.shape[1]] = groups
        return linear.double()


def counterpart(module: nn.Module) -> nn.Module | None:
    """Our module of one of torch's, an Identity for one that changes nothing; None for a container, which is entered.

    ExportError, behind the module's name, for a layer of torch that has no counterpart.
    """
    kind = type(module)
    if kind.__module__.startswith("randhet.train"):
        return copy.deepcopy(module) if isinstance(module, Neuron) or kind.__module__.endswith("layers") else None
    for torchs in kind.__mro__:
        if torchs in LAYERS:
            return as_layer(module, torchs)
    if isinstance(module, NOTHING):
        return nn.Identity()
    if isinstance(module, nn.Flatten):
        return flat(module)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return mean(module)
    if kind.__module__.startswith("torch.nn") and not any(module.children()) and not _holds(module):
        raise ExportError(f", which has no counterpart: supported are {', '.join(one.__name__ for one in LAYERS)}")
    return None


def _holds(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict))


def as_layer(module: nn.Module, torchs: type[nn.Module], forwards: tuple[type[nn.Module], ...] = ()) -> nn.Module:
    """A copy of a module as our layer of the same kind, which takes (T, N, ...) as well.

    forwards: kinds whose own forward is known to compute the same. ExportError where another kind has its own.
    """
    owner = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    if owner not in (*torchs.__mro__, *forwards):
        raise ExportError(f", which has a forward of its own: use {torchs.__name__} itself")
    ours = copy.deepcopy(module)
    ours.__class__ = LAYERS[torchs]
    return ours


def flat(module: nn.Flatten) -> nn.Module:
    """Our Flatten of torch's, which must keep the batch alone."""
    if module.start_dim not in (1, -3) or module.end_dim != -1:
        raise ExportError(f", which flattens axes {module.start_dim} to {module.end_dim}: use nn.Flatten()")
    return layers.Flatten()


def mean(module: nn.AdaptiveAvgPool2d) -> nn.Module:
    """The mean over the whole image."""
    if module.output_size not in (1, (1, 1)):
        raise ExportError(f", which pools to {module.output_size}: only to 1, the mean over the whole image")
    return layers.GlobalAveragePool()
