"""Plain torch: time and images as one batch, a loop over steps in each neuron."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from randhet.benchmarks.peers.network import Kit, PeerNetwork, loaded
from randhet.train.checkpoint import Checkpoint


class Neuron(nn.Module):
    """m <- x + tau*(m - x), spike and reset where m > theta; sigma None: tau = 1/2, else sigmoid(sigma*n) anew.

    at_once: n of all steps in one call. Slower in eager torch, but numbers drawn step by step end the compiler of torch
    2.3 with a failed assertion of its own.
    """

    def __init__(self, steps: int, threshold: float, sigma: float | None, at_once: bool = False) -> None:
        super().__init__()
        self.steps, self.threshold, self.sigma, self.at_once = steps, threshold, sigma, at_once

    def draws(self, currents: Tensor) -> Iterable[Tensor | float]:
        """The taus of each step."""
        if self.sigma is None:
            return [0.5] * self.steps
        if self.at_once:
            return torch.sigmoid(self.sigma * torch.randn_like(currents))
        return (torch.sigmoid(self.sigma * torch.randn_like(current)) for current in currents)

    def forward(self, x: Tensor) -> Tensor:
        currents = x.view(self.steps, -1, *x.shape[1:])
        m = torch.zeros_like(currents[0])
        spikes = []
        for current, tau in zip(currents, self.draws(currents)):
            m = torch.lerp(current, m, tau)
            fired = m > self.threshold
            m = m.masked_fill(fired, 0.0)
            spikes.append(fired.to(x.dtype))
        return torch.cat(spikes)


class PlainNetwork(PeerNetwork):
    """Images (N, C, Y, X) in 0..1 to logits (N, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        current = self.stem(images)
        return self.body(current.repeat(self.steps, 1, 1, 1)).view(self.steps, len(images), -1).mean(0)


def make(checkpoint: Checkpoint, random: bool, at_once: bool = False) -> nn.Module:
    """The network of a checkpoint."""
    s = checkpoint.settings
    sigma = s.sigma if random else None
    kit = Kit(nn.Conv2d, nn.BatchNorm2d, lambda: Neuron(s.steps, s.threshold, sigma, at_once))
    model: nn.Module = loaded(PlainNetwork(s, checkpoint.mean, checkpoint.std, kit), checkpoint)
    return model
