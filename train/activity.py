"""Activity regularisation: how often neurons spike, counted in a forward pass, and a penalty on it.

    r[l] = mean of the spikes of neuron layer l over its neurons, the time steps and the images
    penalty = weight * mean over l of max(0, r[l] - target)

Every layer counts alike, whatever its size: in a ResNet, whose layers have about as many weights times pixels each,
that weighs a spike by the additions that it causes. The penalty is a difference and not its square, so that its pull
does not fade as a rate nears the target. Spikes pass the gradient on by their surrogate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from randhet.train.neurons import neurons
from randhet.train.world import SumOverAll, world


class Spikes:
    """Spikes of every layer by name, and of how many neurons, time steps and images, over all passes counted."""

    def __init__(self) -> None:
        self.counts: dict[str, Tensor] = {}
        self.places: dict[str, int] = {}

    def add(self, layer: str, spikes: Tensor) -> None:
        """Count the spikes (T, N, ...) of one pass."""
        wide = torch.promote_types(spikes.dtype, torch.float32)
        count = spikes.sum(
            dtype=wide
        ).double()  # one pass stays exact in float32 up to 2**24 spikes, a data set may not
        self.counts[layer] = self.counts[layer] + count if layer in self.counts else count
        self.places[layer] = self.places.get(layer, 0) + spikes.numel()

    def rates(self) -> Tensor:
        """Mean of the spikes of each layer, (L,) float64 in 0..1 where spikes are 0 or 1, over all processes."""
        counts = torch.stack(list(self.counts.values()))
        places = torch.tensor(list(self.places.values()), dtype=counts.dtype, device=counts.device)
        if world().size > 1:
            counts, places = SumOverAll.apply(torch.cat([counts, places])).chunk(2)
        return counts / places

    def by_layer(self) -> dict[str, float]:
        """Return the rates as numbers."""
        return dict(zip(self.counts, self.rates().tolist()))

    def rate(self) -> float:
        """Return the spikes of all layers over all neurons, time steps and images: large layers count for more."""
        return float(sum(self.counts.values())) / sum(self.places.values())


def penalty(rates: Tensor, weight: float, target: float) -> Tensor:
    """weight * mean over layers of max(0, r - target), a number, for rates r (L,)."""
    return weight * (rates - target).clamp(min=0).mean()


@contextmanager
def counted(model: nn.Module, training: bool) -> Iterator[Spikes]:
    """Count the spikes of a model's neurons within the block, in the passes that they run in this mode.

    While training, adversarial examples are made in evaluation mode, so that their passes do not count.
    """
    spikes = Spikes()
    with ExitStack() as stack:
        for name, module in neurons(model).items():
            handle = module.register_forward_hook(_counter(spikes, name, training))
            stack.callback(handle.remove)
        yield spikes


def _counter(spikes: Spikes, layer: str, training: bool) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that counts what a neuron gives out."""

    def count(module: nn.Module, given: Any, out: Tensor) -> None:
        if module.training == training:
            spikes.add(layer, out)

    return count
