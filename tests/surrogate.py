"""The spike of the paper as autograd makes it: what compiled and fused neurons are tested against."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor


def arctan_step(v: Tensor) -> Tensor:
    """1 where v > 0 else 0; backward as if it were arctan(pi*v)/pi + 1/2, alpha = 2."""
    smooth = torch.atan(pi * v) / pi
    return (v > 0).to(v.dtype) + (smooth - smooth.detach())
