"""Spiking SEW-ResNets. Attribute names follow the RandHet paper's released script, so that its weights load by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.layers import (
    BatchNorm2d,
    Conv2d,
    Encode,
    Flatten,
    Frames,
    GlobalAveragePool,
    Linear,
    MeanOverTime,
    Normalise,
)
from randhet.train.neurons import LIF, RESETS, HetLIF, Neuron, RandomTauLIF, Reset

NeuronKind = Literal["randhet", "randhet-forward", "het", "vanilla"]
Shape = tuple[int, int, int]


CONNECT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda shortcut, branch: shortcut + branch,
    "and": lambda shortcut, branch: shortcut * branch,
    "iand": lambda shortcut, branch: shortcut * (1 - branch),
}
"""SEW connect functions of spikes (Fang et al., NeurIPS 2021): sum, both, shortcut without branch."""
SEGMENTS = ("first", "second", "third")
TRAINED = ("no", "layer", "global")
BASELINES = ("none", "relu", "ctrw", "rpf", "rna")
"""What a network can be in place of a spiking one: see `randhet.train.baselines`."""


@dataclass(frozen=True)
class ModelSettings:
    """A SEW-ResNet: one stage per entry of `widths`, each after the first halves the image. image_size is (y, x).

    random: the segment between down-samplings whose neurons are of the kind asked for, the others being vanilla; all.
    sigmas: one per neuron layer in order of computation, instead of sigma for all. train_sigma: no, a sigma per layer
    or one global, kept inside sigma_bounds, starting at sigma or sigmas. thresholds, alphas (of the surrogate): one per
    neuron layer likewise, instead of threshold, of 2; decays: of vanilla neurons, instead of 0.5. reset: a spike sets
    the membrane potential to zero, or subtracts the threshold from it. sequence: it takes recordings (N, T, C, Y, X).
    baseline: a ResNet without spikes of the same layers instead, which has no steps; what is random in it.
    """

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
    connect: Literal["add", "and", "iand"] = "add"
    random: Literal["all", "first", "second", "third"] = "all"
    sigmas: tuple[float, ...] = ()
    train_sigma: Literal["no", "layer", "global"] = "no"
    sigma_bounds: tuple[float, float] = (0.5, 1.5)
    thresholds: tuple[float, ...] = ()
    alphas: tuple[float, ...] = ()
    decays: tuple[float, ...] = ()
    reset: Reset = "zero"
    sequence: bool = False
    baseline: Literal["none", "relu", "ctrw", "rpf", "rna"] = "none"

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks) or len(self.widths) > 3:
            raise RandhetError(
                f"model has {len(self.widths)} stage widths and {len(self.blocks)} block counts, "
                "it needs as many of one as of the other, 1 to 3"
            )
        whole = (self.in_channels, self.classes, self.steps, self.stem_stride, *self.widths, *self.blocks)
        if min(*whole, *self.image_size) < 1:
            raise RandhetError("model settings must be positive whole numbers")
        one_of("neuron", self.neuron, NEURONS)
        one_of("reset", self.reset, RESETS)
        one_of("connect function", self.connect, CONNECT)
        one_of("random segment", self.random, ("all", *SEGMENTS[: len(self.widths)]))
        one_of("train_sigma", self.train_sigma, TRAINED)
        one_of("baseline", self.baseline, BASELINES)
        if self.baseline != "none" and self.sequence:
            raise RandhetError(f"baseline {self.baseline!r} has no time steps, it takes images and no recordings")
        self._check_sigmas()

    def _check_sigmas(self) -> None:
        for name in ("sigmas", "thresholds", "alphas", "decays"):
            if (given := len(getattr(self, name))) not in (0, self.layers):
                raise RandhetError(f"model has {given} {name} for {self.layers} neuron layers")
        if not all(0 <= decay < 1 for decay in self.decays):
            raise RandhetError(f"decays lie in {min(self.decays)}..{max(self.decays)}, the limits are 0 to below 1")
        if min(self.sigma, *self.sigmas, 0) < 0:
            raise RandhetError("sigma must not be negative")
        low, high = self.sigma_bounds
        if self.train_sigma != "no" and not all(0 < low < sigma < high for sigma in (self.sigma, *self.sigmas)):
            raise RandhetError(f"a trained sigma must start inside its bounds, which are {low} to {high}, above 0")

    @property
    def layers(self) -> int:
        """How many neuron layers there are: stem, two per block, one more where a stage begins with a smaller image."""
        return 2 * sum(self.blocks) + len(self.widths)


def one_of(what: str, value: str, names: Iterable[str]) -> None:
    """One sentence where a name is none of those there are."""
    names = tuple(names)
    if value not in names:
        raise RandhetError(f"{what} {value!r} is not one of {', '.join(names)}")


NeuronMaker = Callable[[ModelSettings, Shape, float, "nn.Parameter | None"], Neuron]


def random_tau(sampling: Literal["step", "forward"]) -> NeuronMaker:
    """A maker of random neurons, with trained sigma where the settings say so."""

    def make(s: ModelSettings, shape: Shape, sigma: float, shared: nn.Parameter | None) -> Neuron:
        bounds = None if s.train_sigma == "no" else s.sigma_bounds
        return RandomTauLIF(sigma, s.threshold, sampling, bounds=bounds, shared=shared)

    return make


NEURONS: dict[str, NeuronMaker] = {
    "randhet": random_tau("step"),
    "randhet-forward": random_tau("forward"),
    "het": lambda s, shape, sigma, shared: HetLIF(shape, sigma, s.threshold),
    "vanilla": lambda s, shape, sigma, shared: LIF(0.5, s.threshold),
}


class NeuronFactory:
    """Makes the neurons of a network in order: each layer with its sigma, outside the segment vanilla ones."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings, self.made, self.segment = settings, 0, 0
        self.shared = nn.Parameter(torch.zeros(())) if settings.train_sigma == "global" else None

    def __call__(self, shape: Shape) -> Neuron:
        s, index = self.settings, self.made
        self.made += 1
        inside = s.random in ("all", SEGMENTS[self.segment])
        sigma = s.sigmas[index] if s.sigmas else s.sigma
        neuron = NEURONS[s.neuron if inside else "vanilla"](s, shape, sigma, self.shared)
        neuron.threshold = s.thresholds[index] if s.thresholds else s.threshold
        neuron.alpha = s.alphas[index] if s.alphas else neuron.alpha
        neuron.reset = s.reset
        if s.decays and isinstance(neuron, LIF):
            neuron.decay = s.decays[index]
        return neuron


NAMED: dict[str, ModelSettings] = {
    "sew-resnet19": ModelSettings(),
    "sew-digits": ModelSettings(1, 10, (8, 8), (32, 64), (1, 1), steps=4),
    "sew-events": ModelSettings(2, 10, (20, 20), (16, 32), (1, 1), steps=18, stem_stride=2, sequence=True),
    "sew-cifar": ModelSettings(3, 10, (32, 32), (32, 64, 128), (1, 1, 1), steps=4, stem_stride=2),
    "sew-small": ModelSettings(3, 10, (32, 32), (16, 32, 64), (1, 1, 1), steps=4),
}


def halved(size: int, stride: int) -> int:
    """Length after a 3x3 convolution with padding 1, or a 1x1 one without."""
    return (size - 1) // stride + 1


class BasicBlock(nn.Module):
    """conv3x3-BN-neuron-conv3x3-BN-neuron; output = connect(shortcut, branch), small non-negative integers."""

    def __init__(
        self, width_in: int, shape: Shape, stride: int, neuron: Callable[[Shape], Neuron], connect: str = "add"
    ) -> None:
        super().__init__()
        self.connect = connect
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
        return CONNECT[self.connect](shortcut, branch)


class SEWResNet(nn.Module):
    """Images (N, C, Y, X) in 0..1 to logits (N, classes): stem, stages of basic blocks, pool, linear, mean over T.

    With settings.sequence it takes recordings (N, T, C, Y, X), a frame for each step.
    """

    def __init__(self, settings: ModelSettings, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.settings = settings
        self.normalise = Normalise(mean, std)
        y, x = (halved(size, settings.stem_stride) for size in settings.image_size)
        width = settings.widths[0]
        self.conv1 = Conv2d(settings.in_channels, width, 3, settings.stem_stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.encode = Frames(settings.steps) if settings.sequence else Encode(settings.steps)
        neuron = NeuronFactory(settings)
        self.node1 = neuron((width, y, x))
        stages = []
        for i, (wide, count) in enumerate(zip(settings.widths, settings.blocks)):
            stride = 1 if i == 0 else 2
            y, x = halved(y, stride), halved(x, stride)
            neuron.segment = i
            first = BasicBlock(width, (wide, y, x), stride, neuron, settings.connect)
            rest = [BasicBlock(wide, (wide, y, x), 1, neuron, settings.connect) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            self.add_module(f"layer{i + 1}", stages[-1])
            width = wide
        self.stages = tuple(f"layer{i + 1}" for i in range(len(stages)))
        self.pool, self.flatten = GlobalAveragePool(), Flatten()
        self.fc1 = Linear(width, settings.classes)
        self.mean_over_time = MeanOverTime()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, Conv2d) and not module.weight.is_meta:  # shapes alone need no random numbers
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        if self.settings.sequence:
            x = self.node1(self.bn1(self.conv1(self.normalise(self.encode(images)))))
        else:
            # the first layer of a still image runs once for all steps
            x = self.node1(self.encode(self.bn1(self.conv1(self.normalise(images)))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.mean_over_time(self.fc1(self.flatten(self.pool(x))))
