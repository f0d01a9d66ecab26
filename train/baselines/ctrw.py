"""CTRW, the constrained trainable random weight (Ma, Dong and Xu, NeurIPS 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.train.layers import Conv2d


class RandomWeight(nn.Module):
    """A convolution whose output is multiplied by W = mu + delta*sigma, delta ~ N(0, 1), value by value.

    mu and sigma (C, Y, X) are trained; mu starts at 1. The mean of |sigma| is kept within `bounds`, as the paper keeps
    the sum: outside, all |sigma| are shifted by what is missing. delta is drawn once per forward pass.
    """

    stochastic = True

    def __init__(
        self, convolution: Conv2d, shape: tuple[int, int, int], sigma: float, bounds: tuple[float, float]
    ) -> None:  # fmt: skip
        super().__init__()
        self.convolution, self.bounds = convolution, bounds
        self.mu, self.sigma = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.full(shape, sigma))

    @property
    def deviation(self) -> Tensor:
        """The constrained sigma, (C, Y, X)."""
        size = self.sigma.abs()
        mean = size.mean().detach()
        return size + (mean.clamp(*self.bounds) - mean)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.mu + torch.randn_like(self.mu) * self.deviation
        product: Tensor = self.convolution(x) * weight
        return product
