"""What is timed: SEW-ResNets with random weights whose every neuron layer fires at a chosen rate.

The rate is set by the shifts of the batch norms. During one pass with batch statistics each layer's shift is bisected
until its neurons, as they are and over all T steps, fire at the rate; then the next layer sees those spikes. A residual
sum of n branches is then n times as active as one layer, as in a trained network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.benchmarks.ann import network as ann
from randhet.export.passes import fold
from randhet.export.passes.quantise import OutOfRange, Plan, QuantSettings, quantise
from randhet.export.trace import trace
from randhet.fixed_point import engine
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result
from randhet.netx.write import write
from randhet.train import checkpoint as checkpoints
from randhet.train.checkpoint import Checkpoint
from randhet.train.models import NAMED, ModelSettings, NeuronKind, SEWResNet
from randhet.train.neurons import Neuron

SIZES: dict[str, ModelSettings] = {
    "full": NAMED["sew-resnet19"],
    "small": NAMED["sew-small"],
    "tiny": ModelSettings(3, 10, (8, 8), (8, 16), (1, 1), steps=3),
}
TAUS: dict[str, NeuronKind] = {"random": "randhet", "constant": "vanilla"}
MEAN, STD = (0.5,) * 3, (0.25,) * 3
REACH, HALVINGS = 4.0, 10
"""Shifts are looked for within this many standard deviations of the currents, halving this often."""


@dataclass(frozen=True)
class Activity:
    """Share of neurons that fire per step: the stem's, the mean over layers, and the integer network's saturations."""

    stem: float
    mean: float
    saturations: int


def patches(count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, 3, y, x) uint8 cut from the two photographs that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    y, x = size
    cut = []
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = i * 97 % (photo.shape[0] - y + 1), i * 181 % (photo.shape[1] - x + 1)
        cut.append(photo[top : top + y, left : left + x].transpose(2, 0, 1))
    return np.ascontiguousarray(cut, dtype=np.uint8)


def at_rate(settings: ModelSettings, rate: float, images: np.ndarray, seed: int = 0) -> Checkpoint:
    """Random weights, batch norms set so that on these images (N, C, Y, X) uint8 every neuron layer fires at `rate`."""
    if not 0 < rate < 1:
        raise RandhetError(f"spike rate is {rate}, it must lie between 0 and 1")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = SEWResNet(settings, MEAN, STD).train()
        _settle(model, rate)(torch.from_numpy(images).float() / 255)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Checkpoint(settings, state, MEAN, STD, record={"random_init": seed, "spike_rate": rate})


def _settle(model: SEWResNet, rate: float) -> SEWResNet:
    """The model with hooks that set each batch norm for the neurons behind it as a pass reaches them."""
    last: list[nn.BatchNorm2d] = []

    def remember(norm: nn.Module, *_: Any) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        last[:] = [norm]

    def shift(neuron: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
        correction = _bisect(lambda by: float(neuron.forward(arguments[0] + by).mean()), rate)
        last[0].bias.add_(correction)
        return (arguments[0] + correction,)

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.register_forward_hook(remember)
        elif isinstance(module, Neuron):
            module.register_forward_pre_hook(shift)
    return model


def _bisect(rate_of: Callable[[float], float], rate: float) -> float:
    low, high = -REACH, REACH
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rate_of(middle) < rate else (low, middle)
    return (low + high) / 2


def integer(checkpoint: Checkpoint, images: np.ndarray) -> tuple[Network, Activity]:
    """The 8-bit network with the most fractional bits that no state of these images saturates, and its activity."""
    graph = fold(trace(checkpoints.build(checkpoint), images.shape[1:]))
    for f in range(QuantSettings().f, -1, -1):
        try:
            network = quantise(graph, Plan(QuantSettings(f=f)), checkpoint.settings.steps)
        except OutOfRange:
            continue
        result = engine.run(network, images, seed=0, batch=len(images))
        if not result.saturations:
            return network, activity(network, result, len(images))
    raise RandhetError("the benchmark's network does not fit 24 bits")


def activity(network: Network, result: Result, images: int) -> Activity:
    """Rates from the spikes of a run."""
    size = {layer.name: int(np.prod(shape)) for layer, shape in zip(network.layers, network.shapes)}
    rates = [count / (size[name] * network.steps * images) for name, count in result.spikes.items()]
    return Activity(rates[0], float(np.mean(rates)), result.saturations)


@dataclass(frozen=True)
class Case:
    """One setting: a named size or changed parts of it, spike rate, images at a time, threads."""

    size: str = "full"
    rate: float = 0.1
    batch: int = 8
    threads: int = 2
    steps: int | None = None
    narrower: int = 1

    @property
    def settings(self) -> ModelSettings:
        """The network's settings."""
        if self.size not in SIZES:
            raise RandhetError(f"size {self.size!r} is not one of {', '.join(SIZES)}")
        base = SIZES[self.size]
        return replace(
            base, steps=self.steps or base.steps, widths=tuple(max(1, width // self.narrower) for width in base.widths)
        )


def prepare(
    case: Case, directory: Path, taus: tuple[str, ...] = tuple(TAUS), as_ann: bool = False
) -> dict[str, Activity]:
    """Write pixels.npy and, for each kind of tau, KIND.pt and KIND.net; the activity of each.

    as_ann: write ann.npz too, what the network with random ones needs to be an 8-bit ReLU network.
    """
    images = patches(case.batch, case.settings.image_size)
    np.save(directory / "pixels.npy", images)
    activities = {}
    for kind in taus:
        checkpoint = at_rate(replace(case.settings, neuron=TAUS[kind]), case.rate, images)
        network, activities[kind] = integer(checkpoint, images)
        checkpoints.save(directory / f"{kind}.pt", checkpoint)
        write(directory / f"{kind}.net", network)
        if as_ann and kind == "random":
            ann.save(directory / "ann.npz", ann.calibrated(network, images))
    return activities
