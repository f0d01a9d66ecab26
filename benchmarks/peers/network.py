"""SEW-ResNet in the layers of any torch library; names as in `train.models`, so that its weights load by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.checkpoint import Checkpoint
from randhet.train.models import ModelSettings


@dataclass(frozen=True)
class Kit:
    """A library's makers of layers; convolution and norm take torch's arguments."""

    conv: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    neuron: Callable[[], nn.Module]


class Block(nn.Module):
    """conv-norm-neuron twice; output = shortcut + branch."""

    def __init__(self, kit: Kit, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = kit.conv(width_in, width, 3, stride, 1, bias=False), kit.norm(width)
        self.node1 = kit.neuron()
        self.conv2, self.bn2 = kit.conv(width, width, 3, 1, 1, bias=False), kit.norm(width)
        self.node2 = kit.neuron()
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(kit.conv(width_in, width, 1, stride, bias=False), kit.norm(width))
            self.downsample_sn = kit.neuron()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.node2(self.bn2(self.conv2(self.node1(self.bn1(self.conv1(x))))))
        shortcut = x if self.downsample is None else self.downsample_sn(self.downsample(x))
        return shortcut + branch


class PeerNetwork(nn.Module):
    """Stem, stages, pool and classifier; how T steps are made of an image is the subclass's."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ModelSettings, mean: tuple[float, ...], std: tuple[float, ...], kit: Kit) -> None:
        super().__init__()
        self.steps = settings.steps
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1), persistent=False)
        width = settings.widths[0]
        # the stem runs once per image and therefore in torch's own layers, whatever a library does about time
        self.conv1 = nn.Conv2d(settings.in_channels, width, 3, settings.stem_stride, 1, bias=False)
        self.bn1, self.node1 = nn.BatchNorm2d(width), kit.neuron()
        stages = []
        for i, (wide, count) in enumerate(zip(settings.widths, settings.blocks)):
            first = Block(kit, width, wide, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(Block(kit, wide, wide, 1) for _ in range(count - 1))))
            self.add_module(f"layer{i + 1}", stages[-1])
            width = wide
        self.stages = len(stages)
        self.fc1 = nn.Linear(width, settings.classes)

    def stem(self, images: Tensor) -> Tensor:
        """Currents of the stem's neurons, the same at every step."""
        return self.bn1(self.conv1((images - self.mean) / self.std))

    def body(self, current: Tensor) -> Tensor:
        """Everything behind the stem's batch norm."""
        x = self.node1(current)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc1(x.mean((-2, -1)))


NEURON_NAMES = ("node1", "node2", "downsample_sn")


def loaded(network: PeerNetwork, checkpoint: Checkpoint) -> Any:
    """The network with the checkpoint's weights, in evaluation mode; every weight must find its place."""
    missing, unexpected = network.load_state_dict(dict(checkpoint.state), strict=False)
    # neurons of some libraries keep constants of their own in the state
    lost = [name for name in missing if not set(name.split(".")) & set(NEURON_NAMES)] + list(unexpected)
    if lost:
        raise RandhetError(f"weights without a place in the peer's network: {', '.join(lost)}")
    return network.eval()
