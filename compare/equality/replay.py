"""The float network driven by the integer generator's taus: the chance cancels, only the arithmetic remains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.fixed_point.generator import LayerGenerator, splitmix64
from randhet.fixed_point.keyed import KeyedGenerator
from randhet.fixed_point.network import Drawn, Lif, Network
from randhet.fixed_point.reference import make_generator
from randhet.train.data.sources import Images
from randhet.train.evaluation import predict
from randhet.train.neurons import Sampler, neurons, recording, replaying

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FloatTrace:
    """One layer of the float model: spikes (images, T, *shape) and membranes before the reset, in the model's units."""

    output: NDArray[np.int64]
    membrane: Float


def samplers(network: Network, seed: int, first_image: int) -> dict[str, Sampler]:
    """Make, for each random layer by name, what gives the float neuron the integer network's tau = A / 2^k."""
    by_layer = {}
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes)):
        if layer.lif and layer.drawn:
            generator = make_generator(network.generator, seed, i, prod(shape), layer.drawn.neurons_per_core)
            by_layer[layer.name] = _sampler(layer.lif, layer.drawn, network.steps, generator, first_image)
    return by_layer


def _sampler(neuron: Lif, drawn: Drawn, steps: int, generator: LayerGenerator | KeyedGenerator, first: int) -> Sampler:
    tau = drawn.table.astype(np.float64) / 2**neuron.k

    def sample(shape: tuple[int, ...]) -> Tensor:
        rounds = 1 if drawn.sampling == "forward" else steps
        images = shape[0] if drawn.sampling == "forward" else shape[1]
        taus = tau[generator.rounds(first * rounds, images * rounds)]
        if drawn.sampling == "step":  # rounds run image by image, the float model goes step by step
            taus = taus.reshape(images, steps, -1).swapaxes(0, 1)
        return torch.from_numpy(taus.reshape(shape)).float()

    return sample


BATCH = 100
"""Images that the float model predicts together, with random numbers of their own."""


def float_predictions(model: nn.Module, images: Images, seed: int, first_image: int = 0) -> NDArray[np.int64]:
    """Predict (N,) with taus from torch's generator; the caller's random state is left as it was.

    Every `BATCH` images draw from a seed of their own, made of the master seed and the number of their first image, so
    that pieces which begin at multiples of `BATCH` predict what all images at once do.
    """
    if first_image % BATCH:
        raise RandhetError(f"first_image is {first_image}, it must be a multiple of {BATCH}")
    with torch.random.fork_rng(devices=[]):
        return np.concatenate([
            _predicted(model, images.pick(np.arange(start, min(start + BATCH, len(images)))), seed, first_image + start)
            for start in range(0, len(images), BATCH)
        ])  # fmt: skip


def _predicted(model: nn.Module, images: Images, seed: int, first: int) -> NDArray[np.int64]:
    torch.manual_seed(splitmix64(splitmix64(seed) ^ first))
    return predict(model, images, BATCH)


@torch.no_grad()
def replay(
    model: nn.Module,
    network: Network,
    pixels: np.ndarray,
    seed: int,
    first_image: int = 0,
    names: Collection[str] | None = None,
) -> tuple[NDArray[np.int64], dict[str, FloatTrace]]:
    """Return predictions (N,) and traces by layer of the float model with the taus of this master seed.

    names: layers to trace, None for all that spike.
    """
    taus = samplers(network, seed, first_image)
    if strange := set(taus) - set(neurons(model)):
        raise RandhetError(
            f"the network's layer {sorted(strange)[0]} is not in the checkpoint: they do not belong together"
        )
    model.eval()
    with replaying(model, taus), recording(model, names) as log:
        predictions = model(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
    wanted = log if names is None else [name for name in log if name in names]
    return predictions, {name: _trace(*log[name][0]) for name in wanted}


def _trace(spikes: Tensor, membranes: Tensor) -> FloatTrace:
    """Turn (T, N, ...) to (N, T, ...)."""
    return FloatTrace(spikes.transpose(0, 1).numpy().astype(np.int64), membranes.transpose(0, 1).numpy())
