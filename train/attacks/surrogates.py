"""Surrogates that an attack chooses: a shape and its sharpness, fixed or adapted to each neuron (ASSG), and PDSG.

A shape g has integral 1; with sharpness alpha a spike has the slope d s / d m = alpha*g(alpha*u), u = m - theta.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import log, pi, sqrt, tan

import numpy as np
import torch
from numba import njit
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.train.attacks.spiking import Rule, Time
from randhet.train.threads import share

PART = 0.425
"""A of Wang et al. 2025 (arXiv:2512.22522): what a surrogate collects between u = 0 and u = M + r*D, below 1/2."""
LOWEST, HIGHEST = 0.3, 0.49
"""Between which A is searched."""
KEPT, SPREAD, FLOOR = 0.9, 1.5, 1e-4


@dataclass(frozen=True)
class Shape:
    """g: the derivative at sharpness 1. scale: A to the z with integral of g from 0 to z = A."""

    g: Callable[[Tensor], Tensor]
    scale: Callable[[float], float]


SHAPES = {
    "arctan": Shape(lambda z: 0.5 / (1 + (pi / 2 * z).square()), lambda part: 2 * tan(pi * part) / pi),
    "sigmoid": Shape(lambda z: z.sigmoid() * (-z).sigmoid(), lambda part: log((0.5 + part) / (0.5 - part))),
    "gaussian": Shape(
        lambda z: (-z.square() / 2).exp() / sqrt(2 * pi),
        lambda part: float(torch.special.ndtri(torch.tensor(0.5 + part, dtype=torch.float64))),
    ),
    "rectangle": Shape(lambda z: (z.abs() < 1).to(z) / 2, lambda part: 2 * part),
    "triangle": Shape(lambda z: (1 - z.abs()).clamp_min(0), lambda part: 1 - sqrt(1 - 2 * part)),
}
"""By name. The scale of arctan is Wang et al.'s; the others follow from the same integral."""


class Fixed(Rule):
    """One shape and one sharpness for all neurons: slope = alpha*g(alpha*u)."""

    def __init__(self, shape: str, alpha: float) -> None:
        super().__init__()
        self.shape, self.alpha = SHAPES[shape], alpha

    def slopes(self, key: Hashable, u: Tensor, timed: bool) -> Tensor:
        return self.alpha * self.shape.g(self.alpha * u)


class Adaptive(Rule):
    """ASSG, the adaptive sharpness surrogate gradient (Wang et al. 2025, arXiv:2512.22522).

    For each neuron, step and image, over the iterations of one attack:

        M <- 0.9*M + 0.1*|u|;  D <- 0.9*D + 0.1*||u| - M|;  alpha = a / (M + 1.5*D + 1e-4);  slope = alpha*g(alpha*u)

    where M starts at 1, D at 0, and a is the scale of the shape for the part A, in 0..1/2.
    """

    def __init__(self, shape: str = "arctan", part: float = PART) -> None:
        super().__init__()
        if not 0 < part < 0.5:
            raise RandhetError(f"A of the adaptive surrogate is {part}, it must lie between 0 and 0.5")
        self.shape, self.a, self.fused = SHAPES[shape], SHAPES[shape].scale(part), shape == "arctan"
        self.memory: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def forget(self) -> None:
        self.memory.clear()

    def slopes(self, key: Hashable, u: Tensor, timed: bool) -> Tensor:
        if key not in self.memory or self.memory[key][0].shape != u.shape:
            self.memory[key] = torch.ones_like(u), torch.zeros_like(u)
        size, spread = self.memory[key]
        if self.fused and u.dtype == torch.float32 and u.device.type == "cpu" and same_layout(u, size):
            return self._compiled(u, size, spread)
        if self.learns:
            size.lerp_(u.abs(), 1 - KEPT)
            spread.lerp_((u.abs() - size).abs_(), 1 - KEPT)
        alpha = self.a / (size + SPREAD * spread + FLOOR)
        return alpha * self.shape.g(alpha * u)

    def _compiled(self, u: Tensor, size: Tensor, spread: Tensor) -> Tensor:
        given, first, second = line(u), line(size), line(spread)

        def work(start: int, stop: int) -> None:
            adapt(given[start:stop], first[start:stop], second[start:stop], self.a, self.learns)

        share(len(given), len(given), work)
        return u


class Potential(Rule):
    """PDSG, the potential-dependent surrogate gradient (Lun et al., CVPR 2025, arXiv:2503.03272).

    slope = normal density at u with mean sigma/2 and deviation sigma, which is that of the membrane potentials of the
    steps so far over the batch, per channel where there are channels; 1 where they do not differ. It ties the slopes of
    an image to the other images of its batch, as the authors' code has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[Tensor]] = {}

    def begin(self, learns: bool = True) -> None:
        super().begin(learns)
        self.seen.clear()

    def slopes(self, key: Hashable, u: Tensor, timed: bool) -> Tensor:
        if timed:
            return torch.stack([self._step(key, step) for step in u])
        return self._step(key, u)

    def _step(self, key: Hashable, u: Tensor) -> Tensor:
        layer = key[0]  # type: ignore[index]
        seen = self.seen.setdefault(layer, [])
        seen.append(u)
        potentials = torch.stack(seen)
        axes = tuple(axis for axis in range(potentials.dim()) if axis != 2 or potentials.dim() < 4)
        sigma = potentials.std(axes, keepdim=True)[0]
        sigma = torch.where(sigma > 0, sigma, torch.ones_like(sigma))
        return (-((u / sigma - 0.5).square()) / 2).exp() / (sqrt(2 * pi) * sigma)


def same_layout(u: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie alike and without gaps in memory, so that they can be taken as rows."""
    return u.stride() == other.stride() and dense(u)


def dense(u: Tensor) -> bool:
    """Whether a tensor fills its memory, in any order of its axes."""
    order = sorted(range(u.dim()), key=lambda axis: (u.stride(axis), u.shape[axis]), reverse=True)
    return u.permute(order).is_contiguous()


def line(u: Tensor) -> np.ndarray:
    """A dense tensor as one row in the order of its memory."""
    row: np.ndarray = u.as_strided((u.numel(),), (1,)).numpy()
    return row


@njit(cache=True, nogil=True, error_model="numpy")
def adapt(u: np.ndarray, size: np.ndarray, spread: np.ndarray, a: float, learns: bool) -> None:
    """u <- `Adaptive.slopes` of the arctan, and M and D with it, in one pass over memory."""
    kept, given, one = np.float32(KEPT), np.float32(1 - KEPT), np.float32(1)
    wide, floor, half = np.float32(SPREAD), np.float32(FLOOR), np.float32(a / 2)
    sharp = np.float32(np.pi / 2 * a)
    for j in range(len(u)):
        far = abs(u[j])
        if learns:
            size[j] = kept * size[j] + given * far
            spread[j] = kept * spread[j] + given * abs(far - size[j])
        width = one / (size[j] + wide * spread[j] + floor)
        z = sharp * width * u[j]
        u[j] = half * width / (one + z * z)


class Rates(Rule):
    """BPTR, the backward pass through rates (Ding et al., NeurIPS 2022): slope 1 where a neuron spikes at any step.

    The gradient by a current is that by the spike of the same step; nothing is carried through time.
    """

    time: Time = "cut"

    def slopes(self, key: Hashable, u: Tensor, timed: bool) -> Tensor:
        return (u > 0).any(0, keepdim=True).expand_as(u).to(u)


class RatesAndTime(Rule):
    """HART, rate and time mixed (Hao et al., ICLR 2024): a triangle of half-width gamma, then the mean over the steps.

    slope = max(gamma - |u|, 0) / gamma^2; every current gets the mean over t of slope times the gradient by s[t].
    """

    time: Time = "mean"

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma

    def slopes(self, key: Hashable, u: Tensor, timed: bool) -> Tensor:
        return (self.gamma - u.abs()).clamp_min(0) / self.gamma**2


class RateCurve(Rule):
    """RGA, the rate gradient approximation (Bu et al., CVPR 2023): the slope of a rate by the mean current of a neuron.

    With m <- leak*m + current in units of the threshold, a constant current below 1 - leak never makes a spike. The
    rate is taken to rise as two straight lines, through (0, 0), (1 - leak, gamma*(1 - leak)) and (2, 1):

        slope = gamma for current in 0..1 - leak, (1 - gamma*(1 - leak)) / (1 + leak) above and up to 2, else 0

    The gradient by a current is this slope times that by the spike of the same step. Where decays are drawn, leak is
    their mean over the steps, and each current counts with the decay of its own step.
    """

    time: Time = "rate"

    def __init__(self, gamma: float = 0.2) -> None:
        super().__init__()
        self.gamma = gamma

    def rates(self, current: Tensor, leak: Tensor) -> Tensor:
        steep = (1 - self.gamma * (1 - leak)) / (1 + leak)
        slope = torch.where(current > 1 - leak, steep, torch.full_like(leak, self.gamma))
        return torch.where((current >= 0) & (current <= 2), slope, torch.zeros_like(slope))
