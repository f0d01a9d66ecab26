"""Spiking SEW-ResNets. Attribute names follow the RandHet paper's released script, so that its weights load by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fixed_point.errors import RandhetError
from train.layers import BatchNorm2d, Conv2d, Encode, Flatten, GlobalAveragePool, Linear, MeanOverTime, Normalise
from train.neurons import LIF, HetLIF, Neuron, RandomTauLIF

NeuronKind = Literal["randhet", "randhet-forward", "het", "vanilla"]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelSettings:
    """A SEW-ResNet: one stage per entry of `widths`, each after the first halves the image. image_size is (y, x)."""

    in_channels: int = 3
    classes: int = 10
    image_size: tuple[int, int] = (32, 32)
    widths: tuple[int, ...] = (128, 256, 512)
    blocks: tuple[int, ...] = (3, 3, 2)
    steps: int = 8
    stem_stride: int = 1
    neuron: NeuronKind = "randhet"
    sigma: float = 1.0
    threshold: float = 0.5
    connect: Literal["add"] = "add"

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks) or len(self.widths) > 3:
            raise RandhetError(
                f"model has {len(self.widths)} stage widths and {len(self.blocks)} block counts, "
                "it needs as many of one as of the other, 1 to 3"
            )
        whole = (self.in_channels, self.classes, self.steps, self.stem_stride, *self.widths, *self.blocks)
        if min(*whole, *self.image_size) < 1:
            raise RandhetError("model settings must be positive whole numbers")
        if self.neuron not in NEURONS:
            raise RandhetError(f"neuron {self.neuron!r} is not one of {', '.join(NEURONS)}")
        if self.connect != "add":
            raise RandhetError(f"connect function {self.connect!r} is not available, only 'add' is")


NeuronMaker = Callable[[ModelSettings, Shape], Neuron]
NEURONS: dict[str, NeuronMaker] = {
    "randhet": lambda s, shape: RandomTauLIF(s.sigma, s.threshold, "step"),
    "randhet-forward": lambda s, shape: RandomTauLIF(s.sigma, s.threshold, "forward"),
    "het": lambda s, shape: HetLIF(shape, s.sigma, s.threshold),
    "vanilla": lambda s, shape: LIF(0.5, s.threshold),
}

NAMED: dict[str, ModelSettings] = {
    "sew-resnet19": ModelSettings(),
    "sew-digits": ModelSettings(1, 10, (8, 8), (32, 64), (1, 1), steps=4),
    "sew-small": ModelSettings(3, 10, (32, 32), (16, 32, 64), (1, 1, 1), steps=4),
}


def halved(size: int, stride: int) -> int:
    """Length after a 3x3 convolution with padding 1, or a 1x1 one without."""
    return (size - 1) // stride + 1


class BasicBlock(nn.Module):
    """conv3x3-BN-neuron-conv3x3-BN-neuron; output = shortcut + branch, small non-negative integers (SEW, ADD)."""

    def __init__(self, width_in: int, shape: Shape, stride: int, neuron: Callable[[Shape], Neuron]) -> None:
        super().__init__()
        width = shape[0]
        self.conv1 = Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.node1 = neuron(shape)
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.node2 = neuron(shape)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(Conv2d(width_in, width, 1, stride, bias=False), BatchNorm2d(width))
            self.downsample_sn = neuron(shape)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.node1(self.bn1(self.conv1(x)))
        branch = self.node2(self.bn2(self.conv2(branch)))
        shortcut = x if self.downsample is None else self.downsample_sn(self.downsample(x))
        return shortcut + branch


class SEWResNet(nn.Module):
    """Images (N, C, Y, X) in 0..1 to logits (N, classes): stem, stages of basic blocks, pool, linear, mean over T."""

    def __init__(self, settings: ModelSettings, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.settings = settings
        self.normalise = Normalise(mean, std)
        y, x = (halved(size, settings.stem_stride) for size in settings.image_size)
        width = settings.widths[0]
        self.conv1 = Conv2d(settings.in_channels, width, 3, settings.stem_stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.encode = Encode(settings.steps)
        self.node1 = self._neuron((width, y, x))
        stages = []
        for i, (wide, count) in enumerate(zip(settings.widths, settings.blocks)):
            stride = 1 if i == 0 else 2
            y, x = halved(y, stride), halved(x, stride)
            first = BasicBlock(width, (wide, y, x), stride, self._neuron)
            rest = [BasicBlock(wide, (wide, y, x), 1, self._neuron) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            self.add_module(f"layer{i + 1}", stages[-1])
            width = wide
        self.stages = tuple(f"layer{i + 1}" for i in range(len(stages)))
        self.pool, self.flatten = GlobalAveragePool(), Flatten()
        self.fc1 = Linear(width, settings.classes)
        self.mean_over_time = MeanOverTime()
        self._initialise()

    def _neuron(self, shape: Shape) -> Neuron:
        return NEURONS[self.settings.neuron](self.settings, shape)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.node1(self.encode(self.bn1(self.conv1(self.normalise(images)))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.mean_over_time(self.fc1(self.flatten(self.pool(x))))
