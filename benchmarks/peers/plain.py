"""Plain torch: time and images as one batch, a loop over steps in each neuron."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.peers.network import Kit, PeerNetwork, loaded
from train.checkpoint import Checkpoint


class Neuron(nn.Module):
    """m <- x + tau*(m - x), spike and reset where m > theta; sigma None: tau = 1/2, else sigmoid(sigma*n) anew."""

    def __init__(self, steps: int, threshold: float, sigma: float | None) -> None:
        super().__init__()
        self.steps, self.threshold, self.sigma = steps, threshold, sigma

    def forward(self, x: Tensor) -> Tensor:
        currents = x.view(self.steps, -1, *x.shape[1:])
        m = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            tau = 0.5 if self.sigma is None else torch.sigmoid(self.sigma * torch.randn_like(m))
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


def make(checkpoint: Checkpoint, random: bool) -> nn.Module:
    """The network of a checkpoint."""
    s = checkpoint.settings
    sigma = s.sigma if random else None
    kit = Kit(nn.Conv2d, nn.BatchNorm2d, lambda: Neuron(s.steps, s.threshold, sigma))
    model: nn.Module = loaded(PlainNetwork(s, checkpoint.mean, checkpoint.std, kit), checkpoint)
    return model
