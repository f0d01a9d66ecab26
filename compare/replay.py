"""The float network driven by the integer generator's taus: randomness cancels, only arithmetic remains."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from fixed_point.generator import LayerGenerator
from fixed_point.network import Network, RandomTau
from fixed_point.result import Trace
from fixed_point.shape import shapes
from train.neurons import Sampler, recording, replaying


def samplers(network: Network, seed: int, first_image: int) -> dict[str, Sampler]:
    """For each random layer, by name, a sampler that gives the float neuron the integer network's tau = A / 2^k."""
    return {
        layer.name: _sampler(layer.neuron, network.steps, LayerGenerator(seed, i, prod(shape), layer.neuron.neurons_per_core), first_image)
        for i, (layer, shape) in enumerate(zip(network.layers, shapes(network)))
        if isinstance(layer.neuron, RandomTau)
    }


def _sampler(neuron: RandomTau, steps: int, generator: LayerGenerator, first: int) -> Sampler:
    tau = neuron.table.astype(np.float64) / 2**neuron.k

    def sample(shape: tuple[int, ...]) -> Tensor:
        images = shape[1] if neuron.sampling == "step" else shape[0]
        numbers = first + np.arange(images)
        if neuron.sampling == "step":
            numbers = numbers[None] * steps + np.arange(steps)[:, None]
        draws = np.stack([generator.round(int(number)) for number in numbers.ravel()])
        return torch.from_numpy(tau[draws].reshape(shape)).float()

    return sample


@torch.no_grad()
def replay(
    model: nn.Module, network: Network, pixels: np.ndarray, seed: int, first_image: int = 0
) -> tuple[np.ndarray, dict[str, Trace]]:
    """Predictions (N,) and float traces by layer: outputs and membranes (N, T, *shape) in units of the float model."""
    images = torch.from_numpy(pixels).float() / 255
    with replaying(model, samplers(network, seed, first_image)), recording(model) as log:
        predictions = model(images).argmax(1).numpy()
    traces = {
        name: Trace(spikes.transpose(0, 1).numpy().astype(np.int64), membranes.transpose(0, 1).numpy())
        for name, [(spikes, membranes)] in log.items()
    }
    return predictions, traces
