"""RPF, random projection filters (Dong and Xu, Adversarial Robustness via Random Projection Filters, CVPR 2023).

Layer, deviations, share and place are those of the authors' code (UniSerj/Random-Projection-Filters, commit 1c9f2c5).
It decays the trained filters of this layer by 1e-2 in training; here they have the weight decay of all others.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.train.layers import Conv2d, over_steps

RANDOM = 0.75
"""Share of the filters that are random: 48 of 64 in the paper's ResNet18."""
SMALLEST = 1e-5


class RandomFilters(nn.Module):
    """A convolution of trained filters and of random ones, drawn anew at every forward pass from N(0, 1/taps).

    taps is the number of pixels of a filter, 9 for 3x3. Trained filters are scaled to the same deviation, each by its
    own: w / (std(w) + 1e-5) / sqrt(taps). The trained ones come first; random ones are never stored.
    """

    stochastic = True

    def __init__(self, convolution: Conv2d, share: float = RANDOM) -> None:
        super().__init__()
        self.stride, self.padding = convolution.stride, convolution.padding
        filters = len(convolution.weight)
        self.drawn = min(round(share * filters), filters - 1)
        self.deviation = 1 / sqrt(convolution.weight[0, 0].numel())
        self.weight = nn.Parameter(convolution.weight.detach()[self.drawn :].clone())

    def filters(self) -> Tensor:
        """All filters of one forward pass, (C, inputs, rows, columns)."""
        spread = self.weight.flatten(1).std(1).view(-1, 1, 1, 1) + SMALLEST
        random = torch.randn_like(self.weight[:1].expand(self.drawn, -1, -1, -1)) * self.deviation
        return torch.cat([self.weight / spread * self.deviation, random])

    def forward(self, x: Tensor) -> Tensor:
        weight = self.filters()
        return over_steps(lambda images: F.conv2d(images, weight, None, self.stride, self.padding), x, 4)
