"""snnTorch: the whole network once per step; random taus by giving `Leaky` a new beta before each step."""

from __future__ import annotations

import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn

from randhet.benchmarks.peers.network import Kit, PeerNetwork, loaded
from randhet.train.checkpoint import Checkpoint


class Leaky(snntorch.Leaky):
    """U <- beta*U + (1 - beta)*I; the library does not scale the current, so it is done here."""

    def __init__(self, sigma: float | None, threshold: float) -> None:
        super().__init__(beta=0.5, threshold=threshold, init_hidden=True, reset_mechanism="zero")
        self.sigma = sigma

    def forward(self, current: Tensor) -> Tensor:
        if self.sigma is not None:
            self.beta = torch.sigmoid(self.sigma * torch.randn_like(current))
        spikes: Tensor = super().forward((1 - self.beta) * current)
        return spikes


class LeakyNetwork(PeerNetwork):
    """Images (N, C, Y, X) in 0..1 to logits (N, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        utils.reset(self)
        current = self.stem(images)
        return torch.stack([self.body(current) for _ in range(self.steps)]).mean(0)


def make(checkpoint: Checkpoint, random: bool) -> nn.Module:
    """The network of a checkpoint."""
    s = checkpoint.settings
    kit = Kit(nn.Conv2d, nn.BatchNorm2d, lambda: Leaky(s.sigma if random else None, s.threshold))
    model: nn.Module = loaded(LeakyNetwork(s, checkpoint.mean, checkpoint.std, kit), checkpoint)
    return model
