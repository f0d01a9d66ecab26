"""RNA (Dong et al., Random Normalization Aggregation for Adversarial Defense, NeurIPS 2022).

Both normalisations, their equal probabilities and the draw of every layer for itself are those of the authors' code
(UniSerj/Random-Norm-Aggregation, commit e4a6aa5, with the options of its README).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.train.layers import BatchNorm2d, over_steps


class RandomNorm(nn.Module):
    """Batch norm or group norm with one channel a group, each with its own gain and shift, drawn at every forward pass.

    Every layer of a network draws for itself, so that a network of L layers is one of 2^L. A normalisation learns, and
    batch norm counts its statistics, only where it is drawn.
    """

    stochastic = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batch, self.group = BatchNorm2d(channels), nn.GroupNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = over_steps(self.group, x, 4) if int(torch.randint(2, ())) else self.batch(x)
        return normed
