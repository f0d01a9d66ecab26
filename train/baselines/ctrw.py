"""CTRW, the constrained trainable random weight.

Ma, Dong and Xu, Adversarial Robustness through Random Weight Sampling, NeurIPS 2023.

From the paper: W = mu + delta*sigma with delta ~ N(0, 1), both trained by reparametrisation, and A <= sum(sigma) <= B,
restored by a shift by the mean of what is missing. From the public code: where W is (the normalised image is multiplied
by it before the first convolution), mu and sigma start at 1, one delta serves a batch, and sum(sigma) >= 2048 of 3072
values, which is a mean of 2/3. Not verified: A and B, which the paper derives from the network, and here are given. The
code enforces A alone, and raises only the values below the mean of A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from randhet.train.layers import Conv2d


class RandomWeight(nn.Module):
    """A convolution of x * W with W = mu + delta*sigma, delta ~ N(0, 1), value by value.

    mu and sigma have the shape (C, Y, X) of the images x (N, C, Y, X), and are trained; mu starts at 1. The mean of
    |sigma| is kept within `bounds`: outside, all |sigma| are shifted by what is missing. delta is drawn once per
    forward pass.
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
        filtered: Tensor = self.convolution(x * weight)
        return filtered
